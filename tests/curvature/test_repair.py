"""The refit of whole models: what it leaves alone, what it never makes worse, and what it brings back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import compress
from compress.conformers import frame_mask, frame_outputs
from compress.curvature.moments import alone
from compress.curvature.passage import one_by_one
from compress.curvature.repair import RefitConfig, Refitted, Repair
from compress.structure import Block, Structure
from tests.helpers.tiny import CTC_MODELS, MODELS, batch, parakeet, random_structure, torchaudio_conformer


def speech(model: Any) -> list[dict[str, Tensor]]:
    """Two utterances, singly where a model wants that."""
    both = batch(model)
    if not one_by_one(model):
        return [both]
    return [{name: value[n : n + 1] for name, value in both.items()} for n in range(2)]


def distance(model: Any, other: Any, batches: list[dict[str, Tensor]]) -> float:
    total = 0.0
    for inputs in batches:
        mine, theirs = frame_outputs(model, inputs), frame_outputs(other, inputs)
        total += float((mine - theirs)[frame_mask(model, inputs, mine.shape[1])].square().sum())
    return total


def repaired(small: Any, whole: Any, batches: list[dict[str, Tensor]], **settings: Any) -> list[Refitted]:
    return list(Repair(small, whole, batches, RefitConfig(**settings)).run())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_smaller_model_comes_nearer_to_the_whole_one(name: str) -> None:
    whole = MODELS[name]()
    batches = speech(whole)
    small = compress.remove(whole, random_structure(whole, 4, front=True))
    before, parameters = distance(small, whole, batches), small.num_parameters()
    modules = repaired(small, whole, batches)
    assert modules
    assert all(module.after <= module.before + 1e-9 for module in modules)
    assert distance(small, whole, batches) < 0.7 * before
    assert small.num_parameters() == parameters


@torch.no_grad()
def test_modules_are_refitted_in_the_order_in_which_they_run() -> None:
    whole = torchaudio_conformer(use_group_norm=False, convolution_first=True)
    kept = Block(attention=(0,), conv=(0, 1, 2))
    small = compress.remove(whole, Structure("torchaudio_conformer", (kept, Block(), Block())))
    running = [module.place.name for module in repaired(small, whole, speech(whole))][:4]
    assert running == ["ffn1", "conv", "attention", "ffn2"]


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_bert-rotary", "granite_speech5", "torchaudio_conformer-batch"])
@pytest.mark.parametrize("inputs", ["small", "whole"])
@torch.no_grad()
def test_where_nothing_was_removed_nothing_changes(name: str, inputs: str) -> None:
    whole = MODELS[name]()
    same = compress.remove(whole, Structure.full(random_structure(whole, 0).family, 3))
    repaired(same, whole, speech(whole), inputs=inputs)
    for mine, theirs in zip(same.state_dict().values(), whole.state_dict().values(), strict=False):
        if mine.shape == theirs.shape and mine.is_floating_point():
            assert torch.allclose(mine, theirs, atol=1e-5)
    assert distance(same, whole, speech(whole)) < 1e-6


@torch.no_grad()
def test_the_whole_model_is_left_alone_and_batches_do_not_matter() -> None:
    whole = parakeet()
    state = copy.deepcopy(whole.state_dict())
    both = batch(whole)
    lengths = both["attention_mask"].sum(1).tolist()
    singly = [{name: value[n : n + 1, :length] for name, value in both.items()} for n, length in enumerate(lengths)]
    structure = random_structure(whole, 4)
    first, second = compress.remove(whole, structure), compress.remove(whole, structure)
    repaired(first, whole, [both])
    repaired(second, whole, singly)
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in state.items())
    assert distance(first, second, [both]) < 1e-5


@torch.no_grad()
def test_sums_of_two_processes_are_those_of_one() -> None:
    """Each adds up what the other has seen; here one of them stands for both by counting everything twice."""
    whole = parakeet()
    structure = random_structure(whole, 4)
    single, doubled = compress.remove(whole, structure), compress.remove(whole, structure)
    list(Repair(single, whole, [batch(whole)], RefitConfig(), alone).run())
    list(Repair(doubled, whole, [batch(whole)], RefitConfig(), lambda sums: 2 * sums).run())
    assert distance(single, doubled, [batch(whole)]) < 1e-6


@torch.no_grad()
def test_running_statistics_follow_what_was_removed_before_them() -> None:
    whole = CTC_MODELS["torchaudio_conformer-batch"]()
    structure = Structure("torchaudio_conformer", (Block(ffn1=None), Block(), Block(conv=(1, 5, 9))))
    small = compress.remove(whole, structure)
    norms = [small.encoder.conformer_layers[n].conv_module.sequential[3] for n in (0, 2)]
    before = [norm.running_mean.clone() for norm in norms]
    repaired(small, whole, speech(whole), statistics=False)
    assert all(map(torch.equal, before, (norm.running_mean for norm in norms)))
    repaired(small, whole, speech(whole))
    assert not any(map(torch.equal, before, (norm.running_mean for norm in norms)))


@torch.no_grad()
def test_what_is_not_finite_is_named_by_its_module() -> None:
    whole = parakeet()
    small = compress.remove(whole, random_structure(whole, 4))
    assert random_structure(whole, 4).survivors[1] == 2
    small.encoder.layers[1].conv.pointwise_conv1.weight.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"blocks.2.conv is not finite on this speech"):
        repaired(small, whole, speech(whole))


def test_senseless_settings_are_refused() -> None:
    for settings, message in (
        ({"utterances": 0}, "refit.utterances is 0; give at least 1"),
        ({"ridge": 0.0}, "refit.ridge is 0.0; give a share"),
        ({"inputs": "both"}, "refit.inputs='both' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            RefitConfig(**settings)  # type: ignore[arg-type]
