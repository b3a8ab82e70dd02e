"""The losses of one step, in the one form in which every training loop passes them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

TOTAL = "total"


@dataclass(frozen=True)
class Losses:
    """What a batch or a step gave: the number to minimise, what it is made of, and what else is worth following.

    Attributes:
        total: the scalar that training minimises.
        parts: the losses behind it, scalars by name. The method that made them says whether they have their weights
            already or get them in the total.
        metrics: numbers of this step that are no losses, by name, such as the norm of the gradient.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)

    @classmethod
    def summed(cls, parts: Mapping[str, Tensor]) -> Losses:
        """Losses whose total is the sum of their parts."""
        return cls(torch.stack(list(parts.values())).sum(), parts)

    @classmethod
    def averaged(cls, batches: Sequence[Losses]) -> Losses:
        """The means over the batches of one step, of losses and metrics that every batch has, without gradient."""
        first, *others = batches
        parts = {name: _mean([batch.parts[name] for batch in batches]) for name in first.parts}
        named = [name for name in first.metrics if all(name in batch.metrics for batch in others)]
        metrics = {name: _mean([batch.metrics[name] for batch in batches]) for name in named}
        return cls(_mean([batch.total for batch in batches]), parts, metrics)

    def with_metrics(self, **metrics: Tensor | float) -> Losses:
        """The same losses with further metrics."""
        return replace(self, metrics={**self.metrics, **metrics})

    def reported(self) -> dict[str, Tensor | float]:
        """All numbers under the names they have in reports: losses as `loss/ctc`, metrics as they are."""
        losses = {f"loss/{name}": loss for name, loss in {**self.parts, TOTAL: self.total}.items()}
        return losses | dict(self.metrics)

    def not_finite(self) -> list[str]:
        """The names of the parts that are not finite, or that of the total where only their sum is not."""
        parts = [name for name, loss in self.parts.items() if not torch.isfinite(loss)]
        return parts or ([] if torch.isfinite(self.total) else [TOTAL])


def _mean(values: Sequence[Tensor | float]) -> Tensor:
    return torch.stack([torch.as_tensor(value).detach() for value in values]).mean()
