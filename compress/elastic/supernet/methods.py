"""The ways of selecting, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from compress.config import check, check_at_least, check_choice, check_positive
from compress.elastic.supernet.fisher import FisherConfig, FisherOrder
from compress.elastic.supernet.limits import Subnets
from compress.elastic.supernet.orders import every_other_block, random_order
from compress.elastic.supernet.ortho_softmax import OrthoSoftmax, OrthoSoftmaxConfig
from compress.elastic.supernet.parts import Parts
from compress.elastic.supernet.selection import PartSelection
from compress.elastic.supernet.top_k import FixedOrder, TopK, TopKConfig
from compress.elastic.supernet.zero_out import ZeroOut, ZeroOutConfig

Method = Literal["top_k", "zero_out", "ortho_softmax", "fisher", "random", "every_other_block"]

ORDERS: Mapping[str, Callable[[Parts, int], list[int]]] = {
    "random": random_order,
    "every_other_block": every_other_block,
}
"""Ways that learn nothing; their sub-net shrinks as that of Simple-Top-k does."""


@dataclass(frozen=True)
class SelectionConfig:
    """How the parts of each size are chosen, in the first stage of a supernet.

    Attributes:
        method: `top_k` (Simple-Top-k), `zero_out` (Iterative-Zero-Out), `ortho_softmax` (OrthoSoftmax), `fisher` (by
            squared gradients of gates, with the descent of `top_k`), or, to compare with, `random` and
            `every_other_block`.
        share: of all steps, for this stage; the other ones train the chosen sizes jointly. (Theirs: 3 to 2.)
        full: weight of the loss of the whole net, which is trained in every step.
        sub: weight of the loss of the sub-net; null: as published, 0.3, and 1 where `ortho_softmax` scales that loss
            by itself (`ortho_softmax.focal`).
        learning_rate: of the scores, at the peak of the schedule; null: that of the weights, as published. The scores
            of `zero_out` have a long way to go, from 10 to where their sigmoid closes: in runs of a few thousand steps
            or less they want a higher one, such as 0.1.
        top_k: settings of `top_k`.
        zero_out: settings of `zero_out`.
        ortho_softmax: settings of `ortho_softmax`.
        fisher: settings of `fisher`.
    """

    method: Method = "top_k"
    share: float = 0.6
    full: float = 1.0
    sub: float | None = None
    learning_rate: float | None = None
    top_k: TopKConfig = field(default_factory=TopKConfig)
    zero_out: ZeroOutConfig = field(default_factory=ZeroOutConfig)
    ortho_softmax: OrthoSoftmaxConfig = field(default_factory=OrthoSoftmaxConfig)
    fisher: FisherConfig = field(default_factory=FisherConfig)

    def __post_init__(self) -> None:
        check_choice("selection.method", self.method, get_args(Method))
        check(0 < self.share < 1, "selection.share", self.share, "give a share of the steps above 0 and below 1")
        check_at_least("selection.full", self.full, 0)
        looks = "fisher looks at the gradients of the whole net's loss: give it a weight above 0"
        check(self.full > 0 or self.method != "fisher", "selection.full", self.full, looks)
        check_positive("selection.sub", self.sub)
        check_at_least("selection.learning_rate", self.learning_rate, 0)

    @property
    def weight_of_sub(self) -> float:
        """The weight of the loss of the sub-net."""
        if self.sub is not None:
            return self.sub
        return 1.0 if self.method == "ortho_softmax" and self.ortho_softmax.focal else 0.3


def make_selection(config: SelectionConfig, sizes: Subnets, steps: int, seed: int) -> PartSelection:
    """The selection that a config names.

    Args:
        config: see there.
        sizes: what is to be reached.
        steps: of the selection.
        seed: of whatever it draws.
    """
    if config.method == "top_k":
        return TopK(sizes, steps, config.top_k)
    if config.method == "zero_out":
        return ZeroOut(sizes, steps, config.zero_out)
    if config.method == "ortho_softmax":
        return OrthoSoftmax(sizes, steps, config.ortho_softmax, seed)
    if config.method == "fisher":
        return FisherOrder(sizes, steps, config.top_k, config.fisher)
    return FixedOrder(sizes, steps, ORDERS[config.method](sizes.parts, seed), config.top_k)
