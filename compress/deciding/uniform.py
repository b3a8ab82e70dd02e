"""Uniform Structures: equally many heads and equally many FFN units in every block, chosen without learning.

They are what the original classes of transformers can hold (see `compress.surgery.stock`), so that the result needs no
code.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from compress.config import check
from compress.conformers import block_units, family_of
from compress.cost import CostTable
from compress.deciding.baselines import magnitude
from compress.deciding.budget import TOLERANCE, Budget, BudgetError
from compress.deciding.selection import Scores
from compress.structure import MODULES, Block, Kept, Place, Structure

FFNS = ("ffn1", "ffn2")


def uniform(model: PreTrainedModel, budget: Budget) -> Structure:
    """The largest uniform Structure within a budget; blocks and convolutions stay whole.

    All heads stay, too, where the original's class can have fewer FFN units, but not fewer heads of the same size. Of
    Structures that differ in cost by less than 0.5 % of the full size, the one with the closest shares of heads and FFN
    units is taken. The units that stay are those of largest norm.

    Raises:
        BudgetError: with the range that can be reached this way, or if channels in front of the blocks are to go.
    """
    check(not budget.front, "budget.front", True, "a uniform structure keeps the front whole", BudgetError)
    units, norms = block_units(model), magnitude(model)
    heads, width = (min(counts[n] for counts in units for n in names if counts[n]) for names in (("attention",), FFNS))
    stock = family_of(model).stock
    fewest = heads if stock and stock.ffn_units and not stock.heads else 1
    widths = [*range(min(budget.round_to, width), width, budget.round_to), width]
    unused = budget.table.unused(_structure(norms, units, fewest, widths[0]))
    costs = {(h, w): _cost(budget.table, h, w) + unused for h in range(fewest, heads + 1) for w in widths}
    _check_reachable(budget, min(costs.values()), max(costs.values()))
    largest = max(cost for cost in costs.values() if cost <= budget.limit)
    least = largest - TOLERANCE * budget.table.full
    near = [counts for counts, cost in costs.items() if least <= cost <= largest]
    closest = min(near, key=lambda counts: (abs(counts[0] / heads - counts[1] / width), -costs[counts]))
    return _structure(norms, units, *closest)


def _cost(table: CostTable, heads: int, width: int) -> int:
    """The cost with so many heads and FFN units in every block; where a block has no more of a module, it stays so."""
    wanted = {"attention": heads, **dict.fromkeys(FFNS, width)}
    return (
        table.base
        + sum(table.block)
        + sum(
            table.module(b, m, min(counts[m], wanted.get(name, counts[m])))
            for b, counts in enumerate(table.units)
            for m, name in enumerate(MODULES)
        )
    )


def _check_reachable(budget: Budget, low: int, high: int) -> None:
    if low <= budget.limit < high:
        return
    full = budget.table.full
    raise BudgetError(
        f"The budget {budget.requested} is {budget.limit:,} and cannot be reached with equally many heads and FFN "
        f"units in every block: that reaches from {low:,} ({low / full:.1%}) to below {high:,} ({high / full:.1%}). "
        "Choose a budget in this range, or structure: proportional, magnitude or learned, which remove other parts too."
    )


def _structure(norms: Scores, units: list[dict[str, int]], heads: int, width: int) -> Structure:
    wanted = {"attention": heads, **dict.fromkeys(FFNS, width)}

    def kept(block: int, name: str) -> Kept:
        there = units[block][name]
        if wanted.get(name, there) >= there:
            return "all" if there else None
        scores = norms.units[Place.of(block, name)]
        return tuple(sorted(sorted(range(there), key=lambda unit: (-scores[unit], unit))[: wanted[name]]))

    blocks = [Block(**{name: kept(index, name) for name in MODULES}) for index in range(len(units))]
    return Structure(norms.family, tuple(blocks))
