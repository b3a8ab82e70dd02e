"""Learning a teacher's distributions over tokens: at the output, behind inner blocks, and on which frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import ctc_head, head_logits
from compress.conformers.recording import BlockOutputs
from compress.running.aspects import ASPECTS
from compress.training.inter_ctc import mean_loss, tappable


def output_divergence(
    student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0, frames: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the output distributions per valid frame, times the squared temperature.

    Args:
        student: logits `(batch, frames, vocabulary)`.
        teacher: logits of the same shape.
        mask: `(batch, frames)`, true or the weight of frames that count.
        temperature: divides both logits; its square keeps the gradients' size (Hinton et al. 2015, section 2).
        frames: what the sum over frames is divided by; None: the number of those that count. See `Counts`.

    Returns:
        A float32 scalar.
    """
    mine, target = (F.log_softmax(only(logits, mask) / temperature, dim=-1) for logits in (student, teacher))
    divergences = F.kl_div(mine, target, reduction="none", log_target=True).sum(-1)
    return per_frame(divergences, mask, frames) * temperature**2


def only(values: Tensor, mask: Tensor) -> Tensor:
    """The values of frames that count, in float32, and 0 for the others: no size waits for what a mask holds."""
    return torch.where((mask > 0)[..., None], values.float(), 0.0)


def per_frame(values: Tensor, mask: Tensor, frames: Tensor | None) -> Tensor:
    """The sum of one value for each frame that counts, by its weight, over their number or over another."""
    return torch.where(mask > 0, values * mask, 0.0).sum() / (mask.sum() if frames is None else frames)


def even(chosen: Tensor, mask: Tensor) -> Tensor:
    """Weights of chosen frames, by which an utterance weighs as much as if all of its frames were chosen.

    Args:
        chosen: `(batch, frames)`, bool.
        mask: `(batch, frames)`, true for frames that count.
    """
    return chosen * (mask.sum(-1) / chosen.sum(-1).clamp_min(1))[:, None]


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

    def divergence(self, teacher: Tensor, mask: Tensor, temperature: float, frames: Tensor | None = None) -> Tensor:
        """The mean divergence of their distributions in the last forward pass; arguments as of `output_divergence`."""
        frames = mask.sum() if frames is None else frames
        outputs = self._outputs.take().items()
        return mean_loss([self._of_block(*output, teacher, mask, temperature, frames) for output in outputs])

    def _of_block(
        self, block: int, output: Tensor, teacher: Tensor, mask: Tensor, temperature: float, frames: Tensor
    ) -> Tensor:
        """Frames on which the block did not run add nothing."""
        weighted, seen = torch.cat([teacher.float(), mask[..., None].float()], dim=-1), mask > 0
        for aspect in ASPECTS:
            weighted, seen = aspect.as_seen(self._model, block, weighted, seen)
        logits = head_logits(self._model, output.to(self._model.dtype))
        return output_divergence(logits, weighted[..., :-1], seen * weighted[..., -1], temperature, frames)

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
        `(batch, frames)`; none of an utterance without any other token.
    """
    spikes = (logits.argmax(-1) != blank) & mask
    near = F.max_pool1d(spikes[:, None].float(), 2 * neighbours + 1, stride=1, padding=neighbours)[:, 0]
    return (near > 0) & mask
