"""Ranking parts by the Fisher information of their gates: what the loss of the whole model would lose with each.

A gate that multiplies a part has the value 1 in the whole model. To second order, and with the Fisher information in
place of the Hessian, closing it alone raises the loss by half of the expected square of its gradient (Molchanov et al.
2019, arXiv 1906.10771). The square is followed while the model learns, so an order rests on no model that has learned
nothing yet, and one vector of numbers ranks all parts: sizes are nested by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compress.config import check
from compress.elastic.supernet.limits import Subnets
from compress.elastic.supernet.selection import descending
from compress.elastic.supernet.top_k import Shrinking, TopKConfig


@dataclass(frozen=True)
class FisherConfig:
    """Settings of the ranking by Fisher information.

    Attributes:
        decay: of the running mean of squared gradients, for each step.
        per_cost: whether parts are ranked by what they are worth for what they cost, as budgets want it.
    """

    decay: float = 0.98
    per_cost: bool = True

    def __post_init__(self) -> None:
        check(0 <= self.decay < 1, "fisher.decay", self.decay, "give a number from 0 to below 1")


class FisherOrder(Shrinking):
    """A ranking by the squares of gradients, with the descent of Simple-Top-k.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        descent: how the sub-net shrinks.
        config: see there.

    Attributes:
        squares: `(parts,)`, the running mean; parts that have never had a gradient have 0.
    """

    looks_at_gradients = True
    squares: Tensor
    costs: Tensor

    def __init__(self, sizes: Subnets, steps: int, descent: TopKConfig, config: FisherConfig) -> None:
        super().__init__(sizes, steps, descent)
        self.own = config
        costs = self.parts.shares() if config.per_cost else [1.0] * len(self.parts)
        self.register_buffer("squares", torch.zeros(len(self.parts)))
        self.register_buffer("costs", torch.tensor(costs), persistent=False)

    @torch.no_grad()
    def see(self, gradient: Tensor) -> None:
        """Takes in a step's gradient; one that is not finite tells nothing.

        Args:
            gradient: `(parts,)`, of the loss of the whole model in the gates of all parts.
        """
        if bool(torch.isfinite(gradient).all()):
            self.squares.lerp_(gradient.square(), 1 - self.own.decay)

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step, `(parts,)`."""
        return self.indicator(step, self.squares)

    def ranking(self) -> list[int]:
        """All parts, most wanted first, as the squares have them now."""
        return descending(self.squares / self.costs)
