"""A dev set of noise with transcripts, and a tiny checkpoint that can skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from compress.checkpoint import load_processor
from compress.data import extract_features, feature_extractor_of
from compress.distill import BlockOutputs
from compress.skipping.make import make
from compress.skipping.settings import Skipping
from tests import tiny
from tests.layers.conftest import checkpoint, parakeet, speech

__all__ = ["checkpoint", "parakeet", "speech"]


@pytest.fixture(scope="session")
def skips(checkpoint: Callable[[str, Any], str], parakeet: str, speech: Path) -> str:
    """A Parakeet with heads behind blocks 1 and 2, each of which is sure that half of the frames are blank."""
    model = make(tiny.parakeet(), Skipping(2, 1.0, 0, heads=(1, 2), factorised=True))
    samples, rate = soundfile.read(speech / "dev" / "9.wav", dtype="float32")
    outputs, blank = BlockOutputs(model, [0, 1]), int(model.config.pad_token_id)
    with torch.no_grad():
        model(**extract_features(feature_extractor_of(load_processor(parakeet)), [samples], rate))
        for head, states in zip(model.skipping_heads, outputs.take().values(), strict=True):
            head.weight[blank] *= 100.0
            head.bias[blank] -= head.log_odds(states).median()
    outputs.close()
    return checkpoint("parakeet-skips", model)
