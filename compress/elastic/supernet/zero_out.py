"""Iterative-Zero-Out (Xu et al. 2024, arXiv 2407.18930): sigmoid gates, a loss that closes them, cuts now and then.

The sub-net has every part, multiplied by its gate. At the end of each iteration the parts of lowest score are set to
almost nothing, from where they may still recover before the next cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from compress.config import check_at_least, check_positive
from compress.elastic.supernet.limits import Subnets
from compress.elastic.supernet.selection import Descent, PartSelection, descending


@dataclass(frozen=True)
class ZeroOutConfig:
    """Settings of Iterative-Zero-Out, with the values of its authors.

    Attributes:
        start: of every raw score; its sigmoid is the gate.
        zeroed: what the raw scores of the lowest parts are set to.
        weight: of the loss on the distance between the share that the gates take out and the one that they should.
        iterations: cuts, of which the last one is not written into the scores. (Theirs: from 32, a part each, to one.)
        first: length of the first iteration, in those of the others. (Theirs: 1 to 3.)
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"start": (-1000, 1000), "zeroed": (-1000, 1000)}

    start: float = 10.0
    zeroed: float = -5.0
    weight: float = 5.0
    iterations: int = 32
    first: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("zero_out.iterations", self.iterations, 1)
        check_positive("zero_out.first", self.first)


class ZeroOut(PartSelection):
    """Iterative-Zero-Out.

    Each cut takes an equal amount of the cost (with sizes as numbers of parts: the same number of parts), until the
    rest fits the smallest size. That size has the parts of highest score at the end; the sizes above it follow the
    scores just before they were last overwritten.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        config: see there.

    Attributes:
        scores: `(parts,)`, before the sigmoid.
    """

    before_last_cut: Tensor
    shares: Tensor

    def __init__(self, sizes: Subnets, steps: int, config: ZeroOutConfig) -> None:
        super().__init__(sizes, steps)
        self.config = config
        self.scores = nn.Parameter(torch.full((len(self.parts),), config.start))
        self.register_buffer("before_last_cut", self.scores.detach().clone())
        self.register_buffer("shares", torch.tensor(self.parts.shares()), persistent=False)
        self.descent = Descent(self.parts.whole, sizes.smallest, config.iterations)
        unit = steps / (config.first + config.iterations - 1)
        self.ends = [round(unit * (config.first + number)) for number in range(config.iterations)]

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step, `(parts,)`."""
        return self.scores.sigmoid()

    def penalties(self, step: int) -> dict[str, Tensor]:
        """The losses of the selection's own, weighted, by name."""
        gone = 1 - (self.values(step) * self.shares).sum()
        return {"sparsity": self.config.weight * (gone - self.target(step)).abs()}

    def iteration(self, step: int) -> int:
        """The number of the iteration in which a step lies, from 0."""
        return min(sum(end <= step for end in self.ends), self.config.iterations - 1)

    def target(self, step: int) -> float:
        """The share in the cost of all parts that should be out at the end of a step's iteration."""
        whole = self.parts.whole
        return (whole - self.descent.limit(self.iteration(step) + 1)) / (whole - self.parts.fixed)

    def kept(self, step: int) -> list[int]:
        """The parts that count as kept at a step, most wanted first: those that the cuts so far have left."""
        ranking = descending(self.scores)
        return ranking[: self.parts.fitting(ranking, self.descent.limit(self._cuts(step)))]

    def _cuts(self, step: int) -> int:
        return sum(end <= step for end in self.ends)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Does what follows a step of the optimizer: the cut, at the end of every iteration but the last."""
        if step + 1 not in self.ends[:-1]:
            return
        ranking = descending(self.scores)
        self.before_last_cut.copy_(self.scores)
        lowest = ranking[self.parts.fitting(ranking, self.descent.limit(self._cuts(step + 1))) :]
        self.scores[lowest] = self.config.zeroed

    def ranking(self) -> list[int]:
        """All parts, most wanted first, as the scores have them now."""
        now = descending(self.scores)
        earlier = descending(self.before_last_cut) if self.config.iterations > 1 else now
        kept = now[: self.parts.fitting(now, self.sizes.smallest)]
        return kept + [number for number in earlier if number not in kept]
