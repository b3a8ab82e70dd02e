"""Simple-Top-k (Xu et al. 2024, arXiv 2407.18930): one score per part, and the parts of highest score make the sub-net.

The number of parts goes down while the supernet learns. The relaxation is that of Xie and Ermon 2019 (arXiv 1901.10517)
without noise: as many rounds of a softmax as parts are kept, each of which finds what the rounds before it left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.config import check, check_at_least, check_positive
from compress.elastic.supernet.limits import Subnets
from compress.elastic.supernet.selection import Descent, PartSelection, descending, k_hot, straight_through


@dataclass(frozen=True)
class TopKConfig:
    """Settings of Simple-Top-k, with the values of its authors.

    Attributes:
        start: of every score.
        hard: whether the sub-net has its parts as a whole, with the gradient of the relaxed choice (straight-through);
            otherwise it has all parts, by their share in the choice.
        temperature: of the softmax; the authors have none, which is 1.
        descent: share of the selection's steps in which the sub-net shrinks to the smallest size. (Theirs: 384 of 600.)
        jumps: in how many equal jumps it shrinks; null: one part at a time where sizes are numbers of parts, as
            published, else as evenly as parts allow. (They tried 2 to 32.)
    """

    start: float = 0.5
    hard: bool = True
    temperature: float = 1.0
    descent: float = 0.6
    jumps: int | None = None

    def __post_init__(self) -> None:
        check(0 <= self.descent <= 1, "top_k.descent", self.descent, "give a share of the steps from 0 to 1")
        check_positive("top_k.temperature", self.temperature)
        check_at_least("top_k.jumps", self.jumps, 1)


class Shrinking(PartSelection):
    """A selection whose sub-net has as many of the first parts of its ranking as fit, fewer and fewer.

    With sizes as budgets it is the cost of the sub-net that shrinks evenly; with sizes as numbers of parts this is the
    number itself, as published.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        config: how it shrinks.
    """

    def __init__(self, sizes: Subnets, steps: int, config: TopKConfig) -> None:
        super().__init__(sizes, steps)
        self.config = config
        whole, end = self.parts.whole, sizes.smallest
        jumps = config.jumps or (None if self.parts.table else whole - end)
        self.descent = Descent(whole, end, round(config.descent * steps), jumps)

    def kept(self, step: int) -> list[int]:
        """The parts that count as kept at a step, most wanted first."""
        ranking = self.ranking()
        return ranking[: self.parts.fitting(ranking, self.descent.limit(step))]

    def indicator(self, step: int, like: Tensor) -> Tensor:
        """`(parts,)`: 1 for parts that count as kept at a step, else 0."""
        return k_hot(self.kept(step), like)


class TopK(Shrinking):
    """Simple-Top-k.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        config: see there.

    Attributes:
        scores: `(parts,)`.
    """

    def __init__(self, sizes: Subnets, steps: int, config: TopKConfig) -> None:
        super().__init__(sizes, steps, config)
        self.scores = nn.Parameter(torch.full((len(self.parts),), config.start))

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step, `(parts,)`."""
        kept = self.kept(step)
        relaxed = relaxed_top_k(self.scores, len(kept), self.config.temperature)
        return straight_through(k_hot(kept, relaxed), relaxed) if self.config.hard else relaxed

    def ranking(self) -> list[int]:
        """All parts, most wanted first, as the scores have them now."""
        return descending(self.scores)


class FixedOrder(Shrinking):
    """A ranking that is given beforehand, with the descent of Simple-Top-k: only the choice differs.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.
        order: the ranking.
        config: its descent is used.
    """

    order: Tensor

    def __init__(self, sizes: Subnets, steps: int, order: list[int], config: TopKConfig) -> None:
        super().__init__(sizes, steps, config)
        self.register_buffer("order", torch.tensor(order))

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step, `(parts,)`."""
        return self.indicator(step, self.order.float())

    def ranking(self) -> list[int]:
        """All parts, most wanted first, as the scores have them now."""
        ranking: list[int] = self.order.tolist()
        return ranking


def relaxed_top_k(scores: Tensor, count: int, temperature: float = 1.0) -> Tensor:
    """The relaxed indicator of the highest scores: the sum over rounds of a softmax, each masked by those before it.

    Args:
        scores: `(parts,)`.
        count: how many are to be chosen, the number of rounds.
        temperature: of the softmax; towards 0 the indicator becomes that of the `count` highest scores, towards
            infinity each part gets the same share.

    Returns:
        `(parts,)`, which sums to `count`.
    """
    smallest = torch.finfo(scores.dtype).tiny
    logits, chosen, total = scores, torch.zeros_like(scores), torch.zeros_like(scores)
    for _ in range(count):
        logits = logits + (1 - chosen).clamp_min(smallest).log()
        chosen = (logits / temperature).softmax(0)
        total = total + chosen
    return total
