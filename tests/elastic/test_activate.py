"""activate: sizes that keep parts of blocks equal extraction, share every weight, and learn together."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCTC, PreTrainedModel

from compress.checkpoint import load_model, save
from compress.cli import main
from compress.conformers import block_units, blocks_of, family_of, fixed_blocks, structure_of
from compress.cost import cost_table
from compress.deciding.gates import GateConfig, Gates
from compress.elastic import extract, make_elastic, standalone, structure_at
from compress.model.registration import compressed_config
from compress.model.removal import remove
from compress.running.slimmable import SizedPart
from compress.running.subnets import OWN, SizeError
from compress.structure import MODULES, Block, Kept, Structure, StructureError
from tests.helpers.routes import processor_for
from tests.helpers.tiny import CTC_MODELS, batch, parakeet

SIZES = ("small", "middle")


def nested(model: PreTrainedModel, seed: int = 0) -> dict[str, Structure]:
    """Two random sizes of a model, the smaller a part of the larger, with modules and blocks that are not there."""
    chooser, blocks = random.Random(seed), []
    for index, units in enumerate(block_units(model)):
        middle = {name: _some(chooser, list(range(count)), name) for name, count in units.items()}
        small = {name: _some(chooser, list(kept), name) for name, kept in middle.items()}
        drop = index == len(block_units(model)) - 1 and index not in fixed_blocks(model)
        blocks.append((None if drop else _block(small, units), _block(middle, units)))
    family = family_of(model).name
    return {name: Structure(family, tuple(block[place] for block in blocks)) for place, name in enumerate(SIZES)}


def _some(chooser: random.Random, units: list[int], module: str) -> list[int]:
    if module == "conv":
        return units if chooser.random() < 0.6 else []
    return sorted(chooser.sample(units, max(0, len(units) - chooser.randint(0, 1 + len(units) // 2))))


def _block(kept: dict[str, list[int]], units: dict[str, int]) -> Block:
    def entry(name: str) -> Kept:
        return "all" if len(kept[name]) == units[name] else tuple(kept[name]) or None

    return Block(**{name: entry(name) for name in MODULES})


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    """What each size has of its own begins as a copy; here it differs."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if ".per_size." in name and tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model


@pytest.mark.parametrize("name", CTC_MODELS)
def test_every_size_equals_the_extracted_model(name: str, tmp_path: Path) -> None:
    """Units are chosen at random, so they are permuted; also after saving and loading, and with layers of its own."""
    original = CTC_MODELS[name]()
    sizes, inputs = nested(original, seed=len(name)), batch(original)
    expected = {size: remove(original, sizes[size]) for size in SIZES}
    made = make_elastic(original, sizes)
    shaken(make_elastic(original, sizes, OWN)).save_pretrained(tmp_path)
    loaded = AutoModelForCTC.from_pretrained(tmp_path)
    weights = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(made(**inputs).logits, original(**inputs).logits, rtol=0, atol=1e-5)
        for size in (*SIZES, str(len(blocks_of(original))), SIZES[0]):
            made.activate(size)
            assert made.size == size
            wanted = expected.get(size, original)
            torch.testing.assert_close(made(**inputs).logits, wanted(**inputs).logits, rtol=0, atol=1e-5)
            loaded.activate(size)
            alone = standalone(loaded, size)
            assert not any(".per_size." in key for key in alone.state_dict())
            torch.testing.assert_close(loaded(**inputs).logits, alone(**inputs).logits, rtol=0, atol=1e-5)
    assert made.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in made.state_dict().items())


@pytest.mark.parametrize("name", CTC_MODELS)
def test_what_is_extracted_is_what_removal_gives(name: str) -> None:
    """To the last bit, in the first order of units, and its Structure says so: also of an elastic model made anew."""
    original = CTC_MODELS[name]()
    sizes = nested(original, seed=len(name))
    first = make_elastic(original, sizes)
    other = {name: structure for name, structure in nested(first, seed=1).items() if any(structure.blocks)}
    again = make_elastic(first, other)
    whole = Structure.full(family_of(original).name, len(blocks_of(original)))
    ways = [(first, size, remove(original, sizes[size])) for size in SIZES]
    ways += [(again, size, remove(first, other[size])) for size in other]
    for made, size, expected in ways:
        alone = standalone(made, size)
        assert structure_of(alone) == structure_of(expected)
        _assert_same(alone, expected)
        _assert_same(remove(original, structure_of(alone)), expected)
    for made in (first, again):
        _assert_same(remove(made, whole), remove(original, whole))


def _assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_an_order_of_units_that_is_none_is_refused() -> None:
    made = make_elastic(parakeet(), nested(parakeet()))
    made.config.unit_order[1] = {"ffn2": [0, 0, 1]}
    with pytest.raises(StructureError, match=r"unit_order\[1\].ffn2 must hold every unit from 0 once"):
        standalone(made, "small")


def test_layers_of_their_own_are_used_and_saved() -> None:
    model = shaken(make_elastic(parakeet(), nested(parakeet()), OWN))
    plain, inputs = make_elastic(parakeet(), nested(parakeet())), batch(model)
    norms = [layer for layer in model.modules() if type(layer).__name__ == "BatchNorm1d"]
    assert len(model.ctc_head.per_size) == len(SIZES)
    assert len(norms) == (1 + len(SIZES)) * len(blocks_of(model)) + len(_norms_outside(model))
    for size in SIZES:
        model.activate(size)
        plain.activate(size)
        assert not torch.allclose(model(**inputs).logits, plain(**inputs).logits, atol=1e-3)


def _norms_outside(model: PreTrainedModel) -> list[nn.Module]:
    inside = {id(layer) for block in blocks_of(model) for layer in block.modules()}
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d) and id(layer) not in inside]


def test_gradients_reach_the_shared_weights_where_the_size_runs() -> None:
    """They are those of the standalone model, put at the places of its units, and zero elsewhere."""
    model = parakeet()
    structure = Structure("parakeet", (Block(ffn1=tuple(range(16)), attention=(0, 1), conv=None), Block(), Block()))
    made = make_elastic(model, {"small": structure})
    made.activate("small")
    small = remove(model, structure)
    for one in (made, small):
        one.train()
        torch.manual_seed(0)
        one(**batch(model)).logits.square().mean().backward()
    ours, theirs = (dict(blocks_of(one)[0].named_parameters()) for one in (made, small))
    for path, rows in (("feed_forward1.linear1.weight", 16), ("self_attn.q_proj.weight", 16), ("self_attn.bias_u", 2)):
        gradient = ours[path].grad
        assert gradient is not None
        torch.testing.assert_close(gradient[:rows], theirs[path].grad, rtol=1e-4, atol=1e-7)
        assert not gradient[rows:].any()
    assert ours["conv.pointwise_conv1.weight"].grad is None
    assert all(p.grad is not None for p in blocks_of(made)[1].parameters())


def test_a_size_equals_closed_gates() -> None:
    """The same Structure as masks, as a view and as removal: three ways to one function."""
    model = parakeet()
    structure = nested(model)["middle"]
    made, gates = (
        make_elastic(model, {"middle": structure}),
        Gates(model, GateConfig(units=("module", "head", "ffn_unit"))),
    )
    made.activate("middle")
    with torch.no_grad():
        viewed = made(**batch(model)).logits
        gates.attach(model)
        gates.use(gates.mask(structure))
        masked = model(**batch(model)).logits
    torch.testing.assert_close(viewed, masked, rtol=0, atol=1e-5)


def test_switching_sets_one_number_and_nothing_else() -> None:
    """Whatever the size of the model: no part of it gets or loses anything, and all of them see the same number."""
    made = make_elastic(parakeet(), nested(parakeet()), OWN)
    before = [dict(vars(part)) for part in made.modules()]
    sized = [part for part in made.modules() if isinstance(part, SizedPart)]
    assert {id(part.running) for part in sized} == {id(made.running)}
    for place, size in enumerate(made.sizes):
        made.activate(size)
        assert vars(made.running) == {"index": place}
        for part, attributes in zip(made.modules(), before, strict=True):
            assert vars(part).keys() == attributes.keys()
            assert all(vars(part)[name] is value for name, value in attributes.items())


def test_compiled_it_follows_the_size() -> None:
    made, inputs = make_elastic(parakeet(), nested(parakeet()), OWN), batch(parakeet())
    compiled = torch.compile(made, backend="eager", fullgraph=True)
    with torch.no_grad():
        for size in ("3", "small", "middle", "small"):
            compiled.activate(size)
            expected = standalone(made, size)(**inputs).logits
            torch.testing.assert_close(compiled(**inputs).logits, expected, rtol=0, atol=1e-5)


def test_autocast() -> None:
    made, inputs = make_elastic(parakeet(), nested(parakeet())), batch(parakeet())
    made.activate("small")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made(**inputs).logits, standalone(made, "small")(**inputs).logits)


def test_a_compressed_model_gets_sizes_and_an_elastic_one_other_sizes() -> None:
    model = remove(parakeet(), Structure("parakeet", (Block(ffn1=(3, 5, 9), conv=None), None, Block(attention=(1, 2)))))
    sizes = {"half": Structure("parakeet", (Block(ffn1=(1, 2)), Block(attention=(1,), ffn2=None)))}
    made, inputs = make_elastic(model, sizes, OWN), batch(model)
    with torch.no_grad():
        for one in (made, make_elastic(made, {"half": made.sizes["half"]})):
            one.activate("half")
            torch.testing.assert_close(one(**inputs).logits, remove(model, sizes["half"])(**inputs).logits)
    assert structure_of(standalone(made, "2")) == structure_of(model)


def test_it_is_compressed_as_the_model_that_it_is_in_full() -> None:
    made = make_elastic(parakeet(), nested(parakeet()), OWN)
    made.activate("small")
    tables = [cost_table(config) for config in (made.config, compressed_config(made.config, structure_of(made)))]
    assert [replace(table, beside=int, again=None) for table in tables] == [
        replace(tables[0], beside=int, again=None)
    ] * 2
    assert block_units(made) == block_units(parakeet())
    small = remove(made, Structure("parakeet", (Block(), Block(ffn1=(0,)), None)))
    assert small.config.sizes is None
    assert small.config.own_by_size is small.config.unit_order is None


def test_unknown_sizes_and_own_layers_are_refused() -> None:
    made = make_elastic(parakeet(), nested(parakeet()))
    with pytest.raises(SizeError, match="runs at size small, middle, 3, not at '33%'"):
        made.activate("33%")
    with pytest.raises(SizeError, match="has no size 33%: its sizes are small, middle, 3"):
        structure_at(made, "33%")
    with pytest.raises(ValueError, match=r"own_by_size names \['heads'\]"):
        make_elastic(parakeet(), nested(parakeet()), ("heads",))


def test_a_named_size_is_made_and_extracted_by_the_command_line(tmp_path: Path) -> None:
    model, out = parakeet(), str(tmp_path / "third")
    save(model, processor_for(model), tmp_path / "model")
    nested(model)["small"].save(tmp_path / "33%.json")
    elastic = str(tmp_path / "elastic")
    assert (
        main(["elastic", str(tmp_path / "model"), "--structures", f"[{tmp_path / '33%.json'}]", "--out", elastic]) == 0
    )
    assert main(["extract", elastic, "--size", "33%", "--out", out]) == 0
    with torch.no_grad():
        found, inputs = load_model(elastic), batch(model)
        assert list(found.sizes) == ["33%", "3"]
        found.activate("33%")
        torch.testing.assert_close(load_model(out)(**inputs).logits, found(**inputs).logits, rtol=0, atol=1e-5)


def test_extract_wants_a_size_or_a_depth(tmp_path: Path) -> None:
    for words in ({}, {"size": "33%", "depth": 2}):
        with pytest.raises(ValueError, match="Say what to extract"):
            extract("anything", str(tmp_path / "out"), **words)  # type: ignore[arg-type]
