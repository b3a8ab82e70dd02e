"""OrthoSoftmax (arXiv 2501.18895): as many softmaxes as parts, each of which selects one; the first so many are used.

Sub-nets are nested by construction, and a size may be any budget. A penalty keeps the rows apart, so that no two select
the same part. A part here is a true sub-matrix: the same units on both sides of a projection.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.config import check, check_at_least
from compress.elastic.supernet.limits import Subnets
from compress.elastic.supernet.selection import PartSelection

SPREAD = 0.01
"""Deviation of the scores at the start: rows that began alike would stay alike."""


@dataclass(frozen=True)
class OrthoSoftmaxConfig:
    """Settings of OrthoSoftmax, with the values of its authors.

    Attributes:
        temperature: of the softmaxes, at the start.
        decay: its factor in every step.
        lowest_temperature: where it stays. (Theirs: with whole modules the temperature is 1 throughout.)
        penalty: weight of the orthogonality penalty, in the end.
        penalty_warmup: share of the selection's steps over which that weight rises from 0. (Theirs: 100 of 150.)
        focal: whether the loss of the sub-net is scaled by 1 - exp(-loss).
    """

    temperature: float = 1.0
    decay: float = 0.999992
    lowest_temperature: float = 0.01
    penalty: float = 1.0
    penalty_warmup: float = 0.67
    focal: bool = True

    def __post_init__(self) -> None:
        check(0 < self.decay <= 1, "ortho_softmax.decay", self.decay, "give a factor above 0 and at most 1")
        lowest, name = self.lowest_temperature, "ortho_softmax.lowest_temperature"
        between = f"give a temperature above 0 and at most temperature, {self.temperature:g}"
        check(0 < lowest <= self.temperature, name, lowest, between)
        check_at_least("ortho_softmax.penalty", self.penalty, 0)
        share = "give a share of the steps from 0 to 1"
        check(0 <= self.penalty_warmup <= 1, "ortho_softmax.penalty_warmup", self.penalty_warmup, share)


class OrthoSoftmax(PartSelection):
    """OrthoSoftmax.

    The sub-net of a step has one of the sizes below the full one, drawn from the seed and the step.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        config: see there.
        seed: of the first scores and of the sizes drawn.

    Attributes:
        scores: `(parts, parts)`, a row for each place of the ranking.
    """

    costs: Tensor

    def __init__(self, sizes: Subnets, steps: int, config: OrthoSoftmaxConfig, seed: int) -> None:
        super().__init__(sizes, steps)
        self.config, self.seed = config, seed
        generator = torch.Generator().manual_seed(seed)
        self.scores = nn.Parameter(SPREAD * torch.randn(len(self.parts), len(self.parts), generator=generator))
        cost = (self.parts.whole - self.parts.fixed) * torch.tensor(self.parts.shares())
        self.register_buffer("costs", cost, persistent=False)

    def rows(self, step: int) -> Tensor:
        """`(parts, parts)`: in each row, how much each part is selected at a step; rows sum to 1."""
        lowest = self.config.lowest_temperature
        return (self.scores / max(lowest, self.config.temperature * self.config.decay**step)).softmax(1)

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step, `(parts,)`: the sum of the rows in use."""
        return self.rows(step)[: self.used(step)].sum(0)

    def used(self, step: int) -> int:
        """How many rows the sub-net of a step has: so many that their expected cost comes closest to its limit."""
        limit = random.Random(f"{self.seed} {step}").choice(list(self.sizes.limits.values()))
        expected = self.parts.fixed + (self.rows(step).detach() @ self.costs).cumsum(0)
        return int((expected - limit).abs().argmin()) + 1

    def penalties(self, step: int) -> dict[str, Tensor]:
        """How far the rows in use are from being orthogonal and decided, weighted."""
        warmup = self.config.penalty_warmup * self.steps
        weight = self.config.penalty * (min(1.0, step / warmup) if warmup else 1.0)
        return {"orthogonality": weight * orthogonality(self.rows(step)[: self.used(step)])}

    def scale(self, loss: Tensor) -> Tensor | float:
        """The factor on the loss of the sub-net beside its weight; of several batches in a step, each has its own."""
        return 1 - (-loss.detach()).exp() if self.config.focal else 1.0

    def kept(self, step: int) -> list[int]:
        """The parts that count as kept at a step, most wanted first: the smallest size, as the rows have it now."""
        ranking = self.ranking()
        return ranking[: self.parts.fitting(ranking, self.sizes.smallest)]

    def ranking(self) -> list[int]:
        """All parts, most wanted first: the most likely part of each row, among those that no row before it has."""
        scores, order = self.scores.detach().cpu().clone(), list[int]()
        for row in scores:
            row[order] = -torch.inf
            order.append(int(row.argmax()))
        return order


def orthogonality(rows: Tensor) -> Tensor:
    """The distance of rows of probabilities from orthogonal one-hot rows.

    Args:
        rows: `(rows, parts)`, each of which sums to 1.

    Returns:
        A scalar: with G the products of all pairs of rows, the root of the sum of the squares above its diagonal and of
        (diagonal - 1).
    """
    products = rows @ rows.T
    squares = products.triu(1).square().sum() + (products.diagonal() - 1).square().sum()
    return (squares + torch.finfo(squares.dtype).tiny).sqrt()
