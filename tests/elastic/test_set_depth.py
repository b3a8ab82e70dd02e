"""set_depth: equal to extraction at every depth, at once, without touching a weight, however the model is run."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCTC, PreTrainedModel, pipeline

import compress
from compress.conformers import family_of
from compress.elastic import ElasticConfig, make_elastic, rule_structures, structure_at
from compress.model.removal import remove
from compress.running.subnets import SizeError, depths_of
from compress.structure import Block, Structure, StructureError
from tests.helpers.tiny import BLOCKS, CTC_MODELS, OTHER_MODELS, batch, granite_speech5, parakeet

ALL = tuple(range(BLOCKS))


def elastic(model: PreTrainedModel) -> PreTrainedModel:
    return make_elastic(model, rule_structures(model, ElasticConfig(depths=(1, 2))))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CTC_MODELS)
def test_every_depth_equals_the_extracted_model(name: str, tmp_path: Path) -> None:
    """Also after saving and loading, and with one and the same state_dict throughout."""
    original = CTC_MODELS[name]()
    elastic(original).save_pretrained(tmp_path)
    model = AutoModelForCTC.from_pretrained(tmp_path)
    assert sorted(model.depths) == [1, 2, BLOCKS]
    assert model.depth == BLOCKS
    inputs = batch(model)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.testing.assert_close(model(**inputs).logits, original(**inputs).logits, rtol=0, atol=0)
    for depth in (2, 1, BLOCKS, 1):
        model.set_depth(depth)
        assert model.depth == depth
        small = remove(model, structure_at(model, str(depth)))
        assert len(compress.conformers.blocks_of(small)) == depth
        torch.testing.assert_close(model(**inputs).logits, small(**inputs).logits, rtol=0, atol=1e-6)
        assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert model.state_dict().keys() == weights.keys()


def test_the_depths_differ_from_each_other() -> None:
    model = elastic(parakeet())
    found = []
    for depth in model.depths:
        model.set_depth(depth)
        found.append(model(**batch(model)).logits)
    assert not any(torch.allclose(one, other) for one, other in pairwise(found))


def test_autocast_and_gradients() -> None:
    model = elastic(parakeet())
    inputs = batch(model)
    model.set_depth(2)
    small = remove(model, structure_at(model, "2"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(**inputs).logits, small(**inputs).logits)
    with torch.enable_grad():
        model(**inputs).logits.square().mean().backward()
    kept = [any(p.grad is not None for p in block.parameters()) for block in model.encoder.layers]
    assert kept == [index in model.depths[2] for index in ALL]


def test_compiled_it_follows_the_depth() -> None:
    model = elastic(parakeet())
    compiled, inputs = torch.compile(model, backend="eager"), batch(model)
    for depth in (3, 1, 2, 1, 3):
        compiled.set_depth(depth)
        expected = remove(model, structure_at(model, str(depth)))(**inputs).logits
        torch.testing.assert_close(compiled(**inputs).logits, expected, rtol=0, atol=1e-6)


def test_a_copy_switches_by_itself() -> None:
    model = elastic(parakeet())
    other = copy.deepcopy(model)
    other.set_depth(1)
    assert (model.depth, other.depth) == (BLOCKS, 1)


def test_making_leaves_the_given_model_alone_and_shares_no_memory() -> None:
    model = parakeet()
    made = elastic(model)
    assert type(model).__name__ == "ParakeetForCTC"
    assert not hasattr(model, "set_depth")
    assert made.ctc_head.weight.data_ptr() != model.ctc_head.weight.data_ptr()


@pytest.mark.parametrize("name", ["parakeet", "granite_speech5", "wav2vec2_conformer-relative"])
def test_a_compressed_model_becomes_elastic(name: str) -> None:
    """Blocks are counted among those that are left; what it is made from may be a stock or a coded checkpoint."""
    model = CTC_MODELS[name]()
    family = family_of(model).name
    for first in (Block(ffn1=(0, 3, 4)), Block()):
        small = remove(model, Structure(family, (first, None, Block())))
        made = make_elastic(small, {"1": Structure(family, (Block(), None))})
        inputs = batch(model)
        torch.testing.assert_close(made(**inputs).logits, small(**inputs).logits, rtol=0, atol=1e-6)
        made.set_depth(1)
        expected = remove(model, Structure(family, (first, None, None)))
        if family != "granite_speech5" or first != Block():  # with all units it is stock, and counts its blocks anew
            torch.testing.assert_close(made(**inputs).logits, expected(**inputs).logits, rtol=0, atol=1e-6)


def test_what_is_removed_from_an_elastic_model_is_not_elastic() -> None:
    small = remove(elastic(parakeet()), Structure("parakeet", (Block(conv=(0, 1)), Block(), Block())))
    assert small.config.sizes is None
    assert list(small.depths) == [BLOCKS]
    with pytest.raises(SizeError, match="runs at depth 3, not at 2"):
        small.set_depth(2)


def test_an_unknown_depth_is_refused_with_those_there_are() -> None:
    model = elastic(parakeet())
    with pytest.raises(SizeError, match="runs at depth 1, 2, 3, not at 8"):
        model.set_depth(8)
    assert model.depth == BLOCKS


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ({}, "at least one size"),
        ({"2": (Block(), Block(conv=(0,)), None)}, "Size 2 runs a part of the conv of block 1"),
        ({"3": (Block(), Block(), None)}, "Size 3 has the name of the full size"),
        ({"2": (Block(), Block())}, "has 2 blocks, but the model has 3"),
        (
            {"small": (Block(ffn1=(1, 2)), None, None), "large": (Block(ffn1=(0, 1, 3)), Block(), None)},
            "Size large lacks units .2.",
        ),
    ],
)
def test_structures_that_are_no_sizes_are_refused(structures: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        make_elastic(parakeet(), {size: Structure("parakeet", blocks) for size, blocks in structures.items()})


def test_blocks_that_change_the_frame_rate_always_run() -> None:
    model = granite_speech5()
    with pytest.raises(StructureError, match=r"leaves out blocks \[0\]"):
        make_elastic(model, {"1": Structure("granite_speech5", (None, Block(), None))})
    kept = rule_structures(model, ElasticConfig(depths=(1, 2)))
    assert kept["1"].blocks == (Block(), None, None)
    assert kept["2"].blocks == (Block(), None, Block())


def two(blocks: object) -> list[dict[str, object]]:
    return [{"name": "2", "blocks": blocks}]


def test_models_without_a_ctc_head_are_refused() -> None:
    model = OTHER_MODELS["parakeet_tdt"]()
    with pytest.raises(StructureError, match="parakeet_tdt cannot be elastic"):
        make_elastic(model, {"1": Structure("parakeet_tdt", (Block(), None, None))})


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1], "must be a list of objects with a name and blocks, got 1"),
        ({"2": [{}, {}, None]}, "must be a list of objects"),
        ([{"name": 2, "blocks": [{}, {}, None]}], "must be a list of objects"),
        ([{"name": "2", "blocks": [{}, {}, None]}] * 2, "names '2' twice"),
        (two([{}, {}]), r"sizes\['2'\] must be a list with one entry for each of the 3 blocks"),
        (two(None), "must be a list"),
        (two([{}, {}, 1]), r"sizes\['2'\]\[2\] must be null, or an object"),
        (two([{}, {}, {"ffn3": 1}]), "must be null, or an object of ffn1"),
        (two([{}, {}, {"ffn1": 65}]), r"sizes\['2'\]\[2\]\['ffn1'\] must be 0 to 64 units, got 65"),
        (two([{}, {}, {"ffn1": -1}]), "must be 0 to 64"),
        (two([{}, {}, {"attention": True}]), "must be 0 to 4 units, got True"),
        (two([{}, {}, {"conv": 1}]), "a part of the conv"),
        (two([None, None, None]), "Size 2 leaves no block"),
        (two([{}, {}, None]), "Size 2 comes last and must be the full one"),
    ],
)
def test_malformed_sizes_in_a_config_are_named(saved: object, message: str, tmp_path: Path) -> None:
    config = elastic(parakeet()).config
    config.sizes = saved
    with pytest.raises(StructureError, match=message):
        AutoModelForCTC.from_config(config)


def test_the_pipeline_runs_at_the_depth(tmp_path: Path) -> None:
    from compress.training.tokens import TokensConfig, build_processor

    processor = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=16)
    config = parakeet().config
    config.vocab_size, config.pad_token_id = len(processor.tokenizer), processor.tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = elastic(AutoModelForCTC.from_config(config).eval())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model.ctc_head.weight.normal_()
    written = pipeline("automatic-speech-recognition", model=model, tokenizer=processor.tokenizer,
                       feature_extractor=processor.feature_extractor)  # fmt: skip
    speech = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    texts = {}
    for depth in (3, 1, 2):
        model.set_depth(depth)
        alone = remove(model, structure_at(model, str(depth)))
        other = pipeline("automatic-speech-recognition", model=alone, tokenizer=processor.tokenizer,
                         feature_extractor=processor.feature_extractor)  # fmt: skip
        texts[depth] = written(speech.copy())["text"]
        assert texts[depth] == other(speech.copy())["text"]
    assert len(set(texts.values())) > 1


def test_depths_of_are_those_of_the_config() -> None:
    model = elastic(parakeet())
    assert depths_of(model) == {1: (2,), 2: (1, 2), 3: ALL}
    assert model.config.sizes == [
        {"name": "1", "blocks": [None, None, {}]},
        {"name": "2", "blocks": [None, {}, {}]},
        {"name": "3", "blocks": [{}, {}, {}]},
    ]
