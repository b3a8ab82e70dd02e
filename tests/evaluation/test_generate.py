"""Models without a CTC head write by their own `generate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.data import extract_features, feature_extractor_of
from compress.evaluation.generate import GenerateConfig, generate
from tests.helpers.processors import processor_of
from tests.helpers.tiny import OTHER_MODELS

RATE = 16000


def waves() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.1 * random.standard_normal(seconds * RATE).astype(np.float32) for seconds in (2, 1)]


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_every_utterance_is_written_down(name: str) -> None:
    model = OTHER_MODELS[name]()
    processor = processor_of(model)
    inputs = extract_features(feature_extractor_of(processor), waves(), RATE)
    assert set(inputs) == {"input_features", "attention_mask"}
    assert inputs["attention_mask"].sum(1).tolist()[1] < inputs["attention_mask"].shape[1]
    with torch.no_grad():
        texts = generate(model, inputs, processor, GenerateConfig(max_new_tokens=5))
    assert len(texts) == 2
    assert all(isinstance(text, str) for text in texts)
