import copy

import pytest
import torch

from compress.conformers import block_units, frame_outputs
from compress.cost import cost_table
from compress.deciding.baselines import magnitude
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.deciding.gates import GATE_KINDS, GateConfig, Gates
from compress.deciding.starting import start_gates_
from compress.structure import MODULES, Structure
from tests.helpers.tiny import BLOCKS, MODELS, batch, parakeet, random_structure

FAMILIES = pytest.mark.parametrize("name", MODELS)


@FAMILIES
def test_open_gates_change_nothing_and_detaching_restores_the_model(name):
    model = MODELS[name]()
    inputs = batch(model)
    reference = frame_outputs(model, inputs)
    gates = Gates(model, GateConfig(GATE_KINDS, drop_rate=0.5, ffn_drop_rate=0.5))
    gated = copy.deepcopy(model)
    gates.attach(gated)
    gates.use(torch.ones_like(gates.log_alpha))
    assert torch.allclose(frame_outputs(gated, inputs), reference, atol=1e-6)
    gates.sample(torch.Generator().manual_seed(0))
    assert not torch.allclose(frame_outputs(gated, inputs), reference, atol=1e-3)
    gates.detach(gated)
    assert gated.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(frame_outputs(gated, inputs), reference)


@FAMILIES
def test_every_gate_gets_a_gradient_from_the_output(name):
    model = MODELS[name]()
    gates = Gates(model, GateConfig(GATE_KINDS, drop_rate=0.5, ffn_drop_rate=0.5))
    gates.attach(model)
    values = torch.full_like(gates.log_alpha, 0.5).requires_grad_()
    gates.use(values)
    frame_outputs(model, batch(model)).pow(2).sum().backward()
    assert values.grad is not None
    for group in gates.groups:  # of channels some are dead: a ReLU stands behind them
        reached = values.grad[group.span] != 0
        assert reached.any() if group.front else reached.all()


def test_sampled_gates_learn_from_the_loss():
    model = parakeet()
    gates = Gates(model, GateConfig(drop_rate=0.5, ffn_drop_rate=0.5))
    gates.attach(model)
    gates.sample(torch.Generator().manual_seed(0))
    frame_outputs(model, batch(model)).pow(2).sum().backward()
    assert gates.log_alpha.grad is not None
    assert gates.log_alpha.grad.abs().sum() > 0


def test_counts_match_the_model():
    model = parakeet()
    gates = Gates(model)
    by_kind = {kind: sum(g.size for g in gates.groups if g.kind == kind) for kind in GATE_KINDS}
    expected = {"module": 4, "head": 4, "ffn_unit": 128, "conv_channel": 32, "front_channel": 0}
    assert by_kind == {kind: count * BLOCKS for kind, count in expected.items()}
    assert gates.log_alpha.shape == (sum(by_kind.values()),)
    assert gates.log_alpha.dtype == torch.float32


@pytest.mark.parametrize("units", [("module",), ("head",), ("ffn_unit", "conv_channel"), GATE_KINDS])
def test_any_combination_of_kinds(units):
    model = parakeet()
    gates = Gates(model, GateConfig(units=units))
    assert {group.kind for group in gates.groups} == set(units)
    modules, kept, occupied, _ = gates.expected()
    assert torch.allclose(occupied, torch.ones(BLOCKS, 4), atol=0.011)
    counts = torch.tensor([[c[m] for m in MODULES] for c in block_units(model)], dtype=torch.float32)
    assert torch.allclose(modules, torch.ones(BLOCKS, 4), atol=0.011)
    assert torch.allclose(kept, counts, rtol=0.011)
    assert torch.equal(modules == 1, torch.full((BLOCKS, 4), "module" not in units))
    gates.attach(model)
    gates.sample()
    assert torch.isfinite(frame_outputs(model, batch(model))).all()


def test_globs_include_and_exclude():
    gates = Gates(parakeet(), GateConfig(include=("blocks.0.*", "*.conv.*"), exclude=("*.module",)))
    assert {group.name for group in gates.groups} == {
        "blocks.0.ffn1.ffn_unit",
        "blocks.0.attention.head",
        "blocks.0.conv.conv_channel",
        "blocks.0.ffn2.ffn_unit",
        "blocks.1.conv.conv_channel",
        "blocks.2.conv.conv_channel",
    }


def test_senseless_selections_are_refused():
    with pytest.raises(ValueError, match=r"gates.units='heads' is unknown; choose one of module, head"):
        GateConfig(units=("module", "heads"))
    with pytest.raises(ValueError, match=r"gates.units is \[\]; choose from module, head"):
        GateConfig(units=())
    for rate in (0.0, 1.0, 0.001):
        with pytest.raises(
            ValueError, match=r"gates.drop_rate is .*; gates can start closed with a probability above 0.0020"
        ):
            GateConfig(drop_rate=rate)
    with pytest.raises(ValueError, match="select no gate of this model"):
        Gates(parakeet(), GateConfig(include=("layers.*",)))


def test_values_are_zero_outside_the_structure_and_positive_inside():
    model = parakeet()
    gates = Gates(model)
    structure = random_structure(model, 4, drop_blocks=False)
    values = gates.values(structure)
    for group in gates.groups:
        block = structure.blocks[group.block]
        kept = getattr(block, MODULES[group.module])
        units = range(group.size) if kept == "all" or (kept and group.kind == "module") else kept or ()
        assert set((values[group.span] > 0).nonzero().flatten().tolist()) == set(units)


def test_what_is_kept_is_never_multiplied_by_zero():
    """A budget with room for units that are mostly closed does not pay for zeros."""
    model = parakeet()
    gates = Gates(model)
    with torch.no_grad():
        gates.log_alpha.fill_(-2.5)
    assert (gates.distribution.deterministic(gates.log_alpha) == 0).all()
    structure = decide(make_budget(BudgetConfig(params="50%"), model.config), gates.scores())
    kept = gates.mask(structure) > 0
    assert kept.sum() > 100
    assert (gates.values(structure)[kept] > 0.05).all()
    assert (gates.values(structure)[~kept] == 0).all()


@pytest.mark.parametrize(("share", "units"), [(0.6, GATE_KINDS), (0.2, GATE_KINDS), (0.6, ("head", "ffn_unit"))])
def test_gates_start_from_scores_at_the_expected_size(share, units):
    model = parakeet()
    table, gates = cost_table(model.config), Gates(model, GateConfig(units=units, start="obs"))
    scores = magnitude(model, front=True)
    start_gates_(gates, scores, table, int(share * table.full))
    assert float(table.expected(*gates.expected()).detach()) == pytest.approx(share * table.full, rel=0.02)
    started = gates.scores()
    for place, opened in started.units.items():
        order = sorted(range(len(opened)), key=lambda unit: -scores.units[place][unit])
        assert [opened[unit] for unit in order] == sorted(opened, reverse=True)
    gates.clamp_()
    assert float(table.expected(*gates.expected()).detach()) == pytest.approx(share * table.full, rel=0.02)


def test_gates_stay_float32_under_autocast_and_in_half_precision_models():
    model = parakeet().bfloat16()
    gates = Gates(model)
    gates.attach(model)
    inputs = batch(model)
    inputs["input_features"] = inputs["input_features"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        gates.sample()
        logits = frame_outputs(model, inputs)
    assert torch.isfinite(logits).all()
    assert gates.log_alpha.dtype == gates.expected()[0].dtype == torch.float32


def test_clamp_and_statistics():
    gates = Gates(parakeet())
    with torch.no_grad():
        gates.log_alpha.fill_(100.0)
    gates.clamp_()
    assert float(gates.log_alpha.max()) == pytest.approx(4.60517)
    assert gates.statistics()["open/head"] == pytest.approx(0.998, abs=1e-3)
    assert gates.statistics()["undecided/module"] == 0


def test_gates_of_a_compressed_model_leave_removed_modules_out():
    import compress

    model = parakeet()
    small = compress.remove(model, Structure.from_dict({
        "family": "parakeet",
        "blocks": [{"ffn1": None, "attention": [1], "conv": "all", "ffn2": [0, 9]}, None, None],
    }))  # fmt: skip
    gates = Gates(small)
    assert {g.name: g.size for g in gates.groups if g.kind != "module"} == {
        "blocks.0.attention.head": 1,
        "blocks.0.conv.conv_channel": 32,
        "blocks.0.ffn2.ffn_unit": 2,
    }


def test_gated_projections_of_a_kind_share_one_class_while_gates_are_on():
    """A compiler keeps one program for each class of modules; blocks that are alike need one, not one each."""
    model = parakeet()
    before = [type(module) for module in model.modules()]
    gates = Gates(model)
    gates.attach(model)
    gated = [module for module in model.modules() if hasattr(module, "parametrizations")]
    assert len(gated) == len(MODULES) * BLOCKS
    assert len({type(module) for module in gated}) == 2  # linear, and a convolution of one frame
    gates.detach(model)
    assert [type(module) for module in model.modules()] == before


def test_a_start_needs_gates_on_units():
    model = parakeet()
    gates = Gates(model, GateConfig(exclude=("*unit", "*head", "*channel")))
    with pytest.raises(ValueError, match=r"gates.start sets the gates of units, and none are gated"):
        start_gates_(gates, magnitude(model), cost_table(model.config), 1000)
