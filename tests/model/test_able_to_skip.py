"""Checkpoints that skip: saved and loaded, pruned, elastic; where the first blocks stand when blocks are dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from compress.checkpoint import load_model, save
from compress.conformers import block_units, ctc_head, family_of, fixed_blocks
from compress.elastic import make_elastic, rule_structures
from compress.elastic.rules import ElasticConfig
from compress.model.able_to_skip import able_to_skip
from compress.model.removal import remove
from compress.running.aspects import in_full
from compress.running.skipper import skipper_of
from compress.running.skipping import Skipping, SkippingError, possible_first_blocks, read_skipping, skipping_left
from compress.running.skipping_pass import HEADS
from compress.search.bypass import route_without
from compress.structure import Block, Structure
from tests.helpers.routes import check_cases, processor_for
from tests.helpers.skips import halved, logits, skipper
from tests.helpers.tiny import CTC_MODELS, batch, parakeet, random_structure


def shaken(model: PreTrainedModel, seed: int = 5) -> PreTrainedModel:
    """Heads of its own begin as copies; here they differ."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in getattr(model, HEADS, nn.Module()).parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def skipping(name: str, **more: Any) -> PreTrainedModel:
    model = CTC_MODELS[name]()
    possible = tuple(possible_first_blocks(model))
    return shaken(able_to_skip(model, Skipping(possible[-1], heads=possible, **more)))


@pytest.mark.parametrize("name", CTC_MODELS)
def test_masked_equals_removed(name: str) -> None:
    """Removing units of a model that skips gives what skipping the removed model gives."""
    structure = random_structure(CTC_MODELS[name](), 3, drop_blocks=False)
    model = skipping(name)
    small = remove(model, structure)
    again = able_to_skip(remove(CTC_MODELS[name](), structure), skipper(model).settings)
    again.get_submodule(HEADS).load_state_dict(model.get_submodule(HEADS).state_dict())
    inputs = batch(model)
    halved(small, inputs)
    again.skipper.use(again, small.skipper.settings)
    assert torch.equal(logits(small, inputs), logits(again, inputs))
    assert small.config.skipping == model.config.skipping


def test_the_first_blocks_follow_when_blocks_are_dropped() -> None:
    full = Structure.full("parakeet", 6)
    settings = Skipping(4, heads=(2, 3, 4))

    def left(*dropped: int) -> Skipping | None:
        kept = tuple(None if index in dropped else Block() for index in range(6))
        return skipping_left(settings, full, Structure("parakeet", kept))

    assert left() == settings
    assert left(5) == settings
    assert left(0) == Skipping(3, heads=(1, 2, 3))
    assert left(2) == Skipping(3, heads=(2, 3))  # two heads stand behind the same block: the later one stays
    assert left(4, 5) == Skipping(3, heads=(2, 3))  # behind the last block there is nothing to skip
    assert left(0, 1, 2, 3) is None
    half = Structure("parakeet", (None, Block(), Block(), Block(), Block(), Block()))
    assert skipping_left(
        Skipping(2, heads=(2,)), half, Structure("parakeet", (None, Block(), None, *[Block()] * 3))
    ) == (Skipping(1, heads=(1,)))


def test_heads_stay_with_their_blocks_when_others_are_dropped() -> None:
    model = skipping("parakeet")
    structure = Structure("parakeet", (None, Block(), Block()))
    small = remove(model, structure)
    assert read_skipping(small.config.skipping) == Skipping(1, heads=(1,))
    assert torch.equal(getattr(small, HEADS)[0].weight, getattr(model, HEADS)[1].weight)
    assert getattr(small, HEADS)[0].weight.data_ptr() != getattr(model, HEADS)[1].weight.data_ptr()
    assert route_without(model, (1,)) == "code"
    assert route_without(parakeet(), (1,)) == "stock"


def test_what_has_nothing_left_to_skip_no_longer_skips(caplog: pytest.LogCaptureFixture) -> None:
    model = skipping("parakeet")
    small = remove(model, Structure("parakeet", (None, None, Block())))
    assert skipper_of(small) is None
    assert not any(name.startswith(HEADS) for name in small.state_dict())
    assert "the model no longer skips frames" in caplog.text
    inputs = batch(model)
    plain = remove(parakeet(), Structure("parakeet", (None, None, Block())))
    assert torch.equal(logits(small, inputs), logits(plain, inputs))


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_bert-relative_key", "granite_speech5"])
def test_an_elastic_model_skips_at_every_size_as_the_model_of_that_size(name: str) -> None:
    model = skipping(name, factorised=name == "parakeet")
    depths = range(len(fixed_blocks(model)) + 1, len(block_units(model)))
    elastic = make_elastic(model, rule_structures(model, ElasticConfig(tuple(depths))))
    inputs = batch(model)
    for size, structure in elastic.sizes.items():
        alone = remove(model, structure)
        elastic.activate(size)
        if skipper_of(alone) is None or not alone.skipper.settings.heads:
            assert torch.equal(logits(elastic, inputs), logits(alone, inputs))
            continue
        halved(alone, inputs)
        elastic.set_skipping(threshold=alone.skipper.settings.threshold, extension=0)
        expected = logits(alone, inputs)
        torch.testing.assert_close(logits(elastic, inputs), expected, rtol=0, atol=1e-6)
        assert torch.equal(skipper(elastic).last.deep, skipper(alone).last.deep)


def test_skipping_added_to_an_elastic_model_keeps_what_each_size_has_of_its_own() -> None:
    elastic = make_elastic(parakeet(), rule_structures(parakeet(), ElasticConfig((1, 2))), own=("head",))
    with torch.no_grad():
        for name, tensor in elastic.named_parameters():
            if ".per_size." in name:
                tensor.mul_(1.1)
    both = able_to_skip(elastic, Skipping(1, 1.0, heads=(1,), factorised=False))
    inputs = batch(elastic)
    for size in elastic.sizes:
        elastic.activate(size)
        both.activate(size)
        assert torch.equal(logits(both, inputs), logits(elastic, inputs))
    shared = able_to_skip(elastic, Skipping(2, 0.0, heads=(2,), own_heads=False, factorised=True))
    for size in elastic.sizes:
        shared.activate(size)
        assert logits(shared, inputs).isfinite().all()


def test_in_full_it_computes_what_the_model_without_aspects_does_and_afterwards_as_before() -> None:
    plain = parakeet()
    elastic = make_elastic(plain, rule_structures(plain, ElasticConfig((1, 2))))
    both, inputs = able_to_skip(elastic, Skipping(1, 0.0, heads=(1,))), batch(plain)
    both.activate("2")
    before = logits(both, inputs)
    with in_full(both):
        assert torch.equal(logits(both, inputs), logits(plain, inputs))
    assert both.size == "2"
    assert torch.equal(logits(both, inputs), before)
    assert not torch.equal(before, logits(plain, inputs))
    with in_full(plain):
        assert logits(plain, inputs).isfinite().all()


def test_one_more_head_leaves_those_that_there_are() -> None:
    model = skipping("parakeet")
    fewer = able_to_skip(model, Skipping(2, heads=(2,)))
    assert torch.equal(getattr(fewer, HEADS)[0].weight, getattr(model, HEADS)[1].weight)
    more = able_to_skip(fewer, Skipping(2, heads=(1, 2)))
    assert torch.equal(getattr(more, HEADS)[1].weight, getattr(model, HEADS)[1].weight)
    assert torch.equal(getattr(more, HEADS)[0].weight, ctc_head(model).weight)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([], "must be an object with"),
        ({"first_blocks": 1}, "must be an object with"),
        (Skipping(1, heads=(1,)).__dict__ | {"heads": 1}, "must be a list of numbers"),
        (Skipping(1, heads=(1,)).__dict__ | {"heads": [2, 1]}, "ascending"),
        (Skipping(1, heads=(1,)).__dict__ | {"threshold": "much"}, "is a probability"),
        (Skipping(1, heads=(1,)).__dict__ | {"extension": -1}, "number of neighbours from 0"),
    ],
)
def test_malformed_settings_are_named(saved: Any, message: str) -> None:
    with pytest.raises(SkippingError, match=message):
        read_skipping(saved)


def case(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A checkpoint of a pruned model that skips, and what it must compute in a process of its own."""
    model = CTC_MODELS[name]()
    small = remove(skipping(name, **more), random_structure(model, 4, drop_blocks=False))
    inputs = batch(model)
    halved(small, inputs, extension=1)
    small.config.skipping = {**small.config.skipping, "extension": 1, "threshold": small.skipper.settings.threshold}
    save(small, processor_for(model), folder / name)
    save_file({**inputs, "outputs": logits(small, inputs).contiguous()}, folder / f"{name}.safetensors")
    paths = {"folder": str(folder / name), "tensors": str(folder / f"{name}.safetensors")}
    checks = ["loads", "saved_again", "pipeline", "gradient_checkpointing"]
    return {"name": name, "route": "code", "auto": "AutoModelForCTC", "again": str(folder / f"{name}-again"),
            "checks": checks, **paths}  # fmt: skip


@pytest.mark.parametrize("with_package", [False, True], ids=["file", "package"])
def test_loaded_in_a_fresh_process_it_computes_the_same(tmp_path: Path, with_package: bool) -> None:
    cases = [
        case("parakeet", tmp_path, factorised=True),
        case("lasr", tmp_path),
        case("wav2vec2_conformer-rotary", tmp_path, own_heads=False),
        case("granite_speech5", tmp_path),
    ]
    found = check_cases(cases, tmp_path, with_package=with_package)["results"]
    assert all(result == "ok" for one in found.values() for result in one.values()), json.dumps(found, indent=1)


def test_a_loaded_checkpoint_skips_by_its_config(tmp_path: Path) -> None:
    model = skipping("parakeet")
    save(model, processor_for(parakeet()), tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.skipper.settings == model.skipper.settings == read_skipping(model.config.skipping)
    assert family_of(loaded).name == "parakeet"
