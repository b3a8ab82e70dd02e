"""Uniform Structures: equally many heads, FFN units and perhaps channels in every block, chosen by scores.

They are what runtimes can hold that read one width for all blocks. As long as convolutions stay whole, the original
classes of transformers can, too (see `compress.surgery.stock`), so that the result needs no code.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, product

from transformers import PreTrainedModel

from compress.config import check, check_choice
from compress.conformers import block_units, family_of
from compress.deciding.budget import Budget, BudgetError, within
from compress.deciding.by_speech import BY_SPEECH
from compress.deciding.selection import Scores
from compress.structure import MODULES, Block, Kept, Place, Structure

UNIFORM, MAGNITUDE = "uniform", "magnitude"
FFNS = ("ffn1", "ffn2")


@dataclass(frozen=True)
class UniformConfig:
    """How many units a uniform structure keeps of each kind, and which.

    Attributes:
        scores: by which that is decided: `obs`, `fisher` or `variance`, which look at speech, or `magnitude`.
        channels: whether convolutions keep equally many channels in every block, too, instead of all; no class of
            transformers can hold that.
    """

    scores: str = "obs"
    channels: bool = False

    def __post_init__(self) -> None:
        check_choice("uniform.scores", self.scores, (*BY_SPEECH, MAGNITUDE))


DEFAULT_UNIFORM = UniformConfig()


def check_uniform(decision: str, front: bool) -> None:
    """Refuses a uniform decision that may take channels in front of the blocks.

    Raises:
        BudgetError: if it is one.
    """
    clash = front and decision == UNIFORM
    check(not clash, "budget.front", True, "a uniform structure keeps the front whole", BudgetError)


@dataclass(frozen=True)
class _Kind:
    """Modules that keep equally many units in all blocks: what each number of them costs in all, and is worth."""

    modules: tuple[str, ...]
    numbers: Sequence[int]
    costs: Sequence[int]
    worths: Sequence[float]


def uniform(model: PreTrainedModel, budget: Budget, scores: Scores, *, channels: bool = False) -> Structure:
    """The uniform Structure within a budget that keeps most of what scores say units are worth; all blocks stay.

    All heads stay where the original's class can have fewer FFN units, but not fewer heads of the same size.

    Args:
        model: of any family.
        budget: the target.
        scores: of all units; what a unit is worth is its score times what it costs.
        channels: whether convolutions keep equally many channels, too; otherwise they stay whole.

    Raises:
        BudgetError: with the least that can be reached this way, or if channels in front of the blocks are to go.
    """
    check_uniform(UNIFORM, budget.front)
    return within(budget, partial(_uniform, model, scores, channels))


def _uniform(model: PreTrainedModel, scores: Scores, channels: bool, budget: Budget) -> Structure:
    units, table, stock = block_units(model), budget.table, family_of(model).stock
    all_heads = stock is not None and stock.ffn_units is not None and not stock.heads
    names = {"attention": ("attention",), "ffn": FFNS, **({"conv": ("conv",)} if channels else {})}
    *others, ffn = (
        _kind(budget, scores, units, modules, 1 if modules == ("attention",) else budget.round_to, all_heads)
        for modules in sorted(names.values(), key=FFNS.__eq__)
    )
    least = _structure(scores, units, {name: kind.numbers[0] for kind in (*others, ffn) for name in kind.modules})
    fixed = table.of(least) - sum(kind.costs[0] for kind in (*others, ffn))
    _check_reachable(budget, table.of(least))
    choices = []
    for numbers in product(*(range(len(kind.numbers)) for kind in others)):
        pairs = list(zip(others, numbers, strict=True))
        left = budget.limit - fixed - sum(kind.costs[n] for kind, n in pairs)
        widest = bisect_right(ffn.costs, left) - 1
        if widest >= 0:
            pairs.append((ffn, widest))
            choices.append((sum(kind.worths[n] for kind, n in pairs), numbers, pairs))
    _, _, best = max(choices, key=lambda choice: choice[:2])
    return _structure(scores, units, {name: kind.numbers[n] for kind, n in best for name in kind.modules})


def _kind(
    budget: Budget,
    scores: Scores,
    units: Sequence[Mapping[str, int]],
    modules: tuple[str, ...],
    step: int,
    all_heads: bool,
) -> _Kind:
    """The numbers of units that modules of a kind can keep in every block; where one has no more, it stays so."""
    most = min((counts[name] for counts in units for name in modules if counts[name]), default=0)
    numbers = [*range(min(step, most), most, step), most]
    if modules == ("attention",) and all_heads:
        numbers = [most]
    places = {Place.of(b, name): counts[name] for b, counts in enumerate(units) for name in modules if counts[name]}
    costs = [sum(budget.table.module(*place, min(n, count)) for place, count in places.items()) for n in numbers]
    sums = [list(accumulate(_worths(budget, scores, place), initial=0.0)) for place in places]
    return _Kind(modules, numbers, costs, [sum(each[min(n, len(each) - 1)] for each in sums) for n in numbers])


def _worths(budget: Budget, scores: Scores, place: Place) -> list[float]:
    """What the units of a module are worth, the best first."""
    each = max(1, budget.table.each(place))
    return sorted((score * each for score in scores.units[place]), reverse=True)


def _check_reachable(budget: Budget, low: int) -> None:
    if budget.limit >= low:
        return
    said, full = budget.table.said, budget.table.full
    raise BudgetError(
        f"The budget {budget.requested} is {said(budget.limit)} and cannot be reached with equally many units in every "
        f"block: the least is {said(low)} ({low / full:.1%}). Choose a larger budget, uniform.channels, or structure: "
        "proportional, obs or learned, which remove other parts too."
    )


def _structure(scores: Scores, units: Sequence[Mapping[str, int]], wanted: Mapping[str, int]) -> Structure:
    """The Structure with so many units of modules in every block: those with the highest scores."""

    def kept(block: int, name: str) -> Kept:
        there = units[block][name]
        if wanted.get(name, there) >= there:
            return "all" if there else None
        of_units = scores.units[Place.of(block, name)]
        return tuple(sorted(sorted(range(there), key=lambda unit: (-of_units[unit], unit))[: wanted[name]]))

    blocks = [Block(**{name: kept(index, name) for name in MODULES}) for index in range(len(units))]
    return Structure(scores.family, tuple(blocks))
