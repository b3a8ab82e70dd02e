"""The student: a model in training together with its gates and the multipliers of its budget.

All of them are parameters of one module, so that distributed training averages the gradients of gates and multipliers
like those of weights. The noise of the gates comes from a generator of their own: every process draws the same gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import frame_outputs
from compress.deciding.budget import Budget, Lagrangian, expected_cost
from compress.deciding.gates import GateConfig, Gates
from compress.training.loop.noise import Noise

if TYPE_CHECKING:
    from compress.training.skipping import SkippingObjective


class Student(nn.Module):
    """A model without gates, as it is distilled after removal.

    Args:
        model: the model to train.
        skipping: draws which batches skip, if the model can.
    """

    def __init__(self, model: PreTrainedModel, skipping: SkippingObjective | None = None) -> None:
        super().__init__()
        self.model = model
        self.skipping = skipping

    def forward(self, **inputs: Tensor) -> Tensor:
        """The model's logits, `(batch, frames, vocabulary)`, or its encoder's output (see `frame_outputs`)."""
        if self.skipping and self.training:
            self.skipping.draw(self.model)
        return frame_outputs(self.model, inputs)

    def after_step(self) -> None:
        """Call after every step of the optimizer."""

    def statistics(self, step: int) -> dict[str, float]:
        """Numbers worth following, by name."""
        return {}


class GatedStudent(Student):
    """A model whose gates are drawn anew in every training step.

    Args:
        model: gets gates on its last projections, in place; `detach` takes them off.
        gates: what to gate.
        budget: the target.
        lagrangian: leads the expected size to it.
        seed: of the gates' noise.
        skipping: see `Student`.
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
        self.noise = Noise(seed)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Draws the gates and gives the outputs of the gated model."""
        self.gates.sample(self.noise.generator)
        return super().forward(**inputs)

    def after_step(self) -> None:
        """Keeps the gates within their limits."""
        self.gates.clamp_()

    def expected_share(self) -> Tensor:
        """The expected size as a share of the full size; a differentiable scalar."""
        return expected_cost(self.budget.table, self.gates) / self.budget.table.full

    @torch.no_grad()
    def statistics(self, step: int) -> dict[str, float]:
        """Expected and target size (as shares of the full size), multipliers, and the state of each kind of gate."""
        return {
            "size/expected": float(self.expected_share()),
            "size/target": self.lagrangian.target(step),
            "multiplier/linear": float(self.lagrangian.linear),
            "multiplier/quadratic": float(self.lagrangian.quadratic),
        } | {f"gates/{name}": value for name, value in self.gates.statistics().items()}

    def detach(self) -> PreTrainedModel:
        """Takes the gates off the model and gives it back with the weights as trained."""
        self.gates.detach(self.model)
        return self.model
