"""The gradients of one step, of however many batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from compress.data import Batch
from compress.training.loop import processes
from compress.training.loop.counts import Counts
from compress.training.loop.losses import Losses
from compress.training.loop.sharding import average_whole_parts, is_sharded


def accumulate(
    accelerator: Accelerator,
    wrapped: nn.Module,
    model: PreTrainedModel,
    batches: Sequence[Batch],
    loss_step: Callable[[Batch, Counts], Losses],
) -> Losses:
    """Adds up the gradients of a step: those of one batch that holds all of its batches on all processes.

    Args:
        accelerator: knows how many batches a step has.
        wrapped: what is trained, as `accelerator.prepare` gave it.
        model: the model in it.
        batches: of the step, of this rank.
        loss_step: gives the losses of a batch, sums divided by counts.

    Returns:
        The mean losses, without gradient.
    """
    if is_sharded(wrapped):
        processes.share_buffers(wrapped)
    counts, losses = Counts.of_step(model, batches), list[Losses]()
    for batch in batches:
        with accelerator.accumulate(wrapped):
            losses.append(loss_step(batch, counts))
            accelerator.backward(losses[-1].total)
    assert accelerator.sync_gradients, "the batches of a step are as many as the accelerator was told"
    if is_sharded(wrapped):
        average_whole_parts(wrapped)
    return Losses.averaged(losses)
