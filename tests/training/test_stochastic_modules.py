"""Stochastic depth of modules: how often, for whom, and by how much the rest is scaled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, part
from compress.model.removal import remove
from compress.structure import MODULES, Block, Place, Structure
from compress.training.preparation import prepare_for_training
from compress.training.stochastic_modules import StochasticModules, lacking
from tests.helpers.tiny import CTC_MODELS, batch, parakeet

RATE = 0.25
FAMILIES = pytest.mark.parametrize(
    "name", ["parakeet", "wav2vec2_bert-rotary", "lasr", "granite_speech5", "torchaudio_conformer-batch"]
)


def ready(model: PreTrainedModel) -> PreTrainedModel:
    prepare_for_training(model, dropout=0.0)
    return model.train()


def output_of(model: PreTrainedModel, name: str, inputs: dict[str, Tensor]) -> Tensor:
    """What a module of the last block gives, the batch first."""
    family, seen = family_of(model), list[Tensor]()
    module = part(blocks_of(model)[-1], family.modules[name].path)
    handle = module.register_forward_hook(lambda *found: seen.append(found[2]))
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    output = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    return output.transpose(0, 1) if name in family.frames_first else output


@pytest.mark.parametrize("module", MODULES)
@FAMILIES
def test_each_utterance_does_without_a_module_by_itself(name: str, module: str) -> None:
    model = ready(CTC_MODELS[name]())
    inputs = one_utterance(model)
    plain = output_of(model, module, inputs)
    StochasticModules(model, {Place.of(len(blocks_of(model)) - 1, module): 0}, RATE).start(1)
    noisy = output_of(model, module, inputs)
    stays = noisy.flatten(1).abs().sum(1) > 0
    assert plain.shape[0] == 16
    assert 0 < stays.sum() < 16
    expected = plain * (stays / (1 - RATE)).view(-1, *([1] * (plain.ndim - 1)))
    torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(output_of(model.eval(), module, inputs), output_of(model.eval(), module, inputs))


@pytest.mark.parametrize("module", ["ffn1", "attention"])
@FAMILIES
def test_each_utterance_does_without_some_units_by_itself(name: str, module: str) -> None:
    """The other units run for everybody, as does the bias."""
    model = ready(CTC_MODELS[name]())
    inputs, family, last = one_utterance(model), family_of(model).name, len(blocks_of(model)) - 1
    first = Structure(family, (*[Block()] * last, Block(**{module: (0,)})))
    plain, alone = output_of(model, module, inputs), output_of(ready(remove(model, first)), module, inputs)
    always = lacking(model, first)
    assert always == {Place.of(last, module): 1}
    StochasticModules(model, always, RATE).start(1)
    noisy = output_of(model, module, inputs)
    without = (noisy - alone).flatten(1).abs().amax(1) < 1e-5
    assert 0 < without.sum() < 16
    expected = torch.where(without.view(-1, 1, 1), alone, alone + (plain - alone) / (1 - RATE))
    torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-5)


def one_utterance(model: PreTrainedModel) -> dict[str, Tensor]:
    """A batch of one utterance 16 times, so that whoever does without something can be told from the output."""
    return {key: value[:1].repeat(16, *([1] * (value.ndim - 1))) for key, value in batch(model).items()}


def test_how_often() -> None:
    model = ready(parakeet())
    stochastic = StochasticModules(model, {Place.of(0, "conv"): 0}, RATE)
    stochastic.start(0)
    share = (stochastic._scaled(torch.ones(4000, 1, 1), 0, 0) == 0).float().mean()
    assert share.item() == pytest.approx(RATE, abs=0.03)


def test_modules_are_left_out_independently() -> None:
    model = ready(parakeet())
    stochastic = StochasticModules(model, {Place.of(0, name): 0 for name in ("ffn1", "conv")}, 0.5)
    stochastic.start(0)
    first, second = ((stochastic._scaled(torch.ones(4000, 1, 1), 0, number) == 0).float() for number in (0, 1))
    assert float((first == second).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_evaluation_is_untouched_and_a_rate_of_zero_leaves_the_model_alone() -> None:
    model = parakeet()
    inputs = batch(model)
    with torch.no_grad():
        before = model(**inputs).logits
        every = {
            Place.of(block, name): count for block, count in enumerate((0, 1, 0)) for name in ("ffn1", "attention")
        }
        StochasticModules(model, every, 0.9).start(0)
        assert torch.equal(model(**inputs).logits, before)
    without = ready(parakeet())
    StochasticModules(without, every, 0.0).start(0)
    assert torch.equal(*(output_of(one, "ffn1", inputs) for one in (without, ready(parakeet()))))


def test_the_noise_follows_from_the_seed() -> None:
    model, inputs, found = ready(parakeet()), batch(parakeet()), []
    stochastic = StochasticModules(model, {Place.of(2, "ffn1"): 0}, 0.5)
    for seed in (3, 4, 3):
        stochastic.start(seed)
        found.append(output_of(model, "ffn1", inputs))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
