"""Stochastic depth of modules: how often, for whom, and by how much the rest is scaled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, part, prepare_for_training
from compress.structure import MODULES
from compress.student import Noise
from compress.training.stochastic_modules import StochasticModules
from tests.tiny import CTC_MODELS, batch, parakeet

RATE = 0.25


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
@pytest.mark.parametrize(
    "name", ["parakeet", "wav2vec2_bert-rotary", "lasr", "granite_speech5", "torchaudio_conformer-batch"]
)
def test_each_utterance_does_without_a_module_by_itself(name: str, module: str) -> None:
    """A batch of one utterance many times, so that whoever does without it can be told from the output."""
    model = ready(CTC_MODELS[name]())
    inputs = {key: value[:1].repeat(16, *([1] * (value.ndim - 1))) for key, value in batch(model).items()}
    plain = output_of(model, module, inputs)
    stochastic = StochasticModules(model, [(len(blocks_of(model)) - 1, module)], RATE, Noise(1))
    stochastic.draw()
    noisy = output_of(model, module, inputs)
    stays = noisy.flatten(1).abs().sum(1) > 0
    assert plain.shape[0] == 16
    assert 0 < stays.sum() < 16
    expected = plain * (stays / (1 - RATE)).view(-1, *([1] * (plain.ndim - 1)))
    torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(output_of(model.eval(), module, inputs), output_of(model.eval(), module, inputs))


def test_how_often() -> None:
    model = ready(parakeet())
    stochastic = StochasticModules(model, [(0, "conv")], RATE, Noise(0))
    stochastic.draw()
    share = (stochastic._scaled(torch.ones(4000, 1, 1), 0) == 0).float().mean()
    assert share.item() == pytest.approx(RATE, abs=0.03)


def test_evaluation_is_untouched_and_a_rate_of_zero_leaves_the_model_alone() -> None:
    model = parakeet()
    inputs = batch(model)
    with torch.no_grad():
        before = model(**inputs).logits
        every = [(block, name) for block in range(3) for name in MODULES]
        stochastic = StochasticModules(model, every, 0.9, Noise(0))
        stochastic.draw()
        assert torch.equal(model(**inputs).logits, before)
    noise = Noise(0)
    state = noise.generator.get_state()
    StochasticModules(parakeet(), every, 0.0, noise).draw()
    assert torch.equal(noise.generator.get_state(), state)


def test_the_noise_goes_on_where_a_checkpoint_left_it() -> None:
    model, inputs = ready(parakeet()), batch(parakeet())
    stochastic = StochasticModules(model, [(2, "ffn1")], 0.5, Noise(3))
    stochastic.draw()
    state = stochastic.noise.state_dict()
    later = []
    for _ in range(2):
        stochastic.draw()
        later.append(output_of(model, "ffn1", inputs))
        stochastic.noise.load_state_dict(state)
    assert torch.equal(*later)
