"""Channels in front of the blocks: scores, budgets that they count in, gates, the refit, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from compress.conformers import frame_mask, frame_outputs, front_channels, front_groups, part, structure_of
from compress.cost import cost_table
from compress.curvature.repair import RefitConfig, Repair
from compress.curvature.scores import obs_scores, variance_scores
from compress.deciding.baselines import magnitude, proportional
from compress.deciding.budget import BudgetConfig, BudgetError, check_reachable, decide, make_budget, reachable
from compress.deciding.decisions import DECISIONS, LEARNED, reachable_budget
from compress.deciding.gates import FRONT_KIND, GATE_KINDS, GateConfig, Gates
from compress.elastic import make_elastic
from compress.latency import LatencyProfile, Line, ProfileError, described_model
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping
from compress.structure import IN_FRONT, Block, Place, Structure, StructureError
from compress.surgery.front_costs import NO_FRONT
from tests.helpers.tiny import BLOCKS, batch, parakeet, random_structure

FRONT = {"conv0": (0, 2, 5), "conv1": (1, 2, 3, 7)}


def lacking() -> Any:
    return compress.remove(parakeet(), Structure("parakeet", (Block(),) * BLOCKS, FRONT))


@pytest.mark.parametrize("metric", ["params", "macs"])
@pytest.mark.parametrize("method", ["magnitude", "proportional"])
def test_budgets_take_channels_only_if_they_may(method: str, metric: str) -> None:
    model, settings = parakeet(), {metric: "40%", "round_to": 2}
    whole, with_front = (make_budget(BudgetConfig(**settings, front=front), model.config) for front in (False, True))
    assert DECISIONS[method](model, whole).front == {}
    structure = DECISIONS[method](model, with_front)
    assert structure.front.keys() == FRONT.keys()
    assert 0.97 * with_front.limit < with_front.table.of(structure) <= with_front.limit
    low = replace(with_front, limit=reachable(whole.table, magnitude(model), 2)[0] - 1)
    with pytest.raises(BudgetError, match=r"let more go \(budget.front; "):
        check_reachable(replace(low, front=False), magnitude(model))
    assert low.table.of(DECISIONS["proportional"](model, low)) <= low.limit


def test_channels_whose_weights_are_zero_have_no_magnitude() -> None:
    model = parakeet()
    gone = {"conv0": [0, 3, 4, 7], "conv1": [1, 2, 5, 6]}
    with torch.no_grad():
        for group in front_groups(model):
            for path in group.rows:
                part(model, path).weight[gone[group.name]] = 0
            part(model, group.last).weight.unflatten(1, (group.channels, group.size))[:, gone[group.name]] = 0
    scores = magnitude(model, front=True).units
    for number, channels in enumerate(gone.values()):
        of_group = scores[Place(IN_FRONT, number)]
        assert [channel for channel, score in enumerate(of_group) if score == 0] == channels


@pytest.mark.parametrize("score", [obs_scores, variance_scores])
def test_moments_score_the_channels_that_begin_the_stream(score: Any) -> None:
    """A Parakeet multiplies what its subsampling gives; the more it does, the more channels count."""
    model = parakeet().double()
    inputs = [{name: value.double() if value.is_floating_point() else value for name, value in batch(model).items()}]
    scores = score(model, inputs, front=True)
    place = Place(IN_FRONT, 1)
    assert scores.keys() - score(model, inputs).keys() == {place}
    assert len(scores[place]) == front_channels(model)["conv1"]
    assert (scores[place] >= 0).all()
    assert scores[place].sum() > 0
    model.encoder.input_scale *= 2
    assert torch.allclose(score(model, inputs, front=True)[place], 4 * scores[place], rtol=1e-6)


@torch.no_grad()
def test_the_layer_behind_the_front_makes_up_for_channels_that_are_gone() -> None:
    whole, inputs = parakeet(), batch(parakeet())

    def distance(model: Any) -> float:
        mine, theirs = frame_outputs(model, inputs), frame_outputs(whole, inputs)
        return float((mine - theirs)[frame_mask(whole, inputs, mine.shape[1])].square().sum())

    small = lacking()
    before = distance(small)
    first, *others = Repair(small, whole, [inputs], RefitConfig()).run()
    assert first.place == Place(IN_FRONT, 1)
    assert first.after < first.before
    assert not any(module.place.in_front for module in others)
    assert distance(small) < 0.7 * before


def test_gates_start_where_there_are_scores_and_the_budget_counts_them() -> None:
    model = parakeet()
    target = BudgetConfig(params="15%", front=True, round_to=2)
    budget = reachable_budget(target, model.config, LEARNED, GateConfig())
    gates = Gates(model, GateConfig().with_front(True))
    assert [group.name for group in gates.groups if group.front] == [f"front.{name}.{FRONT_KIND}" for name in FRONT]
    with torch.no_grad():
        gates.log_alpha[gates.groups[-1].span] = -1
    structure = decide(budget, gates.scores())
    assert structure.front.keys() == {"conv1"}
    assert budget.table.of(structure) <= budget.limit
    without = Gates(model, GateConfig(units=GATE_KINDS, exclude=("front.conv0.*",)))
    assert decide(replace(budget, limit=budget.table.full // 2), without.scores()).front.keys() <= {"conv1"}
    assert not GateConfig().with_front(False).wants("front.conv0.front_channel")


def profile_of(model: Any) -> LatencyProfile:
    """By which a MAC in front costs as much as a microsecond of anything else."""
    lines = {"ffn": Line(1000, 100), "attention": Line(5000, 2000), "conv": Line(9000, 0)}
    said = {"seconds": 1.0, "batch": 1, "threads": 1, "runtime": "torch"}
    front = cost_table(model.config, "macs", seconds=1.0).front.scaled(0.5, 2.0)
    error = {"mean": 0.0, "worst": 0.0}
    return LatencyProfile(described_model(model.config), said, 50_000, 300, lines, 2, error, front)


def test_a_budget_in_time_takes_channels_whose_time_is_known(tmp_path: Path) -> None:
    model, path = parakeet(), tmp_path / "latency.json"
    profile_of(model).save(path)
    profile = LatencyProfile.load(path)
    table, structure = profile.table(model.config), Structure("parakeet", (Block(),) * BLOCKS, FRONT)
    smaller = profile.table(lacking().config)
    assert table.of(structure) == smaller.full == smaller.of(Structure.full("parakeet", BLOCKS)) < table.full
    budget = make_budget(BudgetConfig(latency="70%", profile=str(path), front=True), model.config)
    decided = decide(budget, magnitude(model, front=True))
    assert decided.front.keys() == FRONT.keys()
    assert budget.table.of(decided) <= budget.limit
    gates = Gates(model, GateConfig().with_front(True))
    assert float(budget.table.expected(*gates.expected()).detach()) == pytest.approx(budget.table.full, rel=0.1)


def test_a_profile_that_does_not_tell_what_channels_cost_says_so(tmp_path: Path) -> None:
    model, path = parakeet(), tmp_path / "latency.json"
    replace(profile_of(model), front=NO_FRONT).save(path)
    with pytest.raises(BudgetError, match=r"budget\.front is True; .*latency\.json does not tell what channels there"):
        make_budget(BudgetConfig(latency="50%", profile=str(path), front=True), model.config)
    budget = make_budget(BudgetConfig(latency="50%", profile=str(path)), model.config, "obs")
    assert not budget.front
    with pytest.raises(StructureError, match="not known here: the latency profile does not tell"):
        budget.table.of(Structure("parakeet", (Block(),) * BLOCKS, FRONT))
    with pytest.raises(StructureError, match="leave the front whole"):
        decide(budget, magnitude(model, front=True))
    with pytest.raises(ProfileError, match=r"lacks channels of conv0, conv1 in front .* Make one anew"):
        LatencyProfile.load(path).table(lacking().config)


def test_uniform_structures_keep_the_front_whole_and_say_so() -> None:
    model = parakeet()
    budget = make_budget(BudgetConfig(params="60%", front=True), model.config)
    with pytest.raises(BudgetError, match=r"budget\.front is True; a uniform structure keeps the front whole"):
        DECISIONS["uniform"](model, budget)


def test_a_model_without_channels_in_front_becomes_elastic_and_skips_and_is_compressed_again() -> None:
    small, inputs = lacking(), batch(parakeet())
    expected = frame_outputs(small, inputs)
    sizes = {"2": Structure("parakeet", (Block(), None, Block()))}
    elastic = make_elastic(small, sizes)
    skips = able_to_skip(elastic, Skipping(1, 1.0, heads=(1,), factorised=False))
    for model in (elastic, skips):
        assert structure_of(model).front == FRONT
        assert torch.allclose(frame_outputs(model, inputs), expected, atol=1e-6)
    again = compress.remove(elastic, Structure("parakeet", (Block(),) * BLOCKS, {"conv0": (0, 2)}))
    assert structure_of(again).front == {"conv0": (0, 5), "conv1": FRONT["conv1"]}
    with pytest.raises(StructureError, match="Size 1 runs a part of conv0 in front of the blocks"):
        make_elastic(parakeet(), {"1": Structure("parakeet", (Block(), None, None), {"conv0": (0, 2)})})


@pytest.mark.parametrize(
    ("decision", "settings", "expected"),
    [
        ("obs", {"params": "50%"}, True),
        ("obs", {"macs": "50%"}, True),
        ("obs", {"params": "50%", "front": False}, False),
        ("obs", {"params": "50%", "denominator": "encoder"}, False),
        ("obs", {"latency": "50%"}, True),
        ("obs", {"latency": "50%", "front": False}, False),
        ("learned", {"params": "50%"}, False),
        ("learned", {"params": "50%", "front": True}, True),
        ("magnitude", {"params": "50%"}, False),
    ],
)
def test_who_takes_the_front_unless_told_otherwise(
    decision: str, settings: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    model, path = parakeet(), tmp_path / "latency.json"
    profile_of(model).save(path)
    named = {"profile": str(path)} if "latency" in settings else {}
    assert make_budget(BudgetConfig(**settings, **named), model.config, decision).front is expected


def test_what_scores_of_the_last_channels_cannot_reach_is_refused_beforehand() -> None:
    """`obs` and `variance` score the last group in front alone; the others stay, and count in what can be reached."""
    model = parakeet()
    table = cost_table(model.config)
    all_groups = proportional(model, front=True)
    last = max(place for place in all_groups.units if place.in_front)
    units = {place: of for place, of in all_groups.units.items() if not place.in_front or place == last}
    low, lower = (reachable(table, scores, 2)[0] for scores in (replace(all_groups, units=units), all_groups))
    assert lower < low
    for decision, can in (("fisher", True), ("magnitude", True), ("obs", False), ("variance", False)):
        config = BudgetConfig(params=f"{low - 1}", front=True, round_to=2)
        with nullcontext() if can else pytest.raises(BudgetError, match="reaches from"):
            reachable_budget(config, model.config, decision, GateConfig())


@pytest.mark.parametrize("decision", ["obs", "uniform", LEARNED])
def test_a_start_that_is_within_the_budget_already_stays_whole(decision: str) -> None:
    whole = parakeet()
    small = compress.remove(whole, random_structure(whole, 4))
    limit = str(small.num_parameters() + 1)
    budget = reachable_budget(BudgetConfig(params=limit), whole.config, decision, GateConfig(), small.config)
    assert decide(budget, magnitude(small)) == Structure.full("parakeet", BLOCKS - 1)
    with pytest.raises(BudgetError, match="cannot be reached"):
        reachable_budget(BudgetConfig(params="100%"), whole.config, decision, GateConfig())
