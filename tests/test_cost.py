"""The counted cost of a Structure is that of the removed model: parameters by count, MACs by torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import compress
from compress import cost
from compress.checkpoint import load_config
from compress.conformers import family_of, frame_outputs, originals, skeleton
from compress.conformers.originals import ByContent, original_units
from compress.cost import cost_table, dummy_input, size_of
from compress.deciding.gates import GATE_KINDS, GateConfig, Gates
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping
from compress.structure import Block, Structure
from tests.helpers.tiny import BLOCKS, MODELS, parakeet, random_structure

FAMILIES = pytest.mark.parametrize("name", MODELS)
MACS_SECONDS = 1.5
COUNTED_SEEDS = (0, 1)
"""Of the Structures whose MACs are counted, too: that takes ten times as long as counting parameters."""


@FAMILIES
@pytest.mark.parametrize("seed", range(3))
def test_costs_are_exact(name, seed):
    model = MODELS[name]()
    structure = random_structure(model, seed, front=True)
    small = compress.remove(model, structure)
    family = family_of(model)
    encoder = small.get_submodule(family.encoder)
    counted = {
        ("params", "total"): sum(p.numel() for p in small.parameters()),
        ("params", "encoder"): sum(p.numel() for p in encoder.parameters()),
    }
    if seed in COUNTED_SEEDS:
        bones = skeleton(small.config, original=False)
        with FlopCounterMode(display=False) as counter:
            frame_outputs(bones, {family.features: dummy_input(bones, MACS_SECONDS)})
        flops = counter.get_flop_counts()
        name = f"{type(bones).__name__}.{family.encoder}" if family.has_ctc else type(encoder).__name__
        counted["macs", "total"] = counter.get_total_flops() // 2
        counted["macs", "encoder"] = sum(flops[name].values()) // 2
    for (metric, denominator), count in counted.items():
        assert cost_table(model.config, metric, denominator, MACS_SECONDS).of(structure) == count


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_conformer-rotary", "wav2vec2_bert-relative", "seamless_m4t_v2"])
def test_nothing_left_in_the_encoder_costs_nothing_there(name):
    model = MODELS[name]()
    empty = Block(ffn1=None, attention=None, conv=None, ffn2=None)
    structure = Structure(family_of(model).name, (*[None] * (BLOCKS - 1), empty))
    small = compress.remove(model, structure)
    assert size_of(small).total == sum(p.numel() for p in small.parameters())
    for metric in ("params", "macs"):
        assert cost_table(model.config, metric).of(structure) == cost_table(small.config, metric).full


@pytest.mark.parametrize("dropped", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("own_heads", [True, False])
def test_intermediate_heads_go_with_blocks(dropped, own_heads):
    plain = parakeet()
    model = able_to_skip(plain, Skipping(1, heads=(1, 2), own_heads=own_heads))
    structure = Structure("parakeet", tuple(None if number in dropped else Block() for number in range(BLOCKS)))
    small = compress.remove(model, structure)
    assert cost_table(model.config).of(structure) == sum(p.numel() for p in small.parameters())
    encoder = cost_table(model.config, denominator="encoder").of(structure)
    assert encoder == sum(p.numel() for p in small.encoder.parameters())


def test_what_is_known_of_a_model_is_known_of_it_saved_and_loaded(tmp_path, monkeypatch):
    model = MODELS["canary"]()
    size, units = size_of(model), original_units(model.config)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(cost, "_macs", None)
    monkeypatch.setattr(originals, "skeleton", None)
    loaded = load_config(str(tmp_path))
    assert ByContent.of(loaded) == ByContent.of(model.config)
    assert original_units(loaded) is units
    loaded.encoder_config.num_hidden_layers = BLOCKS - 1
    assert ByContent.of(loaded) != ByContent.of(model.config)
    assert size_of(model) is size


@FAMILIES
def test_size_adds_up(name):
    model = MODELS[name]()
    size = size_of(model, MACS_SECONDS)
    assert size.total == sum(p.numel() for p in model.parameters())
    dead = sum(p.numel() for path in family_of(model).dead for p in model.get_submodule(path).parameters())
    inside = sum(sum(block.values()) for block in size.blocks)
    assert inside + dead <= size.encoder <= size.total
    assert sum(sum(block.values()) for block in size.block_macs) <= size.encoder_macs <= size.macs
    assert size.macs_per_second == size.macs / MACS_SECONDS
    assert len(size.blocks) == BLOCKS


@FAMILIES
@pytest.mark.parametrize("metric", ["params", "macs"])
def test_the_expectation_of_decided_gates_is_the_exact_cost(name, metric):
    """With every gate surely open or closed, the expected cost is the exact cost of that Structure."""
    model = MODELS[name]()
    table = cost_table(model.config, metric, seconds=MACS_SECONDS)
    structure = random_structure(model, 7, drop_blocks=False, front=True)
    gates = Gates(model, GateConfig(units=GATE_KINDS))
    with torch.no_grad():
        kept = gates.values(structure) > 0
        gates.log_alpha.copy_(torch.where(kept, 50.0, -50.0))
    # A kept module of the random structure never has all units closed; a closed one costs nothing whatever its units.
    expected = table.expected(*gates.expected())
    assert float(expected.detach()) == pytest.approx(table.of(structure), rel=1e-6)


def test_the_expectation_is_the_mean_cost_of_sampled_gates():
    model = MODELS["parakeet"]()
    table, gates = cost_table(model.config), Gates(model, GateConfig(units=GATE_KINDS))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        gates.log_alpha.copy_(2 * torch.randn(gates.log_alpha.shape, generator=generator))
    costs = []
    for _ in range(400):
        opened = gates.distribution.sample(gates.log_alpha.detach(), generator) > 0
        module_open, units_open = torch.zeros(BLOCKS, 4), torch.zeros(BLOCKS, 4)  # as sampled, so without chance
        channels_open = torch.zeros(len(gates.front))
        for group in gates.groups:
            if group.front:
                channels_open[group.module] = opened[group.span].sum()
                continue
            target = module_open if group.kind == "module" else units_open
            target[group.block, group.module] = opened[group.span].sum()
        costs.append(float(table.expected(module_open, units_open, (units_open > 0).float(), channels_open)))
    assert sum(costs) / len(costs) == pytest.approx(float(table.expected(*gates.expected()).detach()), rel=0.03)


def test_a_module_whose_units_are_all_closed_costs_nothing():
    model = MODELS["parakeet"]()
    table, gates = cost_table(model.config), Gates(model)
    with torch.no_grad():
        gates.log_alpha.fill_(50.0)
        for group in gates.groups:
            if group.kind != "module":
                gates.log_alpha[group.span] = -50.0
    expected = table.expected(*gates.expected())
    assert float(expected.detach()) == pytest.approx(table.base + sum(table.block))
    expected.backward()
    assert torch.isfinite(gates.log_alpha.grad).all()


def test_the_expectation_weighs_probabilities():
    table = cost_table(MODELS["parakeet"]().config)
    half = table.expected(torch.full((BLOCKS, 4), 0.5), torch.tensor(table.units) * 0.5, torch.ones(BLOCKS, 4))
    by_hand = table.base + sum(table.block)
    for b in range(BLOCKS):
        for m in range(4):
            by_hand += 0.5 * (table.fixed[b][m] + 0.5 * table.units[b][m] * table.unit[b][m])
    assert float(half) == pytest.approx(by_hand)


def test_the_cost_of_a_compressed_model_is_counted_from_what_it_is():
    model = MODELS["parakeet"]()
    small = compress.remove(model, random_structure(model, 11, front=True))
    table = cost_table(small.config)
    assert table.full == sum(p.numel() for p in small.parameters())
    assert table.of(Structure.full("parakeet", len(table.units))) == table.full


def test_macs_of_the_real_parakeet_agree_with_the_reference():
    from transformers import ParakeetCTCConfig

    size = size_of(skeleton(ParakeetCTCConfig()), seconds=10.0)
    assert size.total == pytest.approx(608.8e6, rel=1e-3)
    assert 2 * size.macs == pytest.approx(162e9, rel=1e-2)
