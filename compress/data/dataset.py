"""A data set as a list of utterances, each loaded when it is asked for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from compress.data.audio import AudioLimits, to_float
from compress.data.cache import AudioStore
from compress.data.checks import Problem
from compress.data.columns import as_group
from compress.data.settings import SpeechConfig
from compress.data.sources import Source, unique
from compress.data.streams import StreamSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """One utterance.

    Attributes:
        id: its file name or row.
        samples: float32 in [-1, 1), mono, `(samples,)`, at the model's rate.
        text: the transcript, or `None`.
        seconds: length in seconds.
    """

    id: str
    samples: NDArray[np.float32]
    text: str | None
    seconds: float


class SpeechDataset(Dataset[Utterance]):
    """The usable entries of a data set; `problems` holds the others.

    Attributes:
        name: the source, for messages.
        sampling_rate: of every utterance, in Hz.
        ids: file names or rows, unique.
        texts: transcripts, or `None`.
        seconds: lengths in seconds.
        problems: entries that cannot be used, with the reason.
        remarks: what was noticed of entries that can be used, and of files.
        origin: the files that were read, and whether they are the whole source.
        whole: whether the source has no splits and was read whole.
        split: the split that was read; None where the whole source was.
        streaming: whether utterances can only be read in turn, through a `SpeechLoader`.
    """

    streaming = False

    def __init__(
        self,
        source: Source | StreamSource,
        sampling_rate: int,
        store: AudioStore | None,
        entries: Sequence[int],
        texts: Sequence[str | None],
        problems: Sequence[Problem],
        split: str,
    ) -> None:
        self.name = source.name
        self.origin = source.origin
        self.whole = source.origin.whole
        self.split = None if self.whole else split
        self.sampling_rate = sampling_rate
        self.problems = list(problems)
        self.remarks: list[Problem] = []
        self._store = store
        self._entries = list(entries)
        self.texts = list(texts)
        names = unique(store.source.ids) if store else []
        self.ids = [names[entry] for entry in entries]
        self.seconds = [store.index.samples[entry] / sampling_rate for entry in entries] if store else []

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Utterance:
        if self._store is None:
            raise ValueError(f"{self.name}: a stream has no entry {index}; read it with a SpeechLoader")
        samples = to_float(self._store[self._entries[index]])
        return Utterance(self.ids[index], samples, self.texts[index], self.seconds[index])

    def columns(self) -> list[str]:
        """Names what the source says of its entries, in order; nothing of a stream."""
        return self._store.source.columns.names() if self._store else []

    def groups(self, column: str) -> list[str | None]:
        """Reads a column of the source, such as the speaker.

        Args:
            column: its name.

        Returns:
            The value of each utterance as text, in their order; None where there is none.

        Raises:
            ValueError: naming the columns that there are, if this one is not among them, or holds no texts or numbers.
        """
        if self._store is None:
            raise ValueError(f"{self.name}: the columns of a stream are not read; set data.streaming to false")
        if column not in (names := self.columns()):
            there = f"it has {', '.join(names)}" if names else "nothing but audio files is there"
            raise ValueError(f"{self.name}: no column {column!r}; {there}")
        values = self._store.source.columns.values(column)
        try:
            return [as_group(values[entry]) for entry in self._entries]
        except ValueError as error:
            raise ValueError(f"{self.name}: the column {column!r} cannot be used: {error}") from error

    def parts(self) -> list[SpeechDataset]:
        """Returns the data sets that are mixed; one alone is the only one of its own."""
        return [self]

    def by_source(self) -> list[dict[str, Any]]:
        """Says of every source of a mix what it holds and what an epoch takes of it; nothing of one alone."""
        return []

    def entries_of_epoch(self, seed: int, epoch: int) -> Sequence[int]:
        """Chooses what a training epoch is made of: every utterance once.

        Args:
            seed: of the run.
            epoch: number of the epoch.
        """
        return range(len(self))

    def places(self) -> dict[str, str]:
        """Names where the audio of each utterance is, and the utterance; nothing of a stream, or of audio in tables."""
        if self._store is None:
            return {}
        places = (self._store.source.place(entry) for entry in self._entries)
        return {place: name for place, name in zip(places, self.ids, strict=True) if place is not None}

    def sample(self, utterances: int, seed: int = 0) -> SpeechDataset:
        """Draws so many utterances at random, in their order; returns this very data set if it has no more.

        Args:
            utterances: how many.
            seed: decides which.

        Raises:
            TypeError: for a stream, which has no length.
        """
        if utterances >= len(self):
            return self
        chosen = sorted(np.random.default_rng(seed).choice(len(self), utterances, replace=False).tolist())
        smaller = copy.copy(self)
        for name in ("_entries", "texts", "ids", "seconds"):
            setattr(smaller, name, [getattr(self, name)[index] for index in chosen])
        return smaller


class SpeechStream(SpeechDataset):
    """A data set that is read in turn. It has no length; its entries are checked while they are read.

    Args:
        source: where rows come from.
        config: the data set.
        limits: the wanted rate, and what is usable.
        vocabulary: characters the tokenizer can spell; `None` allows any.
        labels: whether transcripts are needed.

    Attributes:
        logged: problems that a person has been told of.
    """

    streaming = True

    def __init__(
        self,
        source: StreamSource,
        config: SpeechConfig,
        limits: AudioLimits,
        vocabulary: Collection[str] | None,
        labels: bool,
    ) -> None:
        super().__init__(source, limits.sampling_rate, None, (), (), (), config.split)
        self.source = source
        self.config = config
        self.limits = limits
        self.vocabulary = vocabulary
        self.labels = labels
        self.logged: set[Problem] = set()

    def __len__(self) -> int:
        raise TypeError(f"{self.name}: a stream has no length; count steps instead of epochs, or set streaming: false")


def warn_of_shared(name: str, one: SpeechDataset, other_name: str, other: SpeechDataset) -> None:
    """Warns, naming the first, if two data sets hold the same pieces of audio.

    Args:
        name: what the one is called in the message.
        one: a data set.
        other_name: what the other is called.
        other: another data set.
    """
    places, others = one.places(), other.places()
    if shared := [place for place in places if place in others]:
        first = f"{places[shared[0]]} of the one is {others[shared[0]]} of the other"
        logger.warning("%s and %s hold %d pieces of the same audio: %s", name, other_name, len(shared), first)
