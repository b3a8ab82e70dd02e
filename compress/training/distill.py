"""Distillation: the losses that pull the smaller student towards its teacher, and the transcripts' beside them.

Layerwise between chosen blocks (DPHuBERT, Peng et al. 2023, arXiv 2305.17651: L1 and cosine; CoFi: MSE) and on the
output: the distribution over tokens (Hinton et al. 2015) or, of a model without CTC, the encoder's output, by the
same distance as between blocks. The residual width is never pruned, so no projection stands between the two. Only
frames that belong to speech count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from compress.config import check_at_least, check_positive
from compress.conformers import family_of, fixed_blocks, frame_outputs, structure_of
from compress.conformers.recording import BlockOutputs
from compress.running.aspects import ASPECTS, in_full
from compress.training.ctc import ctc_loss

Distance = Literal["l1_cosine", "mse"]


@dataclass(frozen=True)
class DistillConfig:
    """Weights and settings of the distillation losses; a weight of 0 switches a loss off.

    Attributes:
        blocks: how many evenly spaced blocks are matched, the last one always among them.
        distance: `l1_cosine` or `mse` (normalised by the teacher's power).
        layers: weight of the layerwise loss.
        output: weight of the KL divergence between the output distributions, or of the distance between the outputs of
            encoders without a CTC head.
        ctc: weight of CTC on the transcripts; 0 works without transcripts, and without a CTC head.
        temperature: of the output distributions in the KL divergence.
    """

    blocks: int = 4
    distance: Distance = "l1_cosine"
    layers: float = 1.0
    output: float = 1.0
    ctc: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        weights = {"layers": self.layers, "output": self.output, "ctc": self.ctc}
        for name, weight in weights.items():
            check_at_least(f"distill.{name}", weight, 0, "as the weight of a loss")
        if not any(weights.values()):
            raise ValueError("distill.layers, distill.output and distill.ctc are all 0: nothing would be learned.")
        check_at_least("distill.blocks", self.blocks, 1)
        check_positive("distill.temperature", self.temperature)


def matched_blocks(student: PreTrainedModel, teacher: PreTrainedModel, count: int) -> list[tuple[int, int]]:
    """Pairs `(student block, teacher block)` to be matched: evenly spaced teacher blocks, the last among them.

    Blocks before the last one that changes the frame rate are left out, whatever their number. Every student block has
    one teacher block at most: that in whose place it stands or, where blocks are gone, one as near as order allows (as
    in CoFi, v4), so that there are as many pairs as there can be. Where the student has fewer blocks there are fewer.

    Args:
        student: the model in training; its Structure may be gated, removed or have dropped blocks.
        teacher: the model the student was made from.
        count: how many blocks to match at most.
    """
    kept_by_teacher = structure_of(teacher).survivors
    kept_by_student = structure_of(student).survivors
    first = max(fixed_blocks(teacher), default=0)
    total = len(kept_by_teacher) - first
    chosen = sorted({first + round((i + 1) * total / min(count, total)) - 1 for i in range(min(count, total))})
    there = [(index, original) for index, original in enumerate(kept_by_student) if original >= kept_by_teacher[first]]
    places = nearest_in_order([kept_by_teacher[block] for block in chosen], [original for _, original in there])
    return [(there[place][0], chosen[number]) for number, place in places]


def nearest_in_order(wanted: Sequence[int], there: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs as many of two rising sequences as there can be, in order, each once, with the least sum of distances.

    Args:
        wanted: rising numbers.
        there: rising numbers.

    Returns:
        Indices into both, rising.
    """

    @cache
    def best(i: int, j: int) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        if not i or not j:
            return 0, 0, ()
        pairs, distance, before = best(i - 1, j - 1)
        together = (pairs - 1, distance + abs(wanted[i - 1] - there[j - 1]), (*before, (i - 1, j - 1)))
        return min(best(i - 1, j), best(i, j - 1), together)

    return list(best(len(wanted), len(there))[2])


def block_distance(student: Tensor, teacher: Tensor, mask: Tensor, distance: Distance) -> Tensor:
    """The mean distance of two block outputs over valid frames.

    Args:
        student: `(batch, frames, hidden)`.
        teacher: `(batch, frames, hidden)`.
        mask: `(batch, frames)`, true for frames that count.
        distance: `l1_cosine`: mean absolute difference plus one minus cosine similarity; `mse`: mean squared
            difference over the teacher's mean square.

    Returns:
        A float32 scalar.
    """
    mine, target = student[mask].float(), teacher[mask].float()
    if distance == "mse":
        return F.mse_loss(mine, target) / target.pow(2).mean().clamp_min(torch.finfo(torch.float32).eps)
    return F.l1_loss(mine, target) + (1 - F.cosine_similarity(mine, target, dim=-1)).mean()


class LayerDistance:
    """The layerwise loss between a student and its teacher: the mean distance of their matched blocks.

    Args:
        student: the model in training, without wrappers.
        teacher: the model it was made from.
        config: how many blocks are matched, and by which distance.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, config: DistillConfig) -> None:
        self.pairs = matched_blocks(student, teacher, config.blocks)
        self.distance = config.distance
        self._model = student
        self._student = BlockOutputs(student, [mine for mine, _ in self.pairs])
        self._teacher = BlockOutputs(teacher, [theirs for _, theirs in self.pairs])

    def take(self, mask: Tensor) -> Tensor:
        """The loss of the last forward passes of both, a float32 scalar; 0 where no block is left to match.

        Args:
            mask: `(batch, frames)`, true for frames that count.
        """
        mine, theirs = self._student.take(), self._teacher.take()
        distances = [self._distance(mine[s], theirs[t], mask) for s, t in self.pairs]
        return torch.stack(distances).mean() if distances else torch.zeros((), device=mask.device)

    def _distance(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Only frames on which the student's block ran count."""
        for aspect in ASPECTS:
            teacher, mask = aspect.as_seen(self._model, student, teacher, mask)
        return block_distance(student, teacher, mask, self.distance)

    def close(self) -> None:
        """Removes the hooks."""
        self._student.close()
        self._teacher.close()


class Distillation:
    """All losses of a student that has a teacher, those that are switched on.

    Args:
        student: the model in training, without wrappers.
        teacher: the model it was made from.
        config: which losses there are, and their weights.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, config: DistillConfig) -> None:
        self.teacher, self.config = teacher, config
        self.layers = LayerDistance(student, teacher, config) if config.layers else None

    @torch.no_grad()
    def target(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the teacher makes of a batch (see `frame_outputs`); it runs in full, whatever else it can."""
        with in_full(self.teacher):
            return frame_outputs(self.teacher, inputs)

    def losses(
        self, output: Tensor, target: Tensor, mask: Tensor, labels: Tensor | None, blocks: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the last forward pass of both models, outside of autocast.

        Args:
            output: of the student, `(batch, frames, vocabulary or hidden)`.
            target: of the teacher, of the same shape.
            mask: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100; None without CTC.
            blocks: the mask of blocks' outputs, see `block_mask`; None: that of the output.

        Returns:
            `layers`, `output` and `ctc`, with their weights. And `(batch,)` booleans: which utterances could not be
            aligned.
        """
        weights, losses = self.config, dict[str, Tensor]()
        unalignable = torch.zeros(len(mask), dtype=torch.bool)
        if self.layers:
            # Several processes wait for gradients of the head, too.
            losses["layers"] = (
                weights.layers * self.layers.take(mask if blocks is None else blocks) + 0.0 * output.sum()
            )
        if weights.output:
            losses["output"] = weights.output * output_distance(self.teacher, output, target, mask, weights)
        if weights.ctc and labels is not None:
            ctc, unalignable = ctc_loss(output, mask, labels, int(self.teacher.config.pad_token_id))
            losses["ctc"] = weights.ctc * ctc
        return losses, unalignable

    def close(self) -> None:
        """Removes the hooks."""
        if self.layers:
            self.layers.close()


def output_distance(
    model: PreTrainedModel, student: Tensor, teacher: Tensor, mask: Tensor, config: DistillConfig
) -> Tensor:
    """The distance of two outputs: of distributions over tokens where the model has a CTC head, else of encoders.

    Args:
        model: of the family in question.
        student: `(batch, frames, vocabulary or hidden)`, of `frame_outputs`.
        teacher: the same.
        mask: `(batch, frames)`, true for frames that count.
        config: temperature of the distributions; distance of encoders.
    """
    if family_of(model).has_ctc:
        return output_divergence(student, teacher, mask, config.temperature)
    return block_distance(student, teacher, mask, config.distance)


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
