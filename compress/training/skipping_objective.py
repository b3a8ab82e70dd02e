"""Learning to skip: intermediate CTC, distillation from the last output to it, and skipping while it is learned.

Hou et al. 2023 (arXiv 2401.02046). On gathered frames neighbours and distances are others than on all frames, so the
blocks behind the intermediate output learn from sequences gathered as they will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from compress.checkpoint import load_config
from compress.config import check, check_at_least
from compress.conformers import skeleton
from compress.model.able_to_skip import able_to_skip, config_able_to_skip
from compress.running.batch_norms import running_statistics
from compress.running.skipper import Skipper, skipper_of
from compress.running.skipping import Skipping, SkippingError, check_skipping, possible_first_blocks, read_skipping
from compress.training.ctc import ctc_loss
from compress.training.inter_ctc import mean_loss
from compress.training.loop.counts import Counts
from compress.training.loop.noise import Noise
from compress.training.posteriors import output_divergence
from compress.training.preparation import prepare_for_training


@dataclass(frozen=True)
class SkippingConfig:
    """How a model learns to let blank frames bypass its last blocks.

    What is null is as the checkpoint has it, or else, in a model that cannot skip yet, as in brackets.

    Attributes:
        first_blocks: numbers of blocks behind which an intermediate output is learned; of several, each batch skips
            behind one, and `compress skip` chooses one in the end (half of the blocks).
        threshold: of the blank's probability, above which a frame is skipped (0.95).
        extension: neighbours of a kept frame that are kept, too, on either side (1).
        own_heads: whether each intermediate output has a head of its own; otherwise the model's CTC head (true).
        factorised: whether CTC heads say first how likely the blank is, and then which token it is otherwise (false).
        weight: share w of the intermediate losses, (1 - w) last + w (intermediate CTC + distillation * divergence).
        distillation: weight of the divergence of the intermediate output from the last one.
        simulated: share of the training batches in which frames are skipped; 0: never; 1: in each, from which the model
            unlearns to run on every frame, unless it runs both ways (`consistency`).
        consistency: weight of the divergence of the output with skipping from the output without; such batches then
            run both ways, and take longer. 0: they run with skipping alone.
        repeat_penalty: of a frame that only repeats its token (see `ctc_loss`), which makes more frames blank; for
            tokens that are dense in time, such as characters. It counts in the CTC losses of intermediate outputs and
            of passes that skip, and in recipes/train.py in that of the last output, too, which follows a teacher
            otherwise.
    """

    first_blocks: tuple[int, ...] | None = None
    threshold: float | None = None
    extension: int | None = None
    own_heads: bool | None = None
    factorised: bool | None = None
    weight: float = 0.3
    distillation: float = 1.0
    simulated: float = 0.5
    consistency: float = 0.0
    repeat_penalty: float = 0.0

    def __post_init__(self) -> None:
        check(0 < self.weight < 1, "skipping.weight", self.weight, "give a number above 0 and below 1")
        for name in ("distillation", "consistency"):
            check_at_least(f"skipping.{name}", getattr(self, name), 0, "as the weight of a loss")
        check_at_least("skipping.repeat_penalty", self.repeat_penalty, 0, "in nats for each repeated frame")
        share = "give a share of batches from 0 to 1"
        check(0 <= self.simulated <= 1, "skipping.simulated", self.simulated, share)
        named = self.first_blocks is None or bool(self.first_blocks)
        check(named, "skipping.first_blocks", [], "name a number of blocks; null chooses half of them")

    def settings(self, model: PreTrainedModel) -> Skipping:
        """What the config of the model will say of its skipping.

        Raises:
            SkippingError: if the model cannot skip there, or at all.
            UnsupportedModelError: if it has no CTC head that its blocks' outputs can be led to.
        """
        known = read_skipping(getattr(model.config, "skipping", None)) or Skipping(0)
        known = known if known.heads else _behind_half(model, known)
        names = ("threshold", "extension", "own_heads", "factorised")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.first_blocks is not None:
            heads = tuple(sorted(set(self.first_blocks)))
            chosen = known.first_blocks if known.first_blocks in heads else heads[len(heads) // 2]
            given |= {"heads": heads, "first_blocks": chosen}
        settings = replace(known, **given)
        check_skipping(model, settings)
        return settings


def _behind_half(model: PreTrainedModel, settings: Skipping) -> Skipping:
    """Settings with one intermediate output, behind half of the blocks."""
    possible = possible_first_blocks(model)
    if not possible:
        raise SkippingError(f"A model of {possible.stop} block(s) has none that frames could skip; leave skipping out.")
    half = min(max(possible.stop // 2, possible.start), possible.stop - 1)
    return replace(settings, first_blocks=half, heads=(half,))


def skipping_config(
    config: PreTrainedConfig, wanted: SkippingConfig | None, start: str | None = None
) -> PreTrainedConfig:
    """The config of the model that `skipping_model` makes of another, without its weights.

    Args:
        config: of that other.
        wanted: how it is to learn to skip, if it is.
        start: a smaller model with which the run begins instead, as it is.

    Raises:
        SkippingError: if the smaller model is to learn to skip, which it cannot.
    """
    if wanted is None:
        return config
    if start is not None and read_skipping(getattr(load_config(start), "skipping", None)) is None:
        raise SkippingError(
            f"skipping is set, but start, {start}, cannot skip: leave skipping out and let the small model learn it "
            "afterwards (recipes/train.py with skipping), or begin without start."
        )
    return config_able_to_skip(config, wanted.settings(skeleton(config, original=False)))


def skipping_model(model: PreTrainedModel, wanted: SkippingConfig | None) -> PreTrainedModel:
    """A model that can learn to skip, ready for training; the given one if that is not wanted."""
    if wanted is None:
        return model
    skipping = able_to_skip(model, wanted.settings(model))
    prepare_for_training(skipping)
    return skipping


class SkippingObjective:
    """The losses of the intermediate outputs of a model in training, and which of its batches skip.

    The random numbers come from `noise`, which draws alike on every process, so that all of them skip behind the same
    block.

    Args:
        model: one that can skip.
        config: weights and share of batches.
        seed: of the noise.

    Attributes:
        share: of the frames of the last step, those that skipped; None if none could.
    """

    def __init__(self, model: PreTrainedModel, config: SkippingConfig, seed: int) -> None:
        self.config, self.noise = config, Noise(seed, "skipping")
        settings = read_skipping(model.config.skipping)
        assert settings is not None
        self.settings = settings
        self.skipper(model).use(model, settings)
        self._skipped: Tensor | None = None
        self.share: Tensor | None = None

    @staticmethod
    def skipper(model: PreTrainedModel) -> Skipper:
        """The skipping of a model that can skip."""
        skipper = skipper_of(model)
        assert skipper is not None
        return skipper

    def draw(self, model: PreTrainedModel) -> None:
        """Draws whether the batches of the next step skip, and behind which block."""
        share, place = torch.rand(2, generator=self.noise.generator).tolist()
        heads = self.settings.heads
        skips = share < self.config.simulated
        self.skipper(model).in_training = heads[int(place * len(heads))] if skips else None

    def passes(self, model: PreTrainedModel, run: Callable[[], Tensor]) -> Tensor:
        """The output of a step, `(batch, frames, vocabulary)`: of one pass, or of the one without skipping of two.

        The pass with skipping normalises by the running statistics, as it will in use, and leaves them as they are.

        Args:
            model: the model of the step.
            run: gives its output.
        """
        skipper = self.skipper(model)
        behind, self._skipped = skipper.in_training, None
        if not (self.config.consistency and model.training and behind):
            output = run()
            self.share = last_skipped_share(model)
            return output
        with running_statistics(model):
            self._skipped = run()
        self.share, skipper.in_training = last_skipped_share(model), None
        output = run()
        skipper.in_training = behind
        return output

    def losses(
        self,
        inner: list[Tensor],
        last: Tensor,
        frames: Tensor,
        labels: Tensor | None,
        blank: int,
        counts: Counts,
    ) -> dict[str, Tensor]:
        """The mean losses of intermediate outputs.

        Args:
            inner: the outputs, each `(batch, frames, vocabulary)`.
            last: output of the last block, of the same shape; it gets no gradient from here.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100; None leaves CTC out.
            blank: id of the blank.
            counts: what sums are divided by.

        Returns:
            `skipping_ctc` and `skipping_divergence` (KL(last || intermediate) per frame), unweighted scalars; of a
            step of two passes also `skipped_ctc` and `skipped_divergence` (KL(without || with skipping) per frame).
        """
        target = last.detach()
        divergences = [output_divergence(output, target, frames, frames=counts.frames) for output in inner]
        losses = {"skipping_divergence": mean_loss(divergences)}
        if labels is not None:
            ctc = [self.ctc(output, frames, labels, blank, counts)[0] for output in inner]
            losses["skipping_ctc"] = mean_loss(ctc)
        if self._skipped is not None:
            losses["skipped_divergence"] = output_divergence(self._skipped, target, frames, frames=counts.frames)
            if labels is not None:
                losses["skipped_ctc"] = self.ctc(self._skipped, frames, labels, blank, counts)[0]
        return losses

    def ctc(self, logits: Tensor, frames: Tensor, labels: Tensor, blank: int, counts: Counts) -> tuple[Tensor, Tensor]:
        """`ctc_loss` in which repeats are penalised as configured."""
        return ctc_loss(logits, frames, labels, blank, counts.utterances, self.config.repeat_penalty)

    def combined(self, last: Tensor, losses: Mapping[str, Tensor]) -> Tensor:
        """The loss of the last output and what `losses` gave, weighted."""
        inner = losses.get("skipping_ctc", 0.0) + self.config.distillation * losses["skipping_divergence"]
        if "skipped_ctc" in losses:
            last = (last + losses["skipped_ctc"]) / 2
        if "skipped_divergence" in losses:
            last = last + self.config.consistency * losses["skipped_divergence"]
        return (1 - self.config.weight) * last + self.config.weight * inner

    def added(
        self,
        model: PreTrainedModel,
        last: Tensor,
        frames: Tensor,
        labels: Tensor | None,
        blank: int,
        counts: Counts,
    ) -> Tensor:
        """What the intermediate outputs of the last forward pass add to losses of another kind, with its weight."""
        inner = list(self.skipper(model).take_logits().values())
        losses = self.losses(inner, last, frames, labels, blank, counts)
        return self.combined(torch.zeros_like(last[0, 0, 0]), losses)


def objective_of(model: PreTrainedModel, config: SkippingConfig | None, seed: int) -> SkippingObjective | None:
    """The objective of a model that can skip, by the default weights unless it is configured; None for other models.

    A model whose intermediate outputs were all removed cannot, also where its config says still that its CTC head is
    factorised.
    """
    skipper = skipper_of(model)
    if skipper is None or not skipper.settings.heads:
        return None
    return SkippingObjective(model, config or SkippingConfig(), seed)


def last_skipped_share(model: PreTrainedModel) -> Tensor | None:
    """The share of the frames of the last forward pass that skipped; None if none could."""
    seen = (skipper := skipper_of(model)) and skipper.last
    if not seen or seen.valid is None or seen.deep is None:
        return None
    return 1 - seen.deep.sum() / seen.valid.sum()
