"""Learning a teacher's distributions over tokens: at the output, behind inner blocks, and on which frames."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import ctc_head, head_logits
from compress.conformers.recording import BlockOutputs
from compress.running.aspects import ASPECTS
from compress.training.inter_ctc import mean_loss, tappable


def output_divergence(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of the output distributions per valid frame, times the squared temperature.

    Args:
        student: logits `(batch, frames, vocabulary)`.
        teacher: logits of the same shape.
        mask: `(batch, frames)`, true for frames that count.
        temperature: divides both logits; its square keeps the gradients' size (Hinton et al. 2015, section 2).

    Returns:
        A float32 scalar.
    """
    mine = F.log_softmax(student[mask].float() / temperature, dim=-1)
    target = F.log_softmax(teacher[mask].float() / temperature, dim=-1)
    return F.kl_div(mine, target, reduction="batchmean", log_target=True) * temperature**2


class InnerOutputs:
    """What inner blocks of a student say, by way of its CTC head (Inter-KD).

    Args:
        student: the model in training, without wrappers.
        count: how many evenly spaced blocks do; fewer where fewer can.

    Raises:
        ValueError: if none can.
    """

    def __init__(self, student: PreTrainedModel, count: int) -> None:
        ctc_head(student)
        possible = tappable(student)
        if not possible:
            raise ValueError(
                "The student has no inner block whose output leads to its CTC head: set distill.inner to 0."
            )
        steps = min(count, len(possible)) + 1
        self.blocks = [possible[round(number * (len(possible) + 1) / steps) - 1] for number in range(1, steps)]
        self._model, self._outputs = student, BlockOutputs(student, self.blocks)

    def divergence(self, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        """The mean divergence of their distributions in the last forward pass; arguments as of `output_divergence`."""
        return mean_loss(
            [self._of_block(output, teacher, mask, temperature) for output in self._outputs.take().values()]
        )

    def _of_block(self, output: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
        for aspect in ASPECTS:
            teacher, mask = aspect.as_seen(self._model, output, teacher, mask)
        return output_divergence(head_logits(self._model, output.to(self._model.dtype)), teacher, mask, temperature)

    def close(self) -> None:
        """Removes the hooks."""
        self._outputs.close()


def around_spikes(logits: Tensor, mask: Tensor, blank: int, neighbours: int) -> Tensor:
    """The frames that say something, and as many blank ones before them as behind them.

    Symmetric selection (Hilmes et al. 2025, arXiv 2506.01503): peaky distributions are all but blank, and most blank
    frames teach nothing; some of them have to be learned, so that there is anything between tokens.

    Args:
        logits: of the teacher, `(batch, frames, vocabulary)`.
        mask: `(batch, frames)`, true for frames that count.
        blank: id of the blank.
        neighbours: frames that are kept on either side of one whose likeliest token is no blank.

    Returns:
        `(batch, frames)`; `mask` itself where there is no other token in the whole batch.
    """
    spikes = (logits.argmax(-1) != blank) & mask
    if not spikes.any():
        return mask
    near = F.max_pool1d(spikes[:, None].float(), 2 * neighbours + 1, stride=1, padding=neighbours)[:, 0]
    return (near > 0) & mask
