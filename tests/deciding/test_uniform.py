"""Uniform Structures: within the budget, close below it, and held by the original's own class where it has one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from transformers import PreTrainedModel

import compress
from compress.conformers import block_units, family_of
from compress.deciding.baselines import magnitude
from compress.deciding.budget import Budget, BudgetConfig, BudgetError, decide, make_budget
from compress.deciding.selection import Scores
from compress.deciding.uniform import FFNS, UniformConfig, uniform
from compress.structure import MODULES, Block, Place, Structure, count_kept
from compress.surgery.stock import route_of
from tests.helpers.tiny import BLOCKS, MODELS, parakeet, random_structure

CASES = [(name, {"params": "80%"}) for name in MODELS] + [(name, {"macs": "80%"}) for name in ("parakeet", "lasr")]


@pytest.mark.parametrize(("name", "budget"), CASES)
def test_the_result_is_uniform_and_within_the_budget(name: str, budget: dict[str, object]) -> None:
    model = MODELS[name]()
    goal = make_budget(BudgetConfig(**budget, round_to=1), model.config)  # type: ignore[arg-type]
    structure = uniform(model, goal, magnitude(model))
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


def scored(model: PreTrainedModel, **worth: float) -> Scores:
    """Scores over costs by which modules of a name are worth so much, and of their units the first ones most."""
    norms = magnitude(model)
    units = {
        place: [worth.get(place.name, 1.0) * (1 - unit / (2 * len(scores))) for unit in range(len(scores))]
        for place, scores in norms.units.items()
    }
    return replace(norms, units=units)


@pytest.mark.parametrize("channels", [False, True])
def test_it_keeps_what_is_worth_most(channels: bool) -> None:
    """Of all uniform Structures within the budget, by trying every one."""
    model = parakeet()
    goal = make_budget(BudgetConfig(params="70%", round_to=8), model.config)
    scores = scored(model, attention=1.3, conv=0.8)

    def worth(structure: Structure) -> float:
        return sum(
            scores.units[Place.of(b, name)][unit] * goal.table.unit[b][m]
            for b, block in enumerate(structure.blocks)
            for m, name in enumerate(MODULES)
            for unit in range(count_kept(getattr(block, name), goal.table.units[b][m]))
        )

    def alike(heads: int, width: int, narrow: int) -> Structure:
        block = Block(*(tuple(range(count)) for count in (width, heads, narrow, width)))
        return Structure("parakeet", (block,) * BLOCKS)

    every = [
        alike(heads, width, narrow)
        for heads, width, narrow in product(range(1, 5), range(8, 65, 8), range(8, 33, 8) if channels else (32,))
    ]
    best = max(worth(each) for each in every if goal.table.of(each) <= goal.limit)
    chosen = uniform(model, goal, scores, channels=channels)
    assert goal.table.of(chosen) <= goal.limit
    assert worth(chosen) == pytest.approx(best)


def test_scores_say_how_many_and_which() -> None:
    """The same budget goes into heads or into FFN units; channels go only if they may."""
    model = parakeet()
    goal = make_budget(BudgetConfig(params="70%", round_to=8), model.config)
    heads, widths = (
        block_units(compress.remove(model, uniform(model, goal, scored(model, **worth))))[0]
        for worth in ({"attention": 9.0}, {"ffn1": 9.0, "ffn2": 9.0})
    )
    assert heads["attention"] > widths["attention"]
    assert heads["ffn1"] < widths["ffn1"]
    narrow = uniform(model, goal, scored(model, conv=0.01), channels=True)
    small = compress.remove(model, narrow)
    assert {counts["conv"] for counts in block_units(small)} == {8}
    assert narrow.blocks[0] is not None
    assert narrow.blocks[0].conv == tuple(range(8))
    assert route_of(small.config) == "code"


def test_scores_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uniform\.scores='proportional' is unknown; choose one of .*obs"):
        UniformConfig(scores="proportional")


@pytest.mark.parametrize(("name", "heads"), [("parakeet", None), ("wav2vec2_bert-rotary", 4)])
def test_an_unreachable_budget_hears_what_is_reachable(name: str, heads: int | None) -> None:
    model = MODELS[name]()
    goal = make_budget(BudgetConfig(params="5%"), model.config)
    with pytest.raises(BudgetError, match=r"equally many units in every block.*the least is [\d,]+ .*proportional"):
        uniform(model, goal, magnitude(model))


def test_a_model_that_lost_modules_keeps_them_lost() -> None:
    model = compress.remove(parakeet(), random_structure(parakeet(), 9))
    goal = make_budget(BudgetConfig(params="70%", round_to=1), model.config)
    structure = uniform(model, goal, magnitude(model))
    assert goal.table.of(structure) <= goal.limit
    compress.remove(model, structure)


def test_a_kind_of_module_that_is_gone_everywhere_stays_gone() -> None:
    whole = parakeet()
    model = compress.remove(whole, Structure("parakeet", (Block(attention=None),) * 3))
    goal = make_budget(BudgetConfig(params="80%", round_to=1), model.config)
    structure = uniform(model, goal, magnitude(model))
    assert goal.table.of(structure) <= goal.limit
    assert compress.remove(model, structure).num_parameters() <= goal.limit


@pytest.mark.parametrize("decision", ["uniform", "decide"])
def test_what_a_class_must_have_beside_the_choice_is_within_the_budget(decision: str) -> None:
    """Where units of FFNs alone go, the original's class holds the result, with a convolution that no pass uses."""
    model = MODELS["wav2vec2_conformer-relative"]()
    table, norms = make_budget(BudgetConfig(params="50%"), model.config).table, magnitude(model)
    widths = {place: norms.units[place] for place in norms.units if place.name in FFNS}
    ffns = Scores(norms.family, {}, widths)
    for width in (16, 40):
        kept = Block(ffn1=tuple(range(width)), ffn2=tuple(range(width)))
        chosen = Structure(norms.family, (kept,) * BLOCKS)
        assert table.beside(chosen) > 2
        for limit in (table.of(chosen) - table.beside(chosen), table.of(chosen) - 1):
            goal = Budget(table, limit, "params", 8)
            found = uniform(model, goal, norms, channels=True) if decision == "uniform" else decide(goal, ffns)
            assert compress.remove(model, found).num_parameters() == table.of(found) <= limit
