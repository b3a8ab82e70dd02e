"""The nets of a supernet's two stages: all that is trained as one module, and all passes of a step in one forward.

Xu et al. 2024 (arXiv 2407.18930). In the first stage the whole model is trained with a sub-net whose parts are being
selected; in the second one the sizes that this has decided are trained together, by the sandwich rule (Yu and Huang
2019, arXiv 1903.05134): the smallest and the full size in every step, and one of those between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.distill import output_divergence
from compress.elastic.supernet import PartMasks, Selection, SelectionConfig, unchanged_statistics
from compress.sizes import activate, sizes_of
from compress.structure import MODULES
from compress.student import Noise
from compress.training.ctc import ctc_loss
from compress.training.recogniser import TOTAL
from compress.training.stochastic_modules import StochasticModules

SUB = "ctc/sub"


@dataclass(frozen=True)
class JointConfig:
    """The second stage, which trains all sizes together.

    Attributes:
        full: weight of the loss of the full size.
        smallest: weight of the loss of the smallest size.
        middle: weight of the loss of the one size between them that is drawn for each step.
        stochastic_depth: probability with which an utterance does without a module that the smallest size lacks.
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
            if getattr(self, name) < 0:
                raise ValueError(f"joint.{name} must be at least 0, got {getattr(self, name)}.")
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(
                f"joint.stochastic_depth is a probability and must be from 0 to below 1, got {self.stochastic_depth}."
            )

    @property
    def own(self) -> tuple[str, ...]:
        """What each size has of its own, in the terms of `compress.elastic.make`."""
        wanted = {"head": self.heads, "norm": self.norms}
        return tuple(name for name, kind in wanted.items() if kind == "separate")


class SelectionNet(nn.Module):
    """The first stage: the whole model and a sub-net of it.

    The sub-net of a step is the model with its parts multiplied by the values of the selection; running statistics
    follow the whole model alone.

    Args:
        model: the model to train; gets gates, in place.
        selection: which parts the sub-net has.
        config: weights of the losses.

    Attributes:
        step: steps taken so far.
    """

    def __init__(self, model: PreTrainedModel, selection: Selection, config: SelectionConfig) -> None:
        super().__init__()
        self.model, self.selection, self.config, self.step = model, selection, config, 0
        self._masks = PartMasks(model, selection.parts)

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """The logits, `(batch, frames, vocabulary)`, of the whole model and of the sub-net."""
        full: Tensor = self.model(**inputs).logits
        with torch.autocast(full.device.type, enabled=False):
            self._masks.use(self.selection.values(self.step))
        with unchanged_statistics(self.model):
            sub: Tensor = self.model(**inputs).logits
        self._masks.open()
        return [full, sub]

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of what `forward` gave.

        Args:
            logits: of the whole model and of the sub-net.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100.
            blank: id of the blank.

        Returns:
            Scalars by name: `ctc` of the whole model, `ctc/sub`, what the selection adds, and `total`. And `(batch,)`
            booleans: which utterances could not be aligned.
        """
        full, unalignable = ctc_loss(logits[0], frames, labels, blank)
        sub, _ = ctc_loss(logits[1], frames, labels, blank)
        penalties = self.selection.penalties(self.step)
        total = self.config.full * full + self.config.sub * self.selection.scale(sub) * sub
        return {"ctc": full, SUB: sub, **penalties, TOTAL: sum(penalties.values(), total)}, unalignable

    def after_step(self) -> None:
        """Call after every step of the optimizer."""
        self.selection.after_step(self.step)

    def statistics(self) -> dict[str, float]:
        """Numbers worth following, by name."""
        return {"parts/kept": len(self.selection.kept(self.step))}

    def detach(self) -> PreTrainedModel:
        """Takes the gates off the model and gives it back with the weights as trained."""
        self._masks.detach(self.model)
        return self.model


class JointNet(nn.Module):
    """The second stage: the sizes of an elastic model.

    Args:
        model: elastic, to be trained.
        config: weights of the losses, and stochastic depth.
        seed: of the noise.

    Attributes:
        noise: draws the middle size of each step and the modules that are left out; part of a run's checkpoints.
        names: the sizes, smallest first.
        step: steps taken so far.
    """

    def __init__(self, model: PreTrainedModel, config: JointConfig, seed: int) -> None:
        super().__init__()
        self.model, self.config, self.step = model, config, 0
        sizes = sizes_of(model)
        self.names, self.noise = list(sizes), Noise(seed)
        smallest = sizes[self.names[0]].blocks
        lacking = [
            (index, name)
            for index, block in enumerate(smallest)
            for name in MODULES
            if block is None or getattr(block, name) is None
        ]
        self.stochastic = StochasticModules(model, lacking, config.stochastic_depth, self.noise)
        self.running = self.names[-1:]

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """The logits, `(batch, frames, vocabulary)`, of the sizes in `running`, the full one first."""
        self.running = self.draw()
        logits = []
        for name in self.running:
            activate(self.model, name)
            self.stochastic.draw()
            logits.append(self.model(**inputs).logits)
        activate(self.model, self.names[-1])
        return logits

    def draw(self) -> list[str]:
        """The sizes of the next step: the full one, the smallest, and one between them."""
        smallest, *between, full = self.names
        chosen = int(torch.randint(len(between), (), generator=self.noise.generator)) if between else 0
        return [full, smallest, *between[chosen : chosen + 1]]

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of what `forward` gave.

        Args:
            logits: of the sizes in `running`.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100.
            blank: id of the blank.

        Returns:
            Scalars by name: `ctc` of the full size, `ctc/smallest`, `ctc/middle` where there is one, `distill` if
            wanted, and `total`. And `(batch,)` booleans: which utterances could not be aligned.
        """
        weights = {"ctc": self.config.full, "ctc/smallest": self.config.smallest, "ctc/middle": self.config.middle}
        found = [ctc_loss(one, frames, labels, blank) for one in logits]
        losses = {name: loss for name, (loss, _) in zip(weights, found, strict=False)}
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        if self.config.distill:
            target = logits[0].detach()
            losses["distill"] = torch.stack([output_divergence(one, target, frames) for one in logits[1:]]).sum()
            total = total + self.config.distill * losses["distill"]
        return losses | {TOTAL: total}, found[0][1]

    def after_step(self) -> None:
        """Call after every step of the optimizer."""

    def statistics(self) -> dict[str, float]:
        """Numbers worth following, by name."""
        return {}
