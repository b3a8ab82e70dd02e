from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from compress.conformers import NEW_MODELS, family_of
from compress.elastic import make_elastic
from compress.running.subnets import OWN, subnet_names
from compress.structure import Block, Structure
from compress.training.new_models import ModelConfig, build_model, mel_bins
from tests.helpers.tiny import SETTINGS, batch, parakeet


@pytest.mark.parametrize("family", NEW_MODELS)
def test_a_new_model_is_small_and_ready_to_train(family: str) -> None:
    model = build_model(ModelConfig(family=family), vocabulary_size=30, blank=3)
    assert model.training
    assert 3e6 < model.num_parameters() < 5e6
    assert (model.config.vocab_size, model.config.pad_token_id) == (30, 3)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert all("pos_conv_embed" in name or "masked_spec_embed" in name for name in frozen)
    assert bool(frozen) == (family == "wav2vec2_conformer")


@pytest.mark.parametrize("family", NEW_MODELS)
def test_every_trainable_parameter_gets_a_gradient(family: str) -> None:
    """DDP stops at a parameter without one."""
    config = ModelConfig(family, SETTINGS[family])
    model = build_model(config, vocabulary_size=9, blank=0)
    width = mel_bins(config) * family_of(model).features_per_bin
    shape = (2, 6400) if model.main_input_name == "input_values" else (2, 40, width)
    mask = torch.ones(shape[:2], dtype=torch.long)
    model(**{model.main_input_name: torch.randn(shape), "attention_mask": mask}).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_weights_are_scaled_by_the_inputs_of_their_layer() -> None:
    """One small deviation for all layers lets the signal die in a small model, and CTC stays at its prior."""
    model = build_model(ModelConfig("parakeet"), vocabulary_size=9, blank=8)
    for layer, inputs in (
        (model.encoder.layers[0].conv.depthwise_conv, 9),
        (model.encoder.layers[0].feed_forward1.linear2, 576),
    ):
        assert layer.weight.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.1)


def test_weights_follow_from_the_seed() -> None:
    def build() -> torch.Tensor:
        torch.manual_seed(3)
        model = build_model(ModelConfig("parakeet", {"num_hidden_layers": 1}), vocabulary_size=9, blank=8)
        return torch.nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(build(), build())


def test_a_misspelt_setting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no 'hiden_size' in ParakeetEncoderConfig; did you mean 'hidden_size'\?"):
        build_model(ModelConfig("parakeet", {"hiden_size": 16}), vocabulary_size=9, blank=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either model.family"),
        ({"family": "parakeet", "checkpoint": "dir"}, "either model.family"),
        ({"checkpoint": "dir", "settings": {"hidden_size": 8}}, "remove one of them"),
        ({"family": "whisper"}, "choose one of parakeet, wav2vec2_conformer"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**arguments)  # type: ignore[arg-type]


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "layerdrop": 0.5}
    model = build_model(ModelConfig("parakeet", settings), vocabulary_size=9, blank=8)
    model.save_pretrained(tmp_path)
    again = build_model(ModelConfig(checkpoint=str(tmp_path)), vocabulary_size=9, blank=8)
    assert again.training
    assert again.encoder.layerdrop == 0.0
    assert torch.equal(again.ctc_head.weight, model.ctc_head.weight)


def test_an_elastic_checkpoint_goes_on_at_its_full_size_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its other sizes would be ruined: their heads and norms stay as they are while what they share is trained."""
    half = Structure("parakeet", (Block(ffn1=(1, 3)), None, Block()))
    elastic = make_elastic(parakeet(), {"half": half}, OWN)
    elastic.save_pretrained(tmp_path)
    config, tokens = ModelConfig(checkpoint=str(tmp_path)), {"vocabulary_size": 20, "blank": 19}
    caplog.set_level(logging.INFO, logger="compress")
    assert subnet_names(build_model(config, **tokens, keep_sizes=True)) == ["half", "3"]
    assert not caplog.records
    model = build_model(config, **tokens)
    assert "runs at size half, 3: size 3, all of it, is trained alone" in caplog.text
    assert type(model).__name__ == "ParakeetForCTC"
    assert (model.training, model.encoder.layerdrop) == (True, 0.0)
    inputs = batch(model)
    torch.testing.assert_close(model.eval()(**inputs).logits, elastic.eval()(**inputs).logits)
    model(**inputs).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_mel_bins_are_those_of_the_model() -> None:
    assert mel_bins(ModelConfig("parakeet")) == 80
    assert mel_bins(ModelConfig("parakeet", {"num_mel_bins": 40})) == 40
