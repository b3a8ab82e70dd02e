"""A latency profile is one more table of costs: of the model that it names, exact, in every budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import compress
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, BudgetError, decide, make_budget
from compress.deciding.selection import Scores
from compress.elastic.supernet.limits import SizesConfig
from compress.files.reading import ReadError
from compress.latency import KIND_OF, LatencyProfile, Line, ProfileError, described_model
from compress.structure import MODULES, Block, Structure
from tests.helpers import tiny
from tests.helpers.tiny import MODELS, random_structure

LINES = {"ffn": Line(1000, 100), "attention": Line(5000, 2000), "conv": Line(9000, 0)}
BASE, BLOCK = 50_000, 300
CONDITIONS = {"seconds": 10.0, "batch": 1, "threads": 1, "runtime": "torch", "device_name": "some processor"}


def profile_of(model, **changes) -> LatencyProfile:  # type: ignore[no-untyped-def]
    error = {"mean": 0.02, "worst": 0.04, "structures": 10}
    profile = LatencyProfile(described_model(model.config), dict(CONDITIONS), BASE, BLOCK, LINES, 16, error)
    return replace(profile, **changes)


@pytest.fixture
def written(tmp_path: Path) -> str:
    profile_of(tiny.parakeet()).save(tmp_path / "latency.json")
    return str(tmp_path / "latency.json")


@pytest.mark.parametrize("name", ["parakeet", "lasr", "canary"])
def test_a_structure_costs_what_its_smaller_model_costs(name: str) -> None:
    model = MODELS[name]()
    structure = random_structure(model, 3)
    table = profile_of(model).table(model.config)
    small = compress.remove(model, structure)
    again = table.of_model(small.config)
    assert table.of(structure) == again.of(Structure.full(structure.family, len(again.units)))
    assert again.full < table.full
    kept = [
        LINES[KIND_OF[name]].fixed + count * LINES[KIND_OF[name]].unit
        for units in again.units
        for name, count in zip(MODULES, units, strict=True)
        if count
    ]
    assert table.of(structure) == BASE + BLOCK * len(again.units) + sum(kept)


def test_a_budget_in_time_takes_shares_and_milliseconds(written: str) -> None:
    model = tiny.parakeet()
    half = make_budget(BudgetConfig(latency="50%", profile=written), model.config)
    assert half.limit == half.table.full // 2
    assert half.round_to == 16
    assert half.requested == "latency 50% at 10 s, batch 1, 1 thread of torch"
    assert make_budget(BudgetConfig(latency="0.1ms", profile=written, round_to=8), model.config).limit == 100_000
    structure = decide(half, proportional(model))
    assert half.table.of(structure) <= half.limit
    with pytest.raises(BudgetError, match=r"is 0\.04 ms and cannot be reached: .* reaches from 0\.05 ms"):
        decide(make_budget(BudgetConfig(latency="0.04ms", profile=written), model.config), proportional(model))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latency": "50%"}, "budget.latency needs budget.profile, the file that `compress profile MODEL` writes"),
        ({"params": "50%", "profile": "x.json"}, "budget.profile is 'x.json'; it belongs to budget.latency"),
        ({"latency": "50%", "params": "50%"}, "Give one of .* got params='50%', latency='50%'"),
        ({"latency": "50%", "denominator": "encoder"}, "only the time of the whole model is measured"),
        ({"latency": "20M"}, "Cannot read the budget '20M'; write a share like 50% or an amount like 20ms"),
        ({"params": "20ms"}, "Cannot read the budget '20ms'; write a share like 50% or an amount like 20M"),
        ({}, "Give one of budget.params, budget.macs and budget.latency, .* got none"),
    ],
)
def test_budgets_in_time_that_mean_nothing_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        make_budget(BudgetConfig(**settings), tiny.parakeet().config)


def test_a_length_other_than_that_of_the_profile_is_refused(written: str) -> None:
    config = tiny.parakeet().config
    with pytest.raises(BudgetError, match=r"budget\.seconds is 5\.0; budget\.profile was measured at 10 s"):
        make_budget(BudgetConfig(latency="50%", profile=written, seconds=5.0), config)
    with pytest.raises(BudgetError, match=r"sizes\.seconds is 5\.0; sizes\.profile was measured at 10 s"):
        SizesConfig(latency=("50%",), profile=written, seconds=5.0).table(config)


def test_sizes_can_be_times(written: str) -> None:
    sizes = SizesConfig(latency=("100%", "0.12ms"), profile=written)
    table = sizes.table(tiny.parakeet().config)
    assert table is not None
    assert [sizes.amount(name, table.full) for name in sizes.names] == [table.full, 120_000]
    assert sizes.round_to == 16
    assert sizes.key == "sizes.latency"


def test_a_profile_of_another_model_is_refused_by_what_differs(written: str) -> None:
    profile = LatencyProfile.load(written)
    assert profile == profile_of(tiny.parakeet())
    with pytest.raises(ProfileError, match="another model: its family is 'parakeet'; this model has 'lasr'"):
        profile.table(tiny.lasr().config)
    other = replace(profile, model={**profile.model, "blocks": 7})
    with pytest.raises(ProfileError, match=r"its blocks is 7; this model has 3; make one .* `compress profile`"):
        other.table(tiny.parakeet().config)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.pop("nanoseconds"), r"latency\.json lacks nanoseconds\.base\. A latency .* `compress"),
        (lambda content: content["nanoseconds"]["ffn"].update(unit=1.5), r"ffn\.unit must be a whole number"),
        (lambda content: content["nanoseconds"].update(base=-1), r"nanoseconds\.base is -1"),
        (lambda content: content["nanoseconds"].update(front=[1]), r"nanoseconds\.front must be an object"),
        (lambda content: content["nanoseconds"].update(front={"a": {"single": 1}}), r"lacks .*front\.a\.pair"),
        (lambda content: content["nanoseconds"].update(front={"a": {"single": -1, "pair": 0}}), r"a\.single is -1"),
        (lambda content: content.update(round_to=0), "round_to is 0"),
        (lambda content: content["conditions"].update(threads="all"), r"conditions\.threads must be a whole number"),
    ],
)  # fmt: skip
def test_a_damaged_profile_is_refused_by_its_key(written: str, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    content = json.loads(Path(written).read_text())
    damage(content)
    Path(written).write_text(json.dumps(content))
    with pytest.raises((ReadError, ProfileError), match=message):
        LatencyProfile.load(written)


def test_a_module_whose_fixed_cost_buys_more_elsewhere_goes_as_a_whole(written: str) -> None:
    """The convolution's units cost nothing here, so one by one they would all be taken, and pay their fixed cost."""
    model = tiny.parakeet()
    budget = make_budget(BudgetConfig(latency="55%", profile=written), model.config)
    worth = {"ffn1": 9.0, "attention": 9.0, "conv": 10.0, "ffn2": 9.0}
    units = {place: [worth[place.name]] * len(scores) for place, scores in proportional(model).units.items()}
    scores = Scores("parakeet", dict.fromkeys(units, 1.0), units, per_cost=True)
    assert [block.conv for block in blocks_of(decide(budget, scores))] == [None] * tiny.BLOCKS
    alone = decide(budget, replace(scores, per_cost=False))
    assert all(block.conv is not None for block in blocks_of(alone))
    assert kept_worth(decide(budget, scores), worth) > kept_worth(alone, worth)


def test_modules_that_cost_nothing_stay(tmp_path: Path) -> None:
    model, path = tiny.parakeet(), tmp_path / "latency.json"
    profile_of(model, lines=LINES | {"conv": Line(0, 0)}).save(path)
    budget = make_budget(BudgetConfig(latency="55%", profile=str(path)), model.config)
    units = {place: [1.0] * len(scores) for place, scores in proportional(model).units.items()}
    structure = decide(budget, Scores("parakeet", dict.fromkeys(units, 1.0), units, per_cost=True))
    assert [block.conv for block in blocks_of(structure)] == ["all"] * tiny.BLOCKS
    assert budget.table.of(structure) <= budget.limit


def blocks_of(structure: Structure) -> list[Block]:
    return [block for block in structure.blocks if block is not None]


def kept_worth(structure: Structure, worth: dict[str, float]) -> float:
    full = {"ffn1": 64, "attention": 4, "conv": 32, "ffn2": 64}
    unit = {name: max(1, LINES[KIND_OF[name]].unit) for name in MODULES}
    counts = [
        (name, full[name] if kept == "all" else len(kept or ()))
        for block in blocks_of(structure)
        for name, kept in ((name, getattr(block, name)) for name in MODULES)
    ]
    return sum(worth[name] * unit[name] * count for name, count in counts)
