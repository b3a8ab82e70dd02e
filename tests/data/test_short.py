"""Every family can take the shortest utterances, alone and beside others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.conformers import family_of
from compress.data import extract_features, feature_extractor_of
from compress.data.loader import LEAST_SECONDS
from compress.evaluation.generate import GenerateConfig, generate
from compress.evaluation.transcribe import best_tokens
from tests.helpers.processors import processor_of
from tests.helpers.routes import processor_for
from tests.helpers.tiny import MODELS

RATE = 16000
SHORT = GenerateConfig(max_new_tokens=4)


@pytest.mark.parametrize("name", MODELS)
def test_the_shortest_utterances_have_features_and_are_written_down(name: str) -> None:
    model = MODELS[name]()
    has_ctc = family_of(model).has_ctc
    processor = processor_for(model) if has_ctc else processor_of(model)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    for samples in (1, RATE // 100, RATE // 10):
        for waves in ([noise[:samples]], [noise[:samples], noise]):
            inputs = extract_features(feature_extractor_of(processor), waves, RATE)
            assert all(value.isfinite().all() for value in inputs.values())
            with torch.no_grad():
                written = best_tokens(model, inputs) if has_ctc else generate(model, inputs, processor, SHORT)
            assert len(written) == len(waves)


def test_silence_is_added_up_to_the_least_length() -> None:
    processor = processor_for(MODELS["parakeet"]())
    extractor = feature_extractor_of(processor)
    wave = np.ones(round(LEAST_SECONDS * RATE), dtype=np.float32)
    filled = np.pad(wave[:-9], (0, 9))
    expected = extractor([filled], sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert torch.equal(extract_features(extractor, [filled], RATE)["input_features"], expected)
    assert torch.equal(extract_features(extractor, [wave[:-9]], RATE)["input_features"], expected)
