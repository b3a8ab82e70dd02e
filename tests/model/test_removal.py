"""A closed gate and a removed part are the same function; removing leaves the given model untouched."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCTC

import compress
from compress import Block, Structure, StructureError
from compress.conformers import (
    block_units,
    blocks_of,
    family_of,
    frame_mask,
    frame_outputs,
    front_channels,
    kept_units,
    structure_of,
)
from compress.cost import cost_table
from compress.deciding.gates import GATE_KINDS, GateConfig, Gates
from compress.model import removal
from compress.structure import MODULES
from tests.helpers.gating import settle
from tests.helpers.tiny import BLOCKS, CTC_MODELS, MODELS, batch, parakeet, random_structure

CHANNEL_NORMS = ("wav2vec2_bert", "torchaudio_conformer-group", "seamless_m4t_v2", "nemotron")
FRONT_NORMS = ("wav2vec2_conformer",)
FAMILIES = pytest.mark.parametrize("name", MODELS)
SEEDS, DROPPING = range(3), (1, 4, 5)
"""Of random Structures, and of those that drop blocks."""
ALL = GateConfig(units=GATE_KINDS)
EXACT, OF_GATES = 1e-12, 1e-6
"""Of float64, in which another order of sums is no difference; gates and their products are float32 in any model."""


def exact(name):
    """One of the models in float64, and its inputs."""
    model = MODELS[name]().double()
    return model, {key: value.double() if value.is_floating_point() else value for key, value in batch(model).items()}


def valid_logits(model, inputs):
    with torch.no_grad():
        logits = frame_outputs(model, inputs)
    return logits[frame_mask(model, inputs, logits.shape[1])]


def fate(kept):
    return {None: "emptied", "all": "whole"}.get(kept, "part")


@FAMILIES
def test_the_structures_of_these_tests_leave_no_case_out(name):
    """Every module emptied, whole and in part; blocks emptied and dropped; fronts whole and in part."""
    model = MODELS[name]()
    structures = [random_structure(model, seed, drop_blocks=False, front=True) for seed in SEEDS]
    blocks = [block for structure in structures for block in structure.blocks]
    assert Block(None, None, None, None) in blocks
    for module in MODULES:
        assert {fate(getattr(block, module)) for block in blocks} == {"emptied", "whole", "part"}
    for group in front_channels(model):
        assert {fate(structure.of_front(group)) for structure in structures} == {"whole", "part"}
    assert sum(None in random_structure(model, seed).blocks for seed in DROPPING) >= 2  # a block may have to stay


@FAMILIES
@pytest.mark.parametrize("seed", SEEDS)
def test_masked_equals_removed(name, seed):
    """All gates of kept parts at 1, all others at 0: random Structures with emptied modules and emptied blocks."""
    model, inputs = exact(name)
    structure = random_structure(model, seed, drop_blocks=False, front=True)
    gates = Gates(model, ALL)
    with torch.no_grad():
        gates.log_alpha.fill_(4.6)
    masked = copy.deepcopy(model)
    gates.attach(masked)
    settle(gates, structure)
    small = compress.remove(model, structure)
    torch.testing.assert_close(valid_logits(masked, inputs), valid_logits(small, inputs), rtol=0, atol=EXACT)
    if structure != Structure.full(structure.family, BLOCKS):
        assert not torch.allclose(valid_logits(model, inputs), valid_logits(small, inputs), atol=1e-3)


@FAMILIES
@pytest.mark.parametrize("seed", SEEDS)
def test_partial_gates_fold_into_the_weights(name, seed):
    model, inputs = exact(name)
    structure = random_structure(model, seed, drop_blocks=False, front=True)
    gates = Gates(model, ALL)
    with torch.no_grad():
        gates.log_alpha.copy_(2 * torch.randn(gates.log_alpha.shape, generator=torch.Generator().manual_seed(seed)))
    masked, folded = copy.deepcopy(model), copy.deepcopy(model)
    gates.attach(masked)
    settle(gates, structure)
    gates.fold_(folded, gates.values(structure))
    expected = valid_logits(masked, inputs)
    assert gates.folds_exactly == (not name.startswith((*CHANNEL_NORMS, *FRONT_NORMS)))
    if gates.folds_exactly:
        torch.testing.assert_close(valid_logits(folded, inputs), expected, rtol=0, atol=OF_GATES)
    removed = compress.remove(folded, structure)
    torch.testing.assert_close(valid_logits(removed, inputs), expected, rtol=0, atol=OF_GATES)


@FAMILIES
@pytest.mark.parametrize("seed", DROPPING)
def test_dropped_blocks_equal_a_model_that_skips_them(name, seed):
    model, inputs = exact(name)
    structure = random_structure(model, seed, front=True)
    skipped = replace(structure, blocks=tuple(block or Block() for block in structure.blocks))
    reference = compress.remove(model, skipped)
    for block, what in zip(blocks_of(reference), structure.blocks, strict=True):
        if what is None:
            block.forward = lambda hidden_states, *args, **kwargs: hidden_states
    small = compress.remove(model, structure)
    torch.testing.assert_close(valid_logits(small, inputs), valid_logits(reference, inputs), rtol=0, atol=EXACT)


@FAMILIES
def test_the_given_model_is_untouched_and_shares_nothing(name):
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = model.config.to_dict()
    small = compress.remove(model, random_structure(model, 5, front=True))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.config.to_dict() == config


@FAMILIES
def test_a_model_that_is_used_up_gives_the_same_smaller_one_and_lets_its_memory_go(name):
    model = MODELS[name]()
    structure = random_structure(model, 1, front=True)
    expected = compress.remove(model, structure)
    sizes = {key: value.shape for key, value in expected.state_dict().items()}
    originals = {key: weakref.ref(value) for key, value in model.named_parameters()}
    small = compress.remove(model, structure, consume=True)
    assert small.state_dict().keys() == sizes.keys()
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in small.state_dict().items())
    assert small.config.to_dict() == expected.config.to_dict()
    gc.collect()  # a parametrized layer refers to itself
    kept = {id(value) for value in small.parameters()}
    gone = [key for key, found in originals.items() if found() is None]
    assert gone or structure == Structure.full(structure.family, BLOCKS)
    assert all(found() is None or id(found()) in kept for found in originals.values())
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


@FAMILIES
def test_only_what_is_not_sliced_is_copied(name, monkeypatch):
    """A slice is a new tensor already: no tensor of the smaller model is made twice."""
    model, copy_of, copied = MODELS[name](), removal._copy, []
    monkeypatch.setattr(removal, "_copy", lambda tensor: (copied.append(id(tensor)), copy_of(tensor))[1])
    compress.remove(model, random_structure(model, 5, front=True))
    originals = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    assert copied
    assert set(copied) <= originals


@FAMILIES
def test_removing_nothing_changes_nothing(name):
    model = MODELS[name]()
    inputs = batch(model)
    same = compress.remove(model, Structure.full(family_of(model).name, BLOCKS))
    assert torch.equal(frame_outputs(model, inputs), frame_outputs(same, inputs))


@FAMILIES
@pytest.mark.parametrize("seed", DROPPING[1:])
def test_removing_twice_equals_removing_once(name, seed):
    model, inputs = exact(name)
    once = compress.remove(model, random_structure(model, seed, front=True))
    twice = compress.remove(once, random_structure(once, seed + 50, front=True))
    direct = compress.remove(model, structure_of(twice))
    assert [len(kept_units(m)) for m in (once, twice, direct)] == [BLOCKS] * 3
    torch.testing.assert_close(valid_logits(twice, inputs), valid_logits(direct, inputs), rtol=0, atol=EXACT)


@FAMILIES
def test_mode_gradients_and_dtype_are_those_of_the_given_model(name):
    model = MODELS[name]().bfloat16().train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    small = compress.remove(model, random_structure(model, 2, front=True))
    assert small.training
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}


@FAMILIES
def test_removal_works_on_the_meta_device(name):
    model = MODELS[name]()
    structure = random_structure(model, 3, front=True)
    small = compress.remove(copy.deepcopy(model).to("meta"), structure)
    usual = compress.remove(model, structure).state_dict()
    assert {key: value.shape for key, value in small.state_dict().items()} == {k: v.shape for k, v in usual.items()}
    assert {value.device.type for value in small.state_dict().values()} == {"meta"}


@FAMILIES
def test_training_and_attention_backends_work_after_removal(name):
    model = MODELS[name]()
    structure = random_structure(model, 1, front=True)
    small = compress.remove(model, structure)
    inputs = batch(model)
    small.set_attn_implementation("eager")
    model.set_attn_implementation("eager")
    of_eager = valid_logits(compress.remove(model, structure), inputs)
    assert torch.allclose(of_eager, valid_logits(small, inputs), atol=1e-5, equal_nan=True)
    clone = copy.deepcopy(small)
    assert torch.allclose(valid_logits(clone, inputs), valid_logits(small, inputs), rtol=0, atol=0, equal_nan=True)
    small.set_attn_implementation("sdpa")
    if model.supports_gradient_checkpointing:
        small.gradient_checkpointing_enable()
    frame_outputs(small.train(), inputs).sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in small.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", CTC_MODELS)
def test_hidden_states_are_recorded_for_every_surviving_block(name):
    model = MODELS[name]()
    model(**batch(model), output_hidden_states=True)  # installs transformers' recording hooks on the original
    structure = Structure(family_of(model).name, (Block(), None, Block(None, None, None, None)))
    small = compress.remove(model, structure)
    assert len(small(**batch(model), output_hidden_states=True).hidden_states) == 3


def test_a_structure_that_does_not_fit_is_refused():
    model = parakeet()
    with pytest.raises(StructureError, match=r"front.conv1 keeps channel 8, but the model has 8 channels"):
        compress.remove(model, Structure("parakeet", (Block(),) * BLOCKS, {"conv1": (0, 8)}))
    with pytest.raises(StructureError, match=r"front.conv2 is no group .*: its groups are conv0, conv1\."):
        compress.remove(model, Structure("parakeet", (Block(),) * BLOCKS, {"conv2": (0, 1)}))
    with pytest.raises(StructureError, match=r"keeps unit 64, but the model has 64 units"):
        compress.remove(model, Structure("parakeet", (Block(ffn1=(0, 64)), Block(), Block())))
    assert block_units(model)[0]["ffn1"] == 64


def test_a_compressed_config_without_its_structure_never_gives_a_full_model(tmp_path):
    small = compress.remove(parakeet(), Structure("parakeet", (Block(ffn1=None), Block(), Block())))
    small.config.structure = None
    with pytest.raises(StructureError, match="no `structure`"):
        AutoModelForCTC.from_config(small.config)


@pytest.mark.parametrize("units", [("module",), ("front_channel",)])
def test_a_model_with_gates_is_refused(units):
    model = parakeet()
    Gates(model, GateConfig(units=units)).attach(model)
    with pytest.raises(ValueError, match=r"has gates; take them off"):
        compress.remove(model, Structure.full("parakeet", BLOCKS))


def test_a_front_of_more_convolutions_is_cut_with_what_follows_each_of_them():
    """Eight-fold subsampling: a depthwise convolution behind each but the last, a linear layer behind that."""
    model = parakeet(subsampling_factor=8)
    structure = Structure("parakeet", (Block(),) * BLOCKS, {"conv0": (0, 3), "conv1": (1, 2, 7), "conv2": (4, 5)})
    small = compress.remove(model, structure)
    with torch.no_grad():
        layers = model.encoder.subsampling
        layers.layers[3].weight[:, [1, 2, 4, 5, 6, 7]] = 0
        layers.layers[6].weight[:, [0, 3, 4, 5, 6]] = 0
        layers.linear.weight.unflatten(1, (8, -1))[:, [0, 1, 2, 3, 6, 7]] = 0
    inputs = batch(model)
    assert torch.allclose(valid_logits(small, inputs), valid_logits(model, inputs), atol=1e-5)
    assert cost_table(model.config).of(structure) == small.num_parameters()


def streamed(model, features, lookahead=3):
    """The encoder's output of a stream in chunks, with caches of keys, values and convolutions from one to the next."""
    chunk = model.config.encoder_config.subsampling_factor * (lookahead + 1)
    found, arguments = [], {"num_lookahead_tokens": lookahead, "use_cache": True}
    with torch.no_grad():
        for start in range(0, features.shape[1], chunk):
            output = model.encoder(features[:, start : start + chunk], **arguments)
            arguments |= {"past_key_values": output.past_key_values, "padding_cache": output.padding_cache}
            found.append(output.last_hidden_state)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("name", ["nemotron_asr_streaming", "nemotron3_5_asr"])
def test_masked_equals_removed_in_a_stream_too(name):
    """The length of a cache is read where the first attention writes, whichever is the first after removal."""
    model = MODELS[name]()
    blocks, front = (Block(attention=None), Block(attention=(1, 3)), Block()), {"conv0": (0, 2, 5), "conv1": (1, 7)}
    small = compress.remove(model, Structure(name, blocks, front))
    with torch.no_grad():
        subsampling = model.encoder.subsampling
        subsampling.layers[0].pointwise_conv.weight[:, [1, 3, 4, 6, 7]] = 0
        subsampling.linear.weight.unflatten(1, (8, -1))[:, [0, 2, 3, 4, 5, 6]] = 0
        for parameter in model.encoder.layers[0].self_attn.o_proj.parameters():
            parameter.zero_()
        heads = model.encoder.layers[1].self_attn.o_proj.weight.view(32, 4, 8)
        heads[:, [0, 2]] = 0
    features = batch(model)["input_features"][:1]
    assert torch.allclose(streamed(small, features), streamed(model, features), atol=1e-6)


def test_a_table_of_positions_that_has_grown_does_not_matter():
    model = MODELS["wav2vec2_conformer-relative"]()
    structure, inputs = random_structure(model, 1), batch(model)
    expected = valid_logits(compress.remove(model, structure), inputs)
    table = model.wav2vec2_conformer.encoder.embed_positions
    before = table.pe.shape
    frame_outputs(model, {"input_values": torch.randn(1, 12000)})
    assert table.pe.shape != before
    assert torch.allclose(valid_logits(compress.remove(model, structure), inputs), expected, atol=1e-5)
