"""Stock checkpoints: the original's own class holds what it can hold, computes the same, and knows what it was."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import compress
from compress import Block, Structure
from compress.checkpoint import apply_structure, load_config, load_model, save
from compress.conformers import (
    block_units,
    blocks_of,
    family_of,
    frame_outputs,
    kept_units,
    original_config,
    structure_of,
)
from compress.cost import cost_table, size_of
from compress.deciding.gates import GATE_KINDS, GateConfig, Gates
from compress.evaluation.rows import compression_line
from compress.model.registration import compressed_config
from compress.surgery.stock import check_stock, route_of
from tests.helpers.gating import settle
from tests.helpers.routes import processor_for, stock_structure
from tests.helpers.tiny import MODELS, batch, granite_speech5, parakeet, random_structure

STOCK = pytest.mark.parametrize("name", [name for name in MODELS if family_of(MODELS[name]()).stock])

MACS_COUNTED = ("parakeet", "wav2vec2_conformer-relative", "granite_speech5", "canary")
"""Whoever holds the parts that are left: their MACs are those of the same modules, see tests/test_cost.py."""


def masked(model, structure: Structure):
    """The full model with closed gates, in front of its blocks, too, which skips the blocks that are dropped."""
    gates = Gates(model, GateConfig(units=GATE_KINDS))
    with torch.no_grad():
        gates.log_alpha.fill_(4.6)
    gates.attach(model)
    settle(gates, replace(structure, blocks=tuple(block or Block() for block in structure.blocks)))
    for block, what in zip(blocks_of(model), structure.blocks, strict=True):
        if what is None:
            block.forward = lambda hidden_states, *args, **kwargs: hidden_states
    return model


@STOCK
@pytest.mark.parametrize("seed", range(3))
def test_the_original_class_computes_what_is_left(name: str, seed: int) -> None:
    model, inputs = MODELS[name](), batch(MODELS[name]())
    structure = stock_structure(model, seed)
    small = compress.remove(model, structure)
    assert type(small) is type(model)
    assert route_of(small.config) == "stock"
    check_stock(small.config)
    assert torch.allclose(frame_outputs(masked(model, structure), inputs), frame_outputs(small, inputs), atol=1e-5)


@STOCK
def test_it_knows_what_it_was(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    structure = stock_structure(model)
    small = compress.remove(model, structure)
    assert original_config(small.config).to_dict() == model.config.to_dict()
    save(small, None, tmp_path / "small")
    small = load_model(str(tmp_path / "small"))
    assert structure_of(small) == Structure.load(tmp_path / "small" / "structure.json") == structure
    assert [block is None for block in kept_units(small)] == [block is None for block in structure.blocks]
    assert json.loads((tmp_path / "small" / "compression.json").read_text())["route"] == "stock"
    card = (tmp_path / "small" / "README.md").read_text()
    assert "import compress" not in card
    assert f"`{type(model).__name__}` of transformers" in card
    assert route_of(load_config(str(tmp_path / "small"))) == "stock"


@STOCK
def test_it_costs_what_the_cost_model_says(name: str) -> None:
    """With parts that no forward pass uses, which the original's class must have, made as small as can be."""
    model = MODELS[name]()
    structure = stock_structure(model)
    small = compress.remove(model, structure)
    assert cost_table(model.config).of(structure) == sum(p.numel() for p in small.parameters())
    if name in MACS_COUNTED:
        assert cost_table(model.config, "macs").of(structure) == size_of(small).macs
    dead = [p for n, p in small.named_parameters() if n.startswith(tuple(family_of(model).dead) or "\0")]
    assert sum(p.numel() for p in dead) <= 3 * 32
    again = Structure(structure.family, (Block(ffn1=(0, 1), ffn2=(0, 3)),) * len(block_units(small)))
    assert cost_table(small.config).of(again) == sum(p.numel() for p in compress.remove(small, again).parameters())


@STOCK
def test_one_block_that_differs_needs_code(name: str) -> None:
    model = MODELS[name]()
    different = (
        Block(ffn1=None), Block(attention=None), Block(conv=None),
        Block(conv=(0, 1)), Block(ffn1=(0, 1)), Block(attention=(0,)),
    )  # fmt: skip
    for block in different:
        structure = Structure(family_of(model).name, (Block(), block, Block()))
        assert route_of(compressed_config(model.config, structure)) == "code"


def test_fewer_heads_need_code_where_the_config_has_no_size_of_heads() -> None:
    for name, model in ((name, build()) for name, build in MODELS.items()):
        small = compress.remove(model, Structure(family_of(model).name, (Block(attention=(0, 2)),) * 3))
        needs_code = name.startswith(("wav2vec2", "torchaudio", "seamless"))
        assert route_of(small.config) == ("code" if needs_code else "stock")


@pytest.mark.parametrize("dropped", [set(s) for n in range(1, 5) for s in itertools.combinations(range(5), n)], ids=str)
def test_an_encoder_that_does_something_at_its_middle(dropped: set[int]) -> None:
    """Granite Speech 5 feeds its posteriors back after half of its blocks: both halves must lose equally many."""
    config = granite_speech5().config
    config.encoder_config.num_hidden_layers = 5
    torch.manual_seed(0)
    model = type(granite_speech5())(config).eval()
    structure = Structure("granite_speech5", tuple(None if index in dropped else Block() for index in range(5)))
    if 0 in dropped:
        with pytest.raises(compress.StructureError, match="changes the frame rate"):
            compress.remove(model, structure)
        return
    small, inputs = compress.remove(model, structure), batch(model)
    first = sum(index not in dropped for index in range(2))
    assert route_of(small.config) == ("stock" if first == (5 - len(dropped)) // 2 else "code")
    assert torch.allclose(frame_outputs(masked(model, structure), inputs), frame_outputs(small, inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_conformer-relative", "granite_speech5"])
@pytest.mark.parametrize("routes", [("stock", "code"), ("code", "code"), ("stock", "stock"), ("code", "stock")])
def test_compressed_again_over_both_routes(name: str, routes: tuple[str, str], tmp_path: Path) -> None:
    """And what is said of the second compression speaks of the first."""
    model = MODELS[name]()
    family = family_of(model).name
    first = Structure(family, (Block(ffn1=(1, 2)), Block(), None)) if routes[0] == "code" else stock_structure(model)
    blocks = (Block(ffn1=(0, 1), ffn2=(0, 1)),) * 2 if routes[1] == "stock" else (Block(), Block(conv=(3, 4)))
    second = Structure(family, blocks)
    save(model, processor_for(model), tmp_path / "full")
    for teacher, structure, out in (("full", first, "one"), ("one", second, "two")):
        structure.save(tmp_path / f"{out}.json")
        apply_structure(str(tmp_path / teacher), str(tmp_path / f"{out}.json"), str(tmp_path / out))
    one, two = (load_model(str(tmp_path / out)) for out in ("one", "two"))
    assert (route_of(one.config), route_of(two.config)) == routes
    direct, inputs = compress.remove(model, first.then(second)), batch(model)
    assert structure_of(two) == first.then(second)
    assert type(direct) is type(two)
    assert torch.allclose(frame_outputs(direct, inputs), frame_outputs(two, inputs), atol=1e-6)
    sentence = f"one had itself been compressed (apply, from full, {size_of(model).total:,} to {size_of(one).total:,}"
    assert sentence in (tmp_path / "two" / "README.md").read_text()
    facts = json.loads((tmp_path / "two" / "compression.json").read_text())
    assert facts["teacher_compression"]["route"] == routes[0]
    assert sentence in str(compression_line({"compression": facts}))


def test_random_structures_take_the_route_they_can() -> None:
    for seed in range(20):
        model = parakeet()
        small = compress.remove(model, random_structure(model, seed))
        units = block_units(small)
        even = all(u == units[0] and u["ffn1"] == u["ffn2"] and u["conv"] == 32 and u["attention"] for u in units)
        assert route_of(small.config) == ("stock" if even and units[0]["ffn1"] else "code")


def test_a_stock_model_that_counts_its_blocks_anew_is_compressed_again_with_code() -> None:
    model = MODELS["granite_speech5"]()
    once = compress.remove(model, Structure("granite_speech5", (Block(), None, Block())))
    assert route_of(once.config) == "stock"
    twice = compress.remove(once, Structure("granite_speech5", (Block(), Block(conv=(0, 1)))))
    at_once = compress.remove(model, Structure("granite_speech5", (Block(), None, Block(conv=(0, 1)))))
    with torch.no_grad():
        logits = [one(**batch(model)).logits for one in (twice, at_once)]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-6)
