"""What skipping saves: frames, and the MACs that are left, per utterance as the blocks really run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from compress.conformers import ctc_head, family_of, frame_lengths, skeleton
from compress.cost import dummy_input, size_of
from compress.running.skipper import skipper_of
from compress.running.skipping import Skipping

_MEASURED_SECONDS = (2.0, 5.0, 10.0)
_DEGREE = 2  # attention grows with the square of the number of frames, everything else with the number


@dataclass(frozen=True)
class Frames:
    """The frames of one utterance.

    Attributes:
        all: how many there are.
        deep: how many went through all blocks.
    """

    all: int
    deep: int


def frames_of_last_pass(model: PreTrainedModel) -> list[Frames]:
    """The frames of each utterance of the last forward pass of a model that can skip.

    Raises:
        ValueError: if nothing could be skipped in it.
    """
    skipper = skipper_of(model)
    seen = skipper and skipper.last
    if not seen or seen.valid is None or seen.deep is None:
        raise ValueError("Nothing could be skipped in the last forward pass: the model cannot, or its threshold is 1.")
    return [Frames(*counts) for counts in zip(seen.valid.sum(1).tolist(), seen.deep.sum(1).tolist(), strict=True)]


def skipped_share(frames: Iterable[Frames]) -> float:
    """The share of all frames that skipped."""
    utterances = list(frames)
    deep = sum(utterance.deep for utterance in utterances)
    return 1 - deep / max(1, sum(utterance.all for utterance in utterances))


class SkippingMacs:
    """Multiply-accumulate operations of utterances of which frames skip.

    The cost of a block at a number of frames lies on the parabola through three measured lengths. Where blocks see
    chunks of a fixed length, which a last chunk fills up, that is a mean. All of the CTC head is counted.

    Args:
        model: one that can skip, at its full size.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        bones = skeleton(model.config, original=False)
        sizes = [size_of(bones, seconds) for seconds in _MEASURED_SECONDS]
        frames = [_frames(bones, seconds) for seconds in _MEASURED_SECONDS]
        blocks = [[sum(block.values()) for block in size.block_macs] for size in sizes]
        self._blocks = [_parabola(frames, costs) for costs in zip(*blocks, strict=True)]
        outside = [size.macs - sum(costs) for size, costs in zip(sizes, blocks, strict=True)]
        self._outside = _parabola(frames, outside)
        weight = ctc_head(bones).weight
        assert isinstance(weight, torch.Tensor)
        self._head, self._tokens = weight.numel(), weight.shape[0]

    def full(self, frames: int) -> float:
        """The operations of an utterance in which nothing may skip."""
        return float(self._outside(frames) + sum(block(frames) for block in self._blocks))

    def of(self, utterance: Frames, settings: Skipping) -> float:
        """The operations of an utterance whose deep frames alone go through the last blocks."""
        head = self._head // self._tokens if settings.factorised else self._head
        blocks = sum(
            float(block(utterance.all if index < settings.first_blocks else max(1, utterance.deep)))
            for index, block in enumerate(self._blocks)
        )
        return float(self._outside(utterance.all)) + blocks + head * utterance.all

    def share(self, frames: Iterable[Frames], settings: Skipping) -> float:
        """The MACs of utterances as a share of what they are without skipping."""
        utterances = list(frames)
        left = sum(self.of(utterance, settings) for utterance in utterances)
        return left / sum(self.full(utterance.all) for utterance in utterances)


def _frames(model: PreTrainedModel, seconds: float) -> int:
    length = dummy_input(model, seconds).shape[1]
    assert family_of(model).has_ctc
    return int(frame_lengths(model, torch.ones(1, length, dtype=torch.long)))


def _parabola(frames: list[int], costs: Iterable[float]) -> np.poly1d:
    return np.poly1d(np.polyfit(frames, np.array(list(costs), dtype=float), _DEGREE))
