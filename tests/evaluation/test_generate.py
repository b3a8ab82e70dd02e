"""Models without a CTC head write by their own `generate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from compress.conformers import family_of
from compress.data import extract_features, feature_extractor_of
from compress.evaluation.generate import GenerateConfig, generate
from tests.helpers.processors import processor_of
from tests.helpers.tiny import OTHER_MODELS

RATE = 16000


def waves(*seconds: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.1 * random.standard_normal(round(length * RATE)).astype(np.float32) for length in seconds]


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_every_utterance_is_written_down(name: str) -> None:
    model = OTHER_MODELS[name]()
    processor = processor_of(model)
    inputs = extract_features(feature_extractor_of(processor), waves(2, 1), RATE)
    assert set(inputs) == {"input_features", "attention_mask"}
    assert inputs["attention_mask"].sum(1).tolist()[1] < inputs["attention_mask"].shape[1]
    with torch.no_grad():
        texts = generate(model, inputs, processor, GenerateConfig(max_new_tokens=5))
    assert len(texts) == 2
    assert all(isinstance(text, str) for text in texts)


def without_blanks(name: str, duration: int | None = None) -> PreTrainedModel:
    """A transducer that says as much as it may, each token for so many frames if it tells."""
    model = OTHER_MODELS[name]()
    with torch.no_grad():
        model.joint.head.weight.mul_(20)
        model.joint.head.bias[model.config.blank_token_id] -= 1000
        if duration is not None:
            model.joint.head.bias[model.config.vocab_size + duration] += 1000
    return model


@pytest.mark.parametrize("name", [name for name in OTHER_MODELS if family_of(OTHER_MODELS[name]()).prompt == "none"])
def test_a_batch_is_its_utterances_one_by_one(name: str) -> None:
    """A transducer says nothing in the padding, and the last frame's tokens are all there."""
    for duration in (None, 0, 1, 3) if name == "parakeet_tdt" else (None,):
        model = without_blanks(name, duration)
        processor = processor_of(model)
        extractor = feature_extractor_of(processor)
        each = [extract_features(extractor, [wave], RATE) for wave in waves(1.0, 2.5, 0.3)]
        together = extract_features(extractor, waves(1.0, 2.5, 0.3), RATE)
        with torch.no_grad():
            alone = [generate(model, inputs, processor, GenerateConfig())[0] for inputs in each]
            assert generate(model, together, processor, GenerateConfig()) == alone
        assert len(alone[1]) > len(alone[0]) > len(alone[2]) > 0
