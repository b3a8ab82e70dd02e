"""Selection: which parts a sub-net has while the supernet learns, and in which order of importance they end.

A selection sees the training step and its scores, nothing else. It gives the values by which the parts of the current
sub-net are multiplied, and at the end a ranking of all parts, from which every size is a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.elastic.supernet.limits import Subnets


@dataclass(frozen=True)
class Descent:
    """How the sub-net shrinks: its cost goes from that of the whole model to the smallest size, then stays there.

    Attributes:
        start: the cost of the whole model.
        end: the largest cost of the smallest size.
        steps: training steps of the way down.
        jumps: in how many equal jumps, before each of which the cost stays as long; None: one in each step.
    """

    start: int
    end: int
    steps: int
    jumps: int | None = None

    def limit(self, step: int) -> float:
        """The largest cost of the sub-net at a step."""
        if step >= self.steps:
            return self.end
        jumps = self.jumps or self.steps
        return (jumps * self.start - step * jumps // self.steps * (self.start - self.end)) / jumps


class PartSelection(nn.Module):
    """What every way of selecting has. The scores are parameters, trained together with the weights of the supernet.

    Args:
        sizes: what is to be reached.
        steps: of the whole selection.

    Attributes:
        looks_at_gradients: whether it wants to see what the gates of all parts get in the whole model.
    """

    looks_at_gradients = False

    def __init__(self, sizes: Subnets, steps: int) -> None:
        super().__init__()
        self.sizes, self.parts, self.steps = sizes, sizes.parts, steps

    def values(self, step: int) -> Tensor:
        """The values of all parts in the sub-net of a step: `(parts,)` float32, differentiable in the scores."""
        raise NotImplementedError

    def kept(self, step: int) -> list[int]:
        """The parts that count as kept at a step, most wanted first."""
        raise NotImplementedError

    def ranking(self) -> list[int]:
        """All parts, most wanted first, as the scores have them now."""
        raise NotImplementedError

    def penalties(self, step: int) -> dict[str, Tensor]:
        """Losses of the selection's own, weighted, by name."""
        return {}

    def scale(self, loss: Tensor) -> Tensor | float:
        """A factor on the loss of the sub-net beside its weight."""
        return 1.0

    def see(self, gradient: Tensor) -> None:
        """Call after every step where `looks_at_gradients`, with the gradient `(parts,)` of the loss in gates of 1."""

    def entry_name(self, index: int) -> str:
        """The name of the part to which an entry of the scores belongs."""
        return self.parts.entries[index % len(self.parts)].name

    def after_step(self, step: int) -> None:
        """Call after the optimizer's step."""


def descending(scores: Tensor) -> list[int]:
    """The indices of scores, highest first; equal ones in their order."""
    order: list[int] = torch.sort(scores.detach(), descending=True, stable=True).indices.tolist()
    return order


def k_hot(chosen: Sequence[int], like: Tensor) -> Tensor:
    """A vector like another, 1 at some places and 0 elsewhere."""
    return torch.zeros_like(like).index_fill(0, torch.tensor(list(chosen), dtype=torch.long, device=like.device), 1.0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another (Bengio et al. 2013, arXiv 1308.3432)."""
    return hard.detach() + (soft - soft.detach())
