"""The student: a model in training together with its gates and the multipliers of its budget.

All of them are parameters of one module, so that distributed training averages the gradients of gates and multipliers
like those of weights. The noise of the gates comes from a generator of their own: every process draws the same gates.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import frame_outputs
from compress.deciding.budget import Budget, Lagrangian, expected_cost
from compress.deciding.gates import GateConfig, Gates
from compress.deciding.selection import Scores
from compress.deciding.starting import start_gates_
from compress.elastic import at_full_size
from compress.structure import Structure
from compress.training.loop.counts import Counts
from compress.training.loop.noise import Noise
from compress.training.loop.optimizer import ParameterGroup, weight_groups
from compress.training.loop.schedule import LearnConfig, PhaseConfig
from compress.training.loop.sharding import Shardable
from compress.training.skipping_objective import SkippingConfig, SkippingObjective, objective_of

GATES, MULTIPLIERS = "gates", "multipliers"
LATE, FAR_ABOVE = 0.75, 0.02  # share of the phase, and of the full size, beyond which gates are behind their target

logger = logging.getLogger(__name__)


class Student(Shardable):
    """A model without gates, as it is distilled after removal.

    Args:
        model: the model to train.
        skipping: draws which batches skip, if the model can.
    """

    def __init__(self, model: PreTrainedModel, skipping: SkippingObjective | None = None) -> None:
        super().__init__()
        self.model = model
        self.skipping = skipping

    def draw(self) -> None:
        """Call before every step; what is drawn for it is drawn here, alike for all of its forward passes."""
        if self.skipping:
            self.skipping.draw(self.model)

    def forward(self, **inputs: Tensor) -> Tensor:
        """The model's logits, `(batch, frames, vocabulary)`, or its encoder's output (see `frame_outputs`)."""
        run = partial(frame_outputs, self.model, inputs)
        return self.skipping.passes(self.model, run) if self.skipping else run()

    def losses(
        self, logits: Tensor, frames: Tensor, labels: Tensor | None, step: int, counts: Counts | None = None
    ) -> dict[str, Tensor]:
        """What the student adds to the losses that its teacher gives: `skipping`, if it can skip.

        Args:
            logits: what `forward` gave.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100; None without CTC.
            step: steps taken so far.
            counts: what sums are divided by; None: by the batch's own counts.

        Returns:
            Scalars by name, with their weights.
        """
        if not self.skipping:
            return {}
        blank = int(self.model.config.pad_token_id)
        return {"skipping": self.skipping.added(self.model, logits, frames, labels, blank, counts or Counts())}

    def after_step(self) -> None:
        """Call after every step of the optimizer."""

    def groups(self, settings: PhaseConfig, weight_decay: float) -> list[ParameterGroup]:
        """What is trained: the weights.

        Args:
            settings: of the phase.
            weight_decay: of matrices and kernels.
        """
        return weight_groups(self, settings.learning_rate, weight_decay)

    def states(self) -> dict[str, Any]:
        """What a run's checkpoints hold beside parameters, by name."""
        return {"skipping": self.skipping.noise} if self.skipping else {}

    def statistics(self, step: int) -> dict[str, float]:
        """Numbers worth following, by name."""
        return {}


class SizeWatch:
    """Says while gates are learned that they will not reach their size, rather than by a worse model at the end.

    Args:
        steps: of the phase; None: nobody knows, and nothing is said.
    """

    def __init__(self, steps: int | None) -> None:
        self.steps, self.said = steps, False

    def look(self, step: int, expected: float, target: float) -> None:
        """Warns once, if late in the phase the expected size is far above the target; both are shares."""
        late = self.steps is not None and step >= LATE * self.steps
        if late and not self.said and expected > target + FAR_ABOVE:
            self.said = True
            logger.warning(
                "After %d of %s steps the expected size is %.1f %%, but its target is %.1f %%: units will have to go "
                "whose gates are open. Give more learn.steps, a higher learn.gate_learning_rate, or gates.start: obs.",
                step, self.steps, 100 * expected, 100 * target,
            )  # fmt: skip


class GatedStudent(Student):
    """A model whose gates are drawn anew in every training step.

    Args:
        model: gets gates on its last projections, in place; `detach` takes them off.
        gates: what to gate.
        budget: the target.
        lagrangian: leads the expected size to it.
        seed: of the gates' noise.
        skipping: draws which batches skip, if the model can.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        gates: GateConfig,
        budget: Budget,
        lagrangian: Lagrangian,
        seed: int,
        skipping: SkippingObjective | None = None,
    ) -> None:
        super().__init__(model, skipping)
        self.budget = budget
        self.gates = Gates(model, gates)
        self.gates.attach(model)
        self.lagrangian = lagrangian
        self.noise, self._drawn = Noise(seed, "gates"), torch.empty(0)
        self.watch = SizeWatch(None)

    @classmethod
    def of(
        cls,
        teacher: PreTrainedModel,
        gates: GateConfig,
        budget: Budget,
        learn: LearnConfig,
        skipping: SkippingConfig | None,
        seed: int,
        scores: Scores | None = None,
    ) -> GatedStudent:
        """A copy of a teacher with gates on it, as the phase begins that learns them.

        Of an elastic teacher it is one of the full size, as removal would make it: its other sizes are not trained.

        Args:
            teacher: stays as it is.
            gates: what to gate.
            budget: the target.
            learn: the phase; how the target is approached follows from it.
            skipping: how it learns to skip, if it can.
            seed: of all noise.
            scores: where gates of units start, by their order in the full size of the teacher (`at_full_size`); then
                the target is the budget from the first step.
        """
        model = copy.deepcopy(at_full_size(teacher)).requires_grad_(True)
        warmup = 0 if scores else round(learn.budget_warmup * learn.steps)
        lagrangian = Lagrangian(budget.fraction, warmup, learn.quadratic_start)
        student = cls(
            model, gates.with_front(budget.front), budget, lagrangian, seed, objective_of(model, skipping, seed)
        )
        student.watch = SizeWatch(learn.steps)
        if scores:
            start_gates_(student.gates, scores, budget.table, budget.limit)
        return student

    def kept_whole(self) -> Sequence[nn.Module]:
        """Gates and multipliers, which are read between forward passes."""
        return self.gates, self.lagrangian

    def draw(self) -> None:
        """Draws the gates, too."""
        super().draw()
        self._drawn = self.gates.distribution.noise(self.gates.log_alpha, self.noise.generator)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Gives the outputs of the gated model, with the gates that were last drawn."""
        self.gates.use(self.gates.distribution.with_noise(self.gates.log_alpha, self._drawn))
        return super().forward(**inputs)

    def losses(
        self, logits: Tensor, frames: Tensor, labels: Tensor | None, step: int, counts: Counts | None = None
    ) -> dict[str, Tensor]:
        """Adds `budget`, which leads the expected size to the target."""
        budget = self.lagrangian(self.expected_share(), step)
        return {**super().losses(logits, frames, labels, step, counts), "budget": budget}

    def after_step(self) -> None:
        """Keeps the gates within their limits."""
        self.gates.clamp_()

    def groups(self, settings: PhaseConfig, weight_decay: float) -> list[ParameterGroup]:
        """Gives the weights, the gates, and the multipliers, which ascend."""
        assert isinstance(settings, LearnConfig)
        gates, multipliers = list(self.gates.parameters()), list(self.lagrangian.parameters())
        return [
            *weight_groups(self, settings.learning_rate, weight_decay, exclude=[*gates, *multipliers]),
            ParameterGroup(GATES, gates, settings.gate_rate),
            ParameterGroup(MULTIPLIERS, multipliers, settings.multiplier_learning_rate, maximize=True),
        ]

    def states(self) -> dict[str, Any]:
        """Keeps the noise of the gates, too."""
        return {"noise": self.noise, **super().states()}

    def expected_share(self) -> Tensor:
        """The expected size as a share of the full size; a differentiable scalar."""
        return expected_cost(self.budget.table, self.gates) / self.budget.table.full

    @torch.no_grad()
    def expected_size(self) -> float:
        """The expected size, in what the budget counts."""
        return float(self.expected_share()) * self.budget.table.full

    @torch.no_grad()
    def statistics(self, step: int) -> dict[str, float]:
        """Expected and target size (as shares of the full size), multipliers, and the state of each kind of gate."""
        expected, target = float(self.expected_share()), self.lagrangian.target(step)
        self.watch.look(step, expected, target)
        return {
            "size/expected": expected,
            "size/target": target,
            "multiplier/linear": float(self.lagrangian.linear),
            "multiplier/quadratic": float(self.lagrangian.quadratic),
        } | {f"gates/{name}": value for name, value in self.gates.statistics().items()}

    def detach(self) -> PreTrainedModel:
        """Takes the gates off the model and gives it back with the weights as trained."""
        self.gates.detach(self.model)
        return self.model

    def fold(self, structure: Structure) -> PreTrainedModel:
        """Takes the gates off the model, their values folded into its weights.

        Args:
            structure: what the gates have decided; what it does not keep is closed.
        """
        model = self.detach()
        self.gates.fold_(model, self.gates.values(structure))
        return model
