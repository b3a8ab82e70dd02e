"""A dev set of noise with transcripts, and tiny checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from compress.checkpoint import load_processor, save
from compress.conformers.recording import BlockOutputs
from compress.data import extract_features, feature_extractor_of
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny
from tests.helpers.launching import RATE

LETTERS = "abcdefghijklmnop q"


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten utterances of different length under `dev/`, and the same without transcripts under `silent/dev/`."""
    out = tmp_path_factory.mktemp("speech")
    generator = np.random.default_rng(0)
    for folder, header in ((out / "dev", "file_name,transcription"), (out / "silent" / "dev", "file_name,speaker")):
        folder.mkdir(parents=True)
        lines = [header]
        for number in range(10):
            noise = 0.1 * generator.standard_normal(int(RATE * (0.5 + 0.1 * number))).astype(np.float32)
            soundfile.write(folder / f"{number}.wav", noise, RATE)
            lines.append(f"{number}.wav,{' '.join('abcde'[: 1 + number % 4])} {'gh' * (1 + number % 3)}")
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return out


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], str]:
    """Saves a tiny model of a CTC family with its processor, and says where."""
    out = tmp_path_factory.mktemp("checkpoints")

    def make(name: str, model: Any) -> str:
        family = name.split("-")[0]
        bins = {"parakeet": 16, "granite_speech5": 4}.get(family)
        mel = {"mel_bins": bins} if bins else {}
        if not (out / name).exists():
            save(model, build_processor(family, [LETTERS], TokensConfig(), **mel), out / name)
        return str(out / name)

    return make


@pytest.fixture(scope="session")
def parakeet(checkpoint: Callable[[str, Any], str]) -> str:
    return checkpoint("parakeet", tiny.parakeet())


@pytest.fixture(scope="session")
def skips(checkpoint: Callable[[str, Any], str], parakeet: str, speech: Path) -> str:
    """A Parakeet with heads behind one block and two blocks; each is sure that half of the frames are blank."""
    model = able_to_skip(tiny.parakeet(), Skipping(2, 1.0, 0, heads=(1, 2), factorised=True))
    samples, rate = soundfile.read(speech / "dev" / "9.wav", dtype="float32")
    outputs, blank = BlockOutputs(model, [0, 1]), int(model.config.pad_token_id)
    with torch.no_grad():
        model(**extract_features(feature_extractor_of(load_processor(parakeet)), [samples], rate))
        for head, states in zip(model.skipping_heads, outputs.take().values(), strict=True):
            head.weight[blank] *= 100.0
            head.bias[blank] -= head.log_odds(states).median()
    outputs.close()
    return checkpoint("parakeet-skips", model)
