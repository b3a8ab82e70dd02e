"""The nets of a supernet's two stages: all that is trained as one module, and all passes of a step in one forward.

Xu et al. 2024 (arXiv 2407.18930). In the first stage the whole model is trained with a sub-net whose parts are being
selected; in the second one the sizes that this has decided are trained together, by the sandwich rule (Yu and Huang
2019, arXiv 1903.05134): the smallest and the full size in every step, and one of those between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.config import check, check_at_least
from compress.elastic.supernet import History, PartMasks, PartSelection, SelectionConfig
from compress.running.batch_norms import unchanged_statistics
from compress.running.subnets import activate, subnets_of
from compress.training.ctc import ctc_loss
from compress.training.loop import processes
from compress.training.loop.counts import Counts
from compress.training.loop.losses import Losses
from compress.training.loop.noise import Noise
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, weight_groups
from compress.training.loop.sharding import Shardable
from compress.training.new_models import ModelConfig, build_model
from compress.training.posteriors import output_divergence
from compress.training.stochastic_modules import SEEDS, StochasticModules, lacking
from compress.training.supervised import OptimizerConfig

SUB, SCORES = "ctc/sub", "scores"


@dataclass(frozen=True)
class JointConfig:
    """The second stage, which trains all sizes together.

    Attributes:
        full: weight of the loss of the full size.
        smallest: weight of the loss of the smallest size.
        middle: weight of the loss of the one size between them that is drawn for each step.
        stochastic_depth: probability with which an utterance does without what the smallest size lacks of a module, in
            the full size alone, as published.
        heads: `separate`: a CTC head for each size; `shared`: one for all.
        norms: `separate`: batch norms, whose statistics differ from size to size, for each size; `shared`: one for all.
        distill: weight of the divergence of each smaller size from the full one in the same step; 0: none, as
            published.
        warmup_steps: steps of the linear rise to the learning rate at which the first stage has ended.
    """

    full: float = 1.0
    smallest: float = 0.3
    middle: float = 0.3
    stochastic_depth: float = 0.3
    heads: Literal["separate", "shared"] = "separate"
    norms: Literal["separate", "shared"] = "separate"
    distill: float = 0.0
    warmup_steps: int = 50

    def __post_init__(self) -> None:
        for name in ("full", "smallest", "middle", "distill", "warmup_steps"):
            check_at_least(f"joint.{name}", getattr(self, name), 0)
        probability = "give a probability from 0 to below 1"
        check(0 <= self.stochastic_depth < 1, "joint.stochastic_depth", self.stochastic_depth, probability)

    @property
    def own(self) -> tuple[str, ...]:
        """What each size has of its own, in the terms of `compress.elastic.make_elastic`."""
        wanted = {"head": self.heads, "norm": self.norms}
        return tuple(name for name, kind in wanted.items() if kind == "separate")


def supernet_model(config: ModelConfig, *, vocabulary_size: int, blank: int) -> PreTrainedModel:
    """The model that a supernet begins with, at the full one of its sizes if it has others.

    Args:
        config: a new model or a checkpoint.
        vocabulary_size: number of tokens of the processor.
        blank: id of its blank.

    Raises:
        ValueError: if it is a checkpoint that can skip frames.
    """
    model = build_model(config, vocabulary_size=vocabulary_size, blank=blank)
    if getattr(model.config, "skipping", None):
        raise ValueError(
            f"{config.checkpoint} can skip frames, which would be unlearned here: begin with the model that it was "
            "trained from. A size of the supernet can learn to skip afterwards, as a model of its own (compress "
            "extract, then recipes/train.py with skipping)."
        )
    return model


def divided(total_steps: int, share: float) -> tuple[int, int]:
    """The steps of both stages.

    Args:
        total_steps: of the run.
        share: of the first stage.

    Raises:
        ValueError: if one of them has none.
    """
    select = round(share * total_steps)
    if not 0 < select < total_steps:
        raise ValueError(
            f"Of {total_steps} steps selection.share {share} leaves {select} and {total_steps - select} for the two "
            "stages; each needs at least one: set epochs or max_steps higher."
        )
    return select, total_steps - select


class StageNet(Shardable):
    """What the nets of both stages have for the loop that trains them.

    Args:
        model: the model to train.

    Attributes:
        step: steps taken before the present one.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model, self.step = model, 0

    def prepare(self, step: int) -> None:
        """Call before every step; what is drawn for it is drawn here, so that a pass can be repeated."""
        self.step = step

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int, counts: Counts | None = None
    ) -> tuple[Losses, Tensor]:
        """The losses of what `forward` gave.

        Args:
            logits: of each net that has run, `(batch, frames, vocabulary)`.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100.
            blank: id of the blank.
            counts: what sums are divided by; None: by the batch's own counts.

        Returns:
            Losses, those of CTC without their weights. And `(batch,)` booleans: which utterances could not be aligned.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Call after every step of the optimizer."""

    def groups(self, config: OptimizerConfig) -> list[ParameterGroup]:
        """What is trained, with the learning rates at the peak of the schedule."""
        return weight_groups(self, config.learning_rate, config.weight_decay)

    def rates(self, config: OptimizerConfig, factor: float) -> dict[str, float]:
        """The learning rates of the present step by name of the group.

        Args:
            config: the rates at the peak.
            factor: what the schedule of the whole run multiplies them by.
        """
        return {WEIGHTS: config.learning_rate * factor}

    def states(self) -> dict[str, Any]:
        """What a run's checkpoints hold beside parameters, by name."""
        return {}

    def statistics(self) -> dict[str, float]:
        """Numbers worth following, by name."""
        return {}

    def record(self) -> dict[str, Any] | None:
        """What people may want to see while the stage runs, as JSON; None if there is nothing."""
        return None


class SelectionNet(StageNet):
    """The first stage: the whole model and a sub-net of it.

    The sub-net of a step is the model with its parts multiplied by the values of the selection. Both have the same CTC
    head, from which those of the sizes begin in the second stage; running statistics follow the whole model alone.

    Args:
        model: the model to train; gets gates, in place.
        selection: which parts the sub-net has.
        config: weights of the losses.

    Attributes:
        history: how parts have left.
    """

    def __init__(self, model: PreTrainedModel, selection: PartSelection, config: SelectionConfig) -> None:
        super().__init__(model)
        self.selection, self.config, self.history = selection, config, History(len(selection.parts))
        self._masks = PartMasks(model, selection.parts)
        self._gates: list[Tensor] = []

    def kept_whole(self) -> Sequence[nn.Module]:
        """The scores of the selection, which are read between forward passes."""
        return (self.selection,)

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """The logits, `(batch, frames, vocabulary)`, of the whole model and of the sub-net."""
        if self.selection.looks_at_gradients and torch.is_grad_enabled():
            self._gates.append(torch.ones(len(self.selection.parts), device=self.model.device, requires_grad=True))
            self._masks.use(self._gates[-1])
        full: Tensor = self.model(**inputs).logits
        with torch.autocast(full.device.type, enabled=False):
            self._masks.use(self.selection.values(self.step))
        with unchanged_statistics(self.model):
            sub: Tensor = self.model(**inputs).logits
        self._masks.open()
        return [full, sub]

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int, counts: Counts | None = None
    ) -> tuple[Losses, Tensor]:
        """Adds up `ctc` of the whole model, `ctc/sub`, and what the selection adds; arguments as in `StageNet`."""
        utterances = counts.utterances if counts else None
        full, unalignable = ctc_loss(logits[0], frames, labels, blank, utterances)
        sub, _ = ctc_loss(logits[1], frames, labels, blank, utterances)
        penalties = self.selection.penalties(self.step)
        scale = self.selection.scale(processes.averaged(sub.detach()))
        total = self.config.full * full + self.config.weight_of_sub * scale * sub
        return Losses(sum(penalties.values(), total), {"ctc": full, SUB: sub, **penalties}), unalignable

    def after_step(self) -> None:
        """Lets the selection look and act, and notes which parts have left or come back."""
        gradients = [gate.grad for gate in self._gates if gate.grad is not None]
        if gradients:
            self.selection.see(processes.averaged(torch.stack(gradients).sum(0)))
        self._gates.clear()
        self.selection.after_step(self.step)
        self.history.note(self.step + 1, self.selection.kept(self.step + 1))

    def groups(self, config: OptimizerConfig) -> list[ParameterGroup]:
        """Gives the weights, and the scores of the selection if it learns any."""
        scores = list(self.selection.parameters())
        weights = weight_groups(self, config.learning_rate, config.weight_decay, exclude=scores)
        return [*weights, ParameterGroup(SCORES, scores, self._peak_of_scores(config))] if scores else weights

    def rates(self, config: OptimizerConfig, factor: float) -> dict[str, float]:
        """Gives the learning rates of the weights and, if there are any, of the scores."""
        scores = {SCORES: self._peak_of_scores(config) * factor} if list(self.selection.parameters()) else {}
        return super().rates(config, factor) | scores

    def _peak_of_scores(self, config: OptimizerConfig) -> float:
        own = self.config.learning_rate
        return config.learning_rate if own is None else own

    def states(self) -> dict[str, Any]:
        """Keeps how parts have left so far."""
        return {"history": self.history}

    def statistics(self) -> dict[str, float]:
        """Counts the parts of the sub-net."""
        return {"parts/kept": len(self.selection.kept(self.step))}

    def record(self) -> dict[str, Any]:
        """Tells how parts have left so far, with their names."""
        return {"parts": [part.name for part in self.selection.parts.entries], **self.history.state_dict()}

    def detach(self) -> PreTrainedModel:
        """Takes the gates off the model and gives it back with the weights as trained."""
        self._masks.detach(self.model)
        return self.model


class JointNet(StageNet):
    """The second stage: the sizes of an elastic model.

    Args:
        model: elastic, to be trained.
        config: weights of the losses, and stochastic depth.
        seed: of the noise.

    Attributes:
        noise: draws the middle size of each step and what is left out; part of a run's checkpoints.
        names: the sizes, smallest first.
        running: those of the present step.
    """

    def __init__(self, model: PreTrainedModel, config: JointConfig, seed: int) -> None:
        super().__init__(model)
        self.config, self.noise = config, Noise(seed, "supernet")
        self.names, (smallest, *_) = zip(*subnets_of(model).items(), strict=True)
        self.stochastic = StochasticModules(model, lacking(model, smallest), config.stochastic_depth)
        self.running, self._seed = self.names[-1:], 0

    def prepare(self, step: int) -> None:
        """Draws the sizes of a step, and what is left out of the full one."""
        super().prepare(step)
        self.running = self.draw()
        self._seed = int(torch.randint(SEEDS, (), generator=self.noise.generator))

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """The logits, `(batch, frames, vocabulary)`, of the sizes in `running`, the full one first."""
        logits = []
        for name in self.running:
            activate(self.model, name)
            self.stochastic.start(self._seed if name == self.names[-1] else None)
            logits.append(self.model(**inputs).logits)
        activate(self.model, self.names[-1])
        return logits

    def draw(self) -> tuple[str, ...]:
        """The sizes of a step: the full one, the smallest, and one between them."""
        smallest, *between, full = self.names
        chosen = int(torch.randint(len(between), (), generator=self.noise.generator)) if between else 0
        return (full, smallest, *between[chosen : chosen + 1])

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int, counts: Counts | None = None
    ) -> tuple[Losses, Tensor]:
        """Adds up `ctc` of the full size, `ctc/smallest`, `ctc/middle` where there is one, and `distill`."""
        weights = {"ctc": self.config.full, "ctc/smallest": self.config.smallest, "ctc/middle": self.config.middle}
        counts = counts or Counts()
        ctc = [ctc_loss(output, frames, labels, blank, counts.utterances) for output in logits]
        parts = {name: loss for name, (loss, _) in zip(weights, ctc, strict=False)}
        total = torch.stack([weights[name] * loss for name, loss in parts.items()]).sum()
        if self.config.distill:
            target = logits[0].detach()
            divergences = [output_divergence(output, target, frames, frames=counts.frames) for output in logits[1:]]
            parts["distill"] = torch.stack(divergences).sum()
            total = total + self.config.distill * parts["distill"]
        return Losses(total, parts), ctc[0][1]

    def rates(self, config: OptimizerConfig, factor: float) -> dict[str, float]:
        """Lets the learning rates rise anew at the beginning of the stage."""
        warmup = self.config.warmup_steps
        return super().rates(config, factor * min(1.0, (self.step + 1) / warmup) if warmup else factor)

    def states(self) -> dict[str, Any]:
        """Keeps the noise from which sizes are drawn."""
        return {"noise": self.noise}
