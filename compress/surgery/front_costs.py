"""What channels in front of the blocks cost, layer by layer, from what the layers of the whole model cost.

A layer that mixes one group of channels into the next costs as much for every pair of them, so the cost is no sum over
channels, as it is in blocks, but one over channels and over pairs of groups that follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from torch import Tensor

from compress.conformers import FrontGroup
from compress.structure import Structure, StructureError, count_kept

Amount = TypeVar("Amount", int, Tensor)
LayerCost = tuple[int, int]
"""Of a layer: what depends on its inputs and its outputs, as its weight does; and on its outputs alone, as its bias."""


@dataclass(frozen=True)
class FrontCosts:
    """The cost of every number of channels in front of the blocks, for one metric; of no groups where none is known.

    Attributes:
        names: of the groups, in running order.
        channels: of each group of the model as it is.
        single: of each channel of a group, for itself.
        pair: of each channel of a group together with each of the next one; the last group has none.
    """

    names: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    single: tuple[int, ...] = ()
    pair: tuple[int, ...] = ()

    @classmethod
    def of_layers(cls, groups: Sequence[FrontGroup], layers: Mapping[str, LayerCost]) -> FrontCosts:
        """The costs of groups.

        Args:
            groups: of a model.
            layers: what each of their layers costs, by path; layers that are not counted are not there.
        """
        single, pair = [0] * len(groups), [0] * max(0, len(groups) - 1)
        for number, group in enumerate(groups):
            first, *others = group.rows
            weight, bias = layers.get(first, (0, 0))
            alone = sum(sum(layers.get(path, (0, 0))) for path in others) + bias
            if number:
                before = groups[number - 1].channels
                pair[number - 1] = _each(weight, before * group.channels)
            else:
                alone += weight
            single[number] += _each(alone, group.channels)
        if groups:
            single[-1] += _each(layers.get(groups[-1].last, (0, 0))[0], groups[-1].channels)
        names, channels = tuple(group.name for group in groups), tuple(group.channels for group in groups)
        return cls(names, channels, tuple(single), tuple(pair))

    def saved(self, kept: Sequence[Amount]) -> Amount | int:
        """What so many channels of each group cost less than all; of expected numbers, under independent gates."""
        return self._cost(self.channels) - self._cost(kept)

    def _cost(self, kept: Sequence[Amount]) -> Amount | int:
        return sum(self.parts(kept))

    def parts(self, kept: Sequence[Amount]) -> tuple[Amount | int, Amount | int]:
        """What so many channels of each group cost: each for itself, and in pairs."""
        alone = sum(each * count for each, count in zip(self.single, kept, strict=True))
        return alone, sum(each * a * b for each, (a, b) in zip(self.pair, pairwise(kept), strict=True))

    @property
    def whole(self) -> int:
        """What all channels cost."""
        return int(self._cost(self.channels))

    def scaled(self, alone: float, pairs: float) -> FrontCosts:
        """The same groups where one unit of cost is worth so much, in layers of each kind."""
        single, pair = (round(alone * each) for each in self.single), (round(pairs * each) for each in self.pair)
        return replace(self, single=tuple(single), pair=tuple(pair))

    def kept(self, structure: Structure) -> tuple[int, ...]:
        """How many channels of each group a Structure keeps.

        Raises:
            StructureError: if it keeps a part of a group whose cost is not known.
        """
        self.require(bool(self.names) or not structure.front)
        return tuple(
            count_kept(structure.of_front(name), count) for name, count in zip(self.names, self.channels, strict=True)
        )

    def require(self, known: bool) -> None:
        """Refuses what needs costs that are not known.

        Raises:
            StructureError: saying what knows them.
        """
        if not known:
            raise StructureError(
                "What channels in front of the blocks cost is not known here: the latency profile does not tell. Make "
                "one anew with `compress profile`, give a budget in parameters or MACs, or leave the front whole."
            )

    def of_channel(self, number: int) -> int:
        """What goes with one channel of a group, by the number of the group, while all others stay."""
        fewer = [count - (index == number) for index, count in enumerate(self.channels)]
        return int(self.saved(fewer))


NO_FRONT = FrontCosts()
"""Of models with nothing to prune there, and of tables that do not tell what it costs."""


def _each(cost: int, count: int) -> int:
    each, rest = divmod(cost, count)
    assert rest == 0, "a layer in front of the blocks must cost as much for every channel"
    return each
