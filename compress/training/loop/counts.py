"""What losses are divided by, so that they do not depend on how utterances fall on processes and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import family_of, frame_lengths
from compress.data import Batch
from compress.training.loop import processes


@dataclass(frozen=True)
class Counts:
    """What sums over the utterances and frames of one batch are divided by; None: by the batch's own numbers.

    If every batch divided by its own number, an utterance would weigh the more, the fewer lie in its batch. In a step
    of several batches, on several processes or one after the other, all divide by the mean number. Gradients are then
    averaged over processes (by DDP) and batches (by accelerate), and what comes out is the gradient of one batch that
    holds them all.

    Attributes:
        utterances: for CTC.
        frames: of outputs, without padding.
        block_frames: of blocks' outputs, without padding; others than `frames` where an adapter follows the blocks.
    """

    utterances: Tensor | None = None
    frames: Tensor | None = None
    block_frames: Tensor | None = None

    @classmethod
    def of_step(cls, model: PreTrainedModel, batches: Sequence[Batch]) -> Counts:
        """The counts of a step, on the device of its batches. All ranks must call it.

        Args:
            model: that the batches are for.
            batches: of this rank.
        """
        counted = torch.stack([_counted(model, batch) for batch in batches]).mean(0)
        return cls(*processes.averaged(counted))


def _counted(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Utterances, frames and frames of blocks, `(3,)`, float32."""
    mask = batch.inputs.get("attention_mask")
    if mask is None:
        features = batch.inputs[family_of(model).features]
        mask = torch.ones(features.shape[:2], dtype=torch.long, device=features.device)
    frames, of_blocks = (frame_lengths(model, mask, of_blocks=which).sum() for which in (False, True))
    return torch.stack([torch.full_like(frames, len(mask)), frames, of_blocks]).float()
