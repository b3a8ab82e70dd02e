"""Speech of tones under train/ and dev/, and a tiny checkpoint that spells what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.checkpoint import save
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny
from tests.helpers.launching import make_split


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    make_split(folder / "train", 12, seed=1)
    make_split(folder / "dev", 5, seed=2)
    return folder


@pytest.fixture(scope="session")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "parakeet"
    model, processor = tiny.parakeet(), build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=16)
    model.config.pad_token_id = processor.tokenizer.pad_token_id
    save(model, processor, folder)
    return str(folder)
