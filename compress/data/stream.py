"""Batches from a data set that can only be read in turn: a buffer is filled, sorted by length and cut into batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from compress.data.audio import UnusableAudio, decode, to_float
from compress.data.batching import ORDER, BatchPlan, cut_batches, draw_speeds, random_numbers
from compress.data.checks import Problem, as_spelt, clean_transcript, report, transcript_problem
from compress.data.dataset import SpeechStream, Utterance
from compress.data.settings import BatchConfig
from compress.data.sources import Row
from compress.data.streams import RowBlock, StreamPlace

logger = logging.getLogger(__name__)

JUDGED_FROM_ENTRIES = 200
"""A stream is stopped for its fraction of bad entries from so many on, or at its end."""
REPORT_ENTRIES = 100
"""Entries after which a worker reports what it has found, if no batch is due before."""
BUFFERS_MIXED = 2
"""Rows are mixed over so many buffers."""

Build = Callable[[Sequence[Utterance], BatchPlan], Any]


@dataclass
class StreamReport:
    """What a stream's worker found since its last report.

    Attributes:
        problems: unusable entries.
        first: whether it is the epoch's first report.
        seen: entries read since the epoch began.
        bad: unusable ones among them.
        ended: whether the stream has ended.
    """

    problems: list[Problem] = field(default_factory=list)
    first: bool = True
    seen: int = 0
    bad: int = 0
    ended: bool = False

    def record(self, stream: SpeechStream) -> None:
        """Adds the problems to the data set's list, which holds those of the latest epoch, and logs the new ones.

        Raises:
            BadDataError: if more of the stream than `max_bad_fraction` is unusable.
            ValueError: if nothing of it is usable.
        """
        if self.first:
            stream.problems.clear()
        stream.problems += self.problems
        for problem in self.problems:
            if problem not in stream.logged:
                logger.warning("%s: skipped %s", stream.name, problem)
        stream.logged.update(self.problems)
        if self.ended and self.bad == self.seen:
            raise ValueError(f"{stream.name}: none of {self.seen} entries can be used")
        too_many = self.bad > stream.config.max_bad_fraction * self.seen
        if self.ended or (too_many and self.seen >= JUDGED_FROM_ENTRIES):
            report(stream.name, stream.problems, self.seen, stream.config.max_bad_fraction, self.bad)


@dataclass(frozen=True)
class Unheard:
    """An utterance whose length is known from before, and whose audio has not been decoded.

    Attributes:
        row: of the stream.
        seconds: its length.
    """

    row: Row
    seconds: float


@dataclass
class StreamBatches(IterableDataset[Any]):
    """The batches of one rank, mixed with `StreamReport`s, in the order in which they are to be used.

    All ranks decode the whole stream, so that they agree on its batches without speaking to each other.

    Args:
        stream: the data set.
        batching: the size of batches and of the buffer.
        build: makes a batch of utterances and a plan.
        speeds: speed factors to draw from.
        shuffle: whether to mix rows and batches.
        seed: of the run.
        epoch: number of the epoch.
        start: batches to skip.
        place: of the block of which the next batch is, and of its rows; None: at the beginning of the epoch.
        rank: this process's number.
        world_size: number of processes.
    """

    stream: SpeechStream
    batching: BatchConfig
    build: Build
    speeds: Sequence[float]
    shuffle: bool
    seed: int
    epoch: int
    start: int
    place: StreamPlace | None
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[Any]:
        place = self.place or StreamPlace()
        number, state = place.batches, StreamReport(seen=place.seen, bad=place.bad)
        rows = BUFFERS_MIXED * self._buffered
        read = self.stream.source.read
        for block in read(rows, self.world_size, shuffle=self.shuffle, seed=self.seed, epoch=self.epoch, place=place):
            number = yield from self._block(block, place, number, state)
            place = StreamPlace()
        yield self._flush(replace(state, ended=True))

    @property
    def _buffered(self) -> int:
        """How many utterances are cut into batches at a time: one for each process at least."""
        return max(self.batching.buffer_utterances, self.world_size)

    def _block(
        self, block: RowBlock, begun: StreamPlace, number: int, state: StreamReport
    ) -> Generator[Any, None, int]:
        """Yields this rank's share of a block's batches, counted from `number`, and returns the next number.

        Args:
            block: some rows.
            begun: how far they have been used before.
            number: of the next batch.
            state: what is found is added to it.
        """
        rows, known = block.rows[begun.used :], iter(begun.lengths)
        buffer: list[Utterance | Unheard] = []
        place = replace(block.place, batches=number, used=begun.used, seen=state.seen, bad=state.bad)
        lengths: list[float | None] = []
        for left, row in zip(range(len(rows))[::-1], rows, strict=True):
            usable = self._usable(row, state, next(known, None))
            lengths.append(usable[0].seconds if usable else None)
            buffer += usable
            full = len(buffer) >= self._buffered and (left >= self.world_size or not left)
            if full or state.seen % REPORT_ENTRIES == 0 or not left:
                yield self._flush(state)
            if buffer and (full or not left):
                number = yield from self._batches(buffer, number, asdict(replace(place, lengths=tuple(lengths))))
                used = place.used + len(lengths)
                place = replace(place, batches=number, used=used, seen=state.seen, bad=state.bad)
                buffer, lengths = [], []
        return number

    def _usable(self, row: Row, state: StreamReport, seconds: float | None) -> Sequence[Utterance | Unheard]:
        """The utterance of a row, not decoded if its length is known; none if it cannot be used."""
        state.seen += 1
        try:
            return [self._utterance(row) if seconds is None else Unheard(row, seconds)]
        except UnusableAudio as error:
            state.bad += 1
            state.problems.append(Problem(row.file, str(error)))
            return []

    def _utterance(self, row: Row) -> Utterance:
        transcript = as_spelt(clean_transcript(row.text, self.stream.config.case), self.stream.vocabulary)
        reason = transcript_problem(transcript, self.stream.vocabulary) if self.stream.labels else None
        if reason or row.payload is None:
            raise UnusableAudio(reason or "no audio")
        samples = to_float(decode(row.payload, self.stream.limits))
        return Utterance(row.id, samples, transcript, len(samples) / self.stream.sampling_rate)

    def _heard(self, item: Utterance | Unheard) -> Utterance:
        """The utterance itself, which is decoded now if it has not been before."""
        if isinstance(item, Utterance):
            return item
        try:
            return self._utterance(item.row)
        except UnusableAudio as error:
            changed = f"{self.stream.name}: {item.row.file} changed since the run began: {error}"
            raise ValueError(changed) from None

    def _batches(
        self, buffer: Sequence[Utterance | Unheard], number: int, place: dict[str, Any]
    ) -> Generator[Any, None, int]:
        """Yields this rank's share of a buffer's batches, counted from `number`, and returns the next number."""
        for step in self._steps(buffer, number):
            if number // self.world_size >= self.start:
                for plan, members in step[self.rank : self.rank + 1]:
                    yield replace(self.build([self._heard(member) for member in members], plan), place=place)
            number += self.world_size
        return number

    def _steps(
        self, buffer: Sequence[Utterance | Unheard], number: int
    ) -> Iterator[list[tuple[BatchPlan, list[Utterance | Unheard]]]]:
        if self.shuffle and len(buffer) < self.world_size:
            logger.warning(
                "%s: the last %d utterances are too few for %d processes",
                self.stream.name,
                len(buffer),
                self.world_size,
            )
            return
        random = random_numbers(self.seed, ORDER, self.epoch, number)
        speeds = draw_speeds(self.speeds, len(buffer), self.seed, self.epoch, number)
        lengths = np.array([item.seconds for item in buffer]) / speeds
        mixed_by = random if self.shuffle else None
        batches = cut_batches(lengths, self.batching, mixed_by, self.world_size, join=self.shuffle)
        firsts = np.arange(0, len(batches), self.world_size)
        for first in (random.permutation(firsts) if self.shuffle else firsts).tolist():
            step = batches[first : first + self.world_size]
            yield [self._planned(batch, number + place, buffer, speeds) for place, batch in enumerate(step)]
            number += self.world_size

    def _planned(
        self, batch: list[int], number: int, buffer: Sequence[Utterance | Unheard], speeds: NDArray[np.float64]
    ) -> tuple[BatchPlan, list[Utterance | Unheard]]:
        plan = BatchPlan(self.epoch, number, tuple(batch), tuple(float(speeds[index]) for index in batch))
        return plan, [buffer[index] for index in batch]

    @staticmethod
    def _flush(state: StreamReport) -> StreamReport:
        flushed = replace(state, problems=list(state.problems))
        state.problems.clear()
        state.first = False
        return flushed
