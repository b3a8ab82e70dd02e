"""The position in the data: an endless stream of batches that continues exactly where a checkpoint left it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch

BatchT = TypeVar("BatchT", covariant=True)


class EpochLoader(Protocol[BatchT]):
    """What the stream needs of a loader (`compress.data.SpeechLoader` has it)."""

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches this rank gets in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0, place: dict[str, Any] | None = None) -> Iterator[BatchT]:
        """The batches of an epoch from the `start`-th on; `place` is what the batch before it says, if it says so."""
        ...

    def close(self) -> None:
        """Ends worker processes."""
        ...


@dataclass
class Position:
    """How many epochs, and how many batches of the current one, have been used.

    A batch counts as used from the moment it is handed out: save a checkpoint after the step on it.

    Attributes:
        epoch: full epochs behind us.
        batch: batches of this rank used in the current one.
        place: of a stream, where reading had to begin for the last of them; None of what can be read in any order.
    """

    epoch: int = 0
    batch: int = 0
    place: dict[str, Any] | None = None

    @contextmanager
    def reading(self, loader: EpochLoader[BatchT]) -> Iterator[Iterator[BatchT]]:
        """Gives the stream, and ends the loader's worker processes behind it.

        Those that are left to the garbage collector may miss the word to end, and are waited for, five seconds each.
        """
        batches = self.stream(loader)
        try:
            yield batches
        finally:
            batches.close()
            loader.close()

    def stream(self, loader: EpochLoader[BatchT]) -> Generator[BatchT, None, None]:
        """Yields batches for ever, epoch after epoch, from this position on, and moves along.

        Opening an epoch draws nothing from torch's global generator, so that a run resumed inside an epoch
        goes on with the same random numbers as one that was never interrupted.

        Raises:
            ValueError: if an epoch has no batch.
        """
        while True:
            state = torch.get_rng_state()
            batches = iter(loader.epoch(self.epoch, self.batch, self.place))
            batch = next(batches, None)
            torch.set_rng_state(state)
            if batch is None and self.batch == 0:
                raise ValueError(f"Epoch {self.epoch} has no batch: the data set holds nothing that can be used.")
            while batch is not None:
                self.batch, self.place = self.batch + 1, getattr(batch, "place", None)
                yield batch
                batch = next(batches, None)
            self.epoch, self.batch, self.place = self.epoch + 1, 0, None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.epoch, self.batch, self.place = int(state["epoch"]), int(state["batch"]), state.get("place")


def total_steps(loader: EpochLoader[Any], epochs: int, accumulate: int = 1) -> int:
    """Number of steps that see every batch of the first `epochs` epochs, which may differ in length.

    Args:
        loader: of the batches.
        epochs: how many.
        accumulate: batches of a step; the last step goes on with the next epoch.
    """
    return -(-sum(loader.batches_per_epoch(epoch) for epoch in range(epochs)) // accumulate)


def taken(batches: Iterator[BatchT], count: int) -> list[BatchT]:
    """The next so many batches."""
    return list(islice(batches, count))
