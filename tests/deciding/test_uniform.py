"""Uniform Structures: within the budget, close below it, and held by the original's own class where it has one."""

from __future__ import annotations

import pytest

import compress
from compress.conformers import block_units, family_of
from compress.deciding.budget import TOLERANCE, BudgetConfig, BudgetError, make_budget
from compress.deciding.uniform import uniform
from compress.surgery.stock import route_of
from tests.helpers.tiny import MODELS, parakeet, random_structure

CASES = [(name, {"params": "80%"}) for name in MODELS] + [(name, {"macs": "80%"}) for name in ("parakeet", "lasr")]


@pytest.mark.parametrize(("name", "budget"), CASES)
def test_the_result_is_uniform_and_within_the_budget(name: str, budget: dict[str, object]) -> None:
    model = MODELS[name]()
    goal = make_budget(BudgetConfig(**budget, round_to=1), model.config)  # type: ignore[arg-type]
    structure = uniform(model, goal)
    small = compress.remove(model, structure)
    assert goal.table.of(structure) <= goal.limit
    assert goal.table.of(structure) >= goal.limit - 0.02 * goal.table.full
    if goal.table.metric == "params":
        assert sum(p.numel() for p in small.parameters()) == goal.table.of(structure)
    first, *others = block_units(small)
    assert all(one == first for one in others)
    assert first["ffn1"] == first["ffn2"]
    assert first["conv"] == block_units(model)[0]["conv"]
    stock = family_of(model).stock
    assert route_of(small.config) == ("stock" if stock and stock.ffn_units else "code")


def test_it_is_the_largest_up_to_the_tolerance() -> None:
    model = parakeet()
    goal = make_budget(BudgetConfig(params="70%", round_to=8), model.config)
    unit = goal.table.unit[0]
    heads, width = block_units(model)[0]["attention"], block_units(model)[0]["ffn1"]
    full = goal.table.of(compress.Structure.full("parakeet", 3))
    costs = [
        full - 3 * ((heads - h) * unit[1] + (width - w) * (unit[0] + unit[3]))
        for h in range(1, heads + 1)
        for w in range(8, width + 1, 8)
    ]
    best = max(cost for cost in costs if cost <= goal.limit)
    assert best - TOLERANCE * goal.table.full <= goal.table.of(uniform(model, goal)) <= best


@pytest.mark.parametrize(("name", "heads"), [("parakeet", None), ("wav2vec2_bert-rotary", 4)])
def test_an_unreachable_budget_hears_what_is_reachable(name: str, heads: int | None) -> None:
    model = MODELS[name]()
    goal = make_budget(BudgetConfig(params="5%"), model.config)
    with pytest.raises(BudgetError, match=r"equally many heads and FFN units.*reaches from [\d,]+ .*proportional"):
        uniform(model, goal)


def test_a_model_that_lost_modules_keeps_them_lost() -> None:
    model = compress.remove(parakeet(), random_structure(parakeet(), 9))
    goal = make_budget(BudgetConfig(params="70%", round_to=1), model.config)
    structure = uniform(model, goal)
    assert goal.table.of(structure) <= goal.limit
    compress.remove(model, structure)
