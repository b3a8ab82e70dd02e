"""Several data sets mixed: each fills its share of the seconds, and an epoch is the first of them once."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.batching import PASSES, random_numbers
from compress.data.dataset import SpeechDataset, Utterance, warn_of_shared
from compress.data.sources import Origin, unique

logger = logging.getLogger(__name__)

SOURCE_COLUMN = "source"
"""The column that says from which source an utterance is."""


MOST_PASSES = 1000
"""So many times an epoch may read a source: nobody means more, and the list of an epoch takes memory."""


class MixedSpeech(SpeechDataset):
    """Data sets side by side, in their order; in training each is drawn from by its weight.

    The first is read once in each epoch. Another one fills its share of the seconds beside it: it is read pass by pass,
    each in a new order, and the next epoch goes on where this one ends. So whether a source ends within an epoch or
    lasts for several, each of its utterances is heard equally often.

    Args:
        parts: the data sets, none of them a stream.
        names: what each is called.
        weights: shares of the seconds, in any unit.
    """

    def __init__(self, parts: Sequence[SpeechDataset], names: Sequence[str], weights: Sequence[float]) -> None:
        named = list(zip(names, parts, strict=True))
        self._parts, self._names, self._weights = list(parts), list(names), list(weights)
        self._store = None
        self.name = f"a mix of {', '.join(names)}"
        self.origin = Origin(frozenset(file for part in parts for file in part.origin.files))
        self.whole = all(part.whole for part in parts)
        self.split = next((part.split for part in parts if part.split is not None), None)
        self.sampling_rate = parts[0].sampling_rate
        self.problems = [replace(problem, source=name) for name, part in named for problem in part.problems]
        self.remarks = [replace(remark, source=name) for name, part in named for remark in part.remarks]
        self.texts = [text for part in parts for text in part.texts]
        self.seconds = [seconds for part in parts for seconds in part.seconds]
        self.ids = unique(name for part in parts for name in part.ids)
        self._entries = list(range(len(self.ids)))
        self._starts = list(accumulate(map(len, parts), initial=0))[:-1]

    def __getitem__(self, index: int) -> Utterance:
        number, place = self._place(self._entries[index])
        return replace(self._parts[number][place], id=self.ids[index])

    def parts(self) -> list[SpeechDataset]:
        """Returns the data sets."""
        return self._parts

    def columns(self) -> list[str]:
        """Names what the sources say of their entries, and which source an entry is from."""
        return list(dict.fromkeys([SOURCE_COLUMN, *(name for part in self._parts for name in part.columns())]))

    def groups(self, column: str) -> list[str | None]:
        """Reads a column of every source; None of those that do not have it.

        Args:
            column: its name; `source` is that of the source.

        Raises:
            ValueError: naming the columns that there are, if no source has it.
        """
        if column not in (names := self.columns()):
            raise ValueError(f"{self.name}: no column {column!r}; it has {', '.join(names)}")
        if column == SOURCE_COLUMN:
            return [self._names[self._place(entry)[0]] for entry in self._entries]
        values = [
            value
            for part in self._parts
            for value in (part.groups(column) if column in part.columns() else [None] * len(part))
        ]
        return [values[entry] for entry in self._entries]

    def entries_of_epoch(self, seed: int, epoch: int) -> Sequence[int]:
        """Chooses what an epoch is made of; an entry of a source that is repeated may stand there more than once.

        Args:
            seed: of the run.
            epoch: number of the epoch.
        """
        if len(self._entries) < self._starts[-1] + len(self._parts[-1]):
            return range(len(self))
        chosen = list(range(len(self._parts[0])))
        for number, part in enumerate(self._parts[1:], start=1):
            wanted = self._seconds_wanted(number)
            drawn = _drawn(np.asarray(part.seconds), epoch * wanted, (epoch + 1) * wanted, seed, number)
            chosen += [self._starts[number] + entry for entry in drawn]
        return chosen

    def by_source(self) -> list[dict[str, Any]]:
        """Says of every source what it holds and what an epoch takes of it."""
        total = sum(self._weights)
        return [
            {
                "source": name,
                "split": part.split,
                "utterances": len(part),
                "seconds": sum(part.seconds),
                "weight": weight,
                "share": weight / total,
                "passes_per_epoch": self._seconds_wanted(number) / sum(part.seconds),
                "problems": len(part.problems),
                "remarks": len(part.remarks),
            }
            for number, (name, part, weight) in enumerate(zip(self._names, self._parts, self._weights, strict=True))
        ]

    def _place(self, entry: int) -> tuple[int, int]:
        """The number of an entry's source, and its own number there."""
        number = bisect_right(self._starts, entry) - 1
        return number, entry - self._starts[number]

    def _seconds_wanted(self, number: int) -> float:
        return sum(self._parts[0].seconds) * self._weights[number] / self._weights[0]


def mixed(parts: Sequence[SpeechDataset], names: Sequence[str], weights: Sequence[float]) -> MixedSpeech:
    """Mixes data sets, and logs what that means for each; see `MixedSpeech`.

    Raises:
        ValueError: if an epoch would repeat a source more than `MOST_PASSES` times.
    """
    mix = MixedSpeech(parts, names, weights)
    for entry in mix.by_source():
        passes = entry["passes_per_epoch"]
        if passes > MOST_PASSES:
            raise ValueError(
                f"data.mix: an epoch, which is {names[0]} once, would read {entry['source']} {passes:,.0f} times; "
                f"put a larger source first, or give {entry['source']} less weight than {entry['weight']:g}"
            )
        logger.info(
            "%s: %.2f hours, %.1f %% of the seconds; an epoch reads it %.2f times",
            entry["source"], entry["seconds"] / 3600, 100 * entry["share"], entry["passes_per_epoch"],
        )  # fmt: skip
    for (name, part), (other_name, other) in combinations(zip(names, parts, strict=True), 2):
        warn_of_shared(name, part, other_name, other)
    return mix


def _drawn(seconds: NDArray[np.float64], begin: float, end: float, seed: int, number: int) -> list[int]:
    """The entries that begin between two times of a source that is read again and again, each pass in its own order."""
    total = float(seconds.sum())
    chosen: list[int] = []
    for reading in range(int(begin // total), int(end // total) + 1):
        order = random_numbers(seed, PASSES, number, reading).permutation(len(seconds))
        starts = reading * total + np.cumsum(seconds[order]) - seconds[order]
        chosen += order[(starts >= begin) & (starts < end)].tolist()
    return chosen
