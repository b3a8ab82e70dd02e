"""Distillation: the losses that pull the smaller student towards its teacher, and the transcripts' beside them.

Layerwise between chosen blocks (DPHuBERT, Peng et al. 2023, arXiv 2305.17651: L1 and cosine; CoFi: MSE) and on the
output: the distribution over tokens (Hinton et al. 2015) or, of a model without CTC, the encoder's output, by the
same distance as between blocks. The residual width is never pruned, so no projection stands between the two. Only
frames that belong to speech count. Optionally inner blocks, too, learn the teacher's distributions (Inter-KD), and
blank frames count only beside spikes (symmetric selection).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from compress.config import check_at_least, check_positive
from compress.conformers import family_of, fixed_blocks, frame_outputs, structure_of
from compress.conformers.recording import BlockOutputs
from compress.running.aspects import ASPECTS, in_full
from compress.training.ctc import ctc_loss
from compress.training.loop.counts import Counts
from compress.training.loop.savings import hold_in_bf16
from compress.training.posteriors import InnerOutputs, around_spikes, even, only, output_divergence, per_frame

Distance = Literal["l1_cosine", "mse"]


@dataclass(frozen=True)
class DistillConfig:
    """Weights and settings of the distillation losses; a weight of 0 switches a loss off.

    Attributes:
        blocks: how many evenly spaced blocks are matched, the last one always among them; null: all, for which the
            teacher's outputs of all blocks are held at a time.
        distance: `l1_cosine` or `mse` (normalised by the teacher's power in each utterance).
        layers: weight of the layerwise loss.
        output: weight of the KL divergence between the output distributions, or of the distance between the outputs of
            encoders without a CTC head.
        ctc: weight of CTC on the transcripts; 0 works without transcripts, and without a CTC head.
        temperature: of the output distributions in the KL divergence.
        inner: weight of the mean KL divergence of what inner blocks of the student say, by way of its own CTC head,
            from the teacher's output distribution (Inter-KD, Yoon et al. 2022, arXiv 2211.15075).
        inner_blocks: how many evenly spaced inner blocks do so; one is that in the middle.
        blank_neighbours: so many frames on either side of those whose likeliest token, as the teacher says, is no blank
            count in KL divergences, beside these (symmetric selection, Hilmes et al. 2025, arXiv 2506.01503); null: all
            frames do. An utterance weighs by all of its frames, one without a token not at all.
    """

    blocks: int | None = 4
    distance: Distance = "l1_cosine"
    layers: float = 1.0
    output: float = 1.0
    ctc: float = 1.0
    temperature: float = 1.0
    inner: float = 0.0
    inner_blocks: int = 1
    blank_neighbours: int | None = None

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("layers", "output", "ctc", "inner")}
        for name, weight in weights.items():
            check_at_least(f"distill.{name}", weight, 0, "as the weight of a loss")
        if not any(weights.values()):
            raise ValueError("distill.layers, output, ctc and inner are all 0: nothing would be learned.")
        check_at_least("distill.blocks", self.blocks, 1)
        check_at_least("distill.inner_blocks", self.inner_blocks, 1)
        check_at_least("distill.blank_neighbours", self.blank_neighbours, 0, "frames")
        check_positive("distill.temperature", self.temperature)

    def require_head(self, model: PreTrainedModel | PreTrainedConfig, name: str) -> None:
        """Refuses losses on token distributions for a model that has none.

        Args:
            model: the teacher, or its config.
            name: what it is called in messages.

        Raises:
            ValueError: naming the settings.
        """
        wanted = [f"distill.{loss} to 0" for loss in ("ctc", "inner") if getattr(self, loss)]
        wanted += ["distill.blank_neighbours to null"] if self.blank_neighbours is not None else []
        if wanted and not family_of(model).has_ctc:
            raise ValueError(f"{name} has no CTC head: set {' and '.join(wanted)}.")


def matched_blocks(student: PreTrainedModel, teacher: PreTrainedModel, count: int | None) -> list[tuple[int, int]]:
    """Pairs `(student block, teacher block)` to be matched: evenly spaced teacher blocks, the last among them.

    Blocks before the last one that changes the frame rate are left out, whatever their number. Every student block has
    one teacher block at most: that in whose place it stands or, where blocks are gone, one as near as order allows (as
    in CoFi, v4), so that there are as many pairs as there can be. Where the student has fewer blocks there are fewer.

    Args:
        student: the model in training; its Structure may be gated, removed or have dropped blocks.
        teacher: the model the student was made from.
        count: how many blocks to match at most; None: all.
    """
    kept_by_teacher = structure_of(teacher).survivors
    kept_by_student = structure_of(student).survivors
    first = max(fixed_blocks(teacher), default=0)
    total = len(kept_by_teacher) - first
    wanted = total if count is None else min(count, total)
    chosen = sorted({first + round((i + 1) * total / wanted) - 1 for i in range(wanted)})
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


def block_distance(
    student: Tensor, teacher: Tensor, mask: Tensor, distance: Distance, frames: Tensor | None = None
) -> Tensor:
    """The mean distance of two block outputs over valid frames.

    Args:
        student: `(batch, frames, hidden)`.
        teacher: `(batch, frames, hidden)`.
        mask: `(batch, frames)`, true for frames that count.
        distance: `l1_cosine`: mean absolute difference plus one minus cosine similarity; `mse`: mean squared
            difference over the teacher's mean square in the same utterance.
        frames: what the sum over frames is divided by; None: the number of those that count. See `Counts`.

    Returns:
        A float32 scalar.
    """
    mine, target = only(student, mask), only(teacher, mask)
    if distance == "mse":
        power = target.pow(2).mean(-1).sum(-1) / mask.sum(-1).clamp_min(1)
        distances = (mine - target).pow(2).mean(-1) / power.clamp_min(torch.finfo(torch.float32).eps)[:, None]
    else:
        distances = (mine - target).abs().mean(-1) + 1 - F.cosine_similarity(mine, target, dim=-1)
    return per_frame(distances, mask, frames)


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

    def take(self, mask: Tensor, frames: Tensor | None = None) -> Tensor:
        """The loss of the last forward passes of both, a float32 scalar; 0 where no block is left to match.

        Args:
            mask: `(batch, frames)`, true for frames that count.
            frames: what sums over frames are divided by; None: the number of those that count.
        """
        mine, theirs = self._student.take(), self._teacher.take()
        frames = mask.sum() if frames is None else frames
        distances = [self._distance(s, mine[s], theirs[t], mask, frames) for s, t in self.pairs]
        return torch.stack(distances).mean() if distances else torch.zeros((), device=mask.device)

    def _distance(self, block: int, student: Tensor, teacher: Tensor, mask: Tensor, frames: Tensor) -> Tensor:
        """Frames on which the student's block did not run add nothing."""
        for aspect in ASPECTS:
            teacher, mask = aspect.as_seen(self._model, block, teacher, mask)
        return block_distance(student, teacher, mask, self.distance, frames)

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
        bf16: whether the teacher holds its matrices and kernels in bf16 from now on, and computes in it.
    """

    def __init__(
        self, student: PreTrainedModel, teacher: PreTrainedModel, config: DistillConfig, bf16: bool = False
    ) -> None:
        self.teacher, self.config, self.bf16 = teacher, config, bf16
        if bf16:
            hold_in_bf16(teacher)
        config.require_head(teacher, "The teacher")
        self.layers = LayerDistance(student, teacher, config) if config.layers else None
        self.inner = InnerOutputs(student, config.inner_blocks) if config.inner else None

    @torch.no_grad()
    def target(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the teacher makes of a batch (see `frame_outputs`); it runs in full, whatever else it can."""
        reduced = torch.autocast(self.teacher.device.type, torch.bfloat16) if self.bf16 else nullcontext()
        with in_full(self.teacher), reduced:
            return frame_outputs(self.teacher, inputs)

    def losses(
        self,
        output: Tensor,
        target: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        blocks: Tensor | None = None,
        counts: Counts | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the last forward pass of both models, outside of autocast.

        Args:
            output: of the student, `(batch, frames, vocabulary or hidden)`.
            target: of the teacher, of the same shape.
            mask: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100; None without CTC.
            blocks: the mask of blocks' outputs, see `block_mask`; None: that of the output.
            counts: what sums are divided by; None: by the batch's own counts.

        Returns:
            `layers`, `output`, `inner` and `ctc`, with their weights. And `(batch,)` booleans: which utterances could
            not be aligned.
        """
        weights, losses, counts = self.config, dict[str, Tensor](), counts or Counts()
        unalignable = torch.zeros(len(mask), dtype=torch.bool)
        everywhere = 0.0 * output.sum()  # several processes wait for gradients of the last blocks and the head, too
        if self.layers:
            layers = self.layers.take(mask if blocks is None else blocks, counts.block_frames)
            losses["layers"] = weights.layers * layers + everywhere
        telling = self._telling(target, mask)
        if weights.output:
            distance = output_distance(self.teacher, output, target, telling, weights, counts.frames)
            losses["output"] = weights.output * distance
        if self.inner:
            inner = self.inner.divergence(target, telling, weights.temperature, counts.frames)
            losses["inner"] = weights.inner * inner + everywhere
        if weights.ctc and labels is not None:
            blank = int(self.teacher.config.pad_token_id)
            ctc, unalignable = ctc_loss(output, mask, labels, blank, counts.utterances)
            losses["ctc"] = weights.ctc * ctc
        return losses, unalignable

    def _telling(self, target: Tensor, mask: Tensor) -> Tensor:
        """The frames that divergences are taken on, by weight, so that an utterance weighs as much as with all."""
        neighbours = self.config.blank_neighbours
        if neighbours is None:
            return mask
        return even(around_spikes(target, mask, int(self.teacher.config.pad_token_id), neighbours), mask)

    def close(self) -> None:
        """Removes the hooks."""
        for recorder in (self.layers, self.inner):
            if recorder:
                recorder.close()


def output_distance(
    model: PreTrainedModel,
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    config: DistillConfig,
    frames: Tensor | None = None,
) -> Tensor:
    """The distance of two outputs: of distributions over tokens where the model has a CTC head, else of encoders.

    Args:
        model: of the family in question.
        student: `(batch, frames, vocabulary or hidden)`, of `frame_outputs`.
        teacher: the same.
        mask: `(batch, frames)`, true or the weight of frames that count.
        config: temperature of the distributions; distance of encoders.
        frames: what sums over frames are divided by; None: the number of those that count.
    """
    if family_of(model).has_ctc:
        return output_divergence(student, teacher, mask, config.temperature, frames)
    return block_distance(student, teacher, mask, config.distance, frames)
