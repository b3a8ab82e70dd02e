"""Real human speech opens as it is: 8 kHz FLAC, 16 kHz Opus, MP3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.data import AugmentConfig, BatchConfig, SpeechDataset, SpeechLoader, vocabulary_of

Open = Callable[..., SpeechDataset]
SPLITS = [("fsdd", "test", 250), ("digits", "dev", 100), ("librispeech", "dev", 24), ("librispeech", "test", 24)]


@pytest.mark.parametrize(("name", "split", "count"), SPLITS)
def test_real_speech(speech_data: Path, open_folder: Open, parakeet: Any, name: str, split: str, count: int) -> None:
    dataset = open_folder(speech_data / name, split=split, limit=count, vocabulary=vocabulary_of(parakeet))
    assert len(dataset) == count
    assert dataset.problems == []
    listed = [line.rsplit(",", 1)[1] for line in (speech_data / name / split / "metadata.csv").read_text().splitlines()]
    assert dataset.seconds == pytest.approx([float(seconds) for seconds in listed[1 : count + 1]], abs=0.05)
    augment = AugmentConfig(speed=(0.9, 1.0, 1.1), time_masks=2, freq_masks=2, max_freq_bins=4)
    loader = SpeechLoader(dataset, parakeet, BatchConfig(seconds=60, workers=1), augment=augment)
    batches = list(loader.epoch(0))
    assert sum(len(batch.ids) for batch in batches) == count
    assert all(torch.isfinite(batch.inputs["input_features"]).all() for batch in batches)
    assert all((batch.labels != parakeet.tokenizer.unk_token_id).all() for batch in batches)
