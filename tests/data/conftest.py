"""Fixtures for the tests of `compress.data`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import ParakeetProcessor, Wav2Vec2Processor

from compress.data import SpeechConfig, SpeechDataset, open_speech
from tests.helpers.samples import RATE, parakeet_processor, wav2vec2_processor, write_folder


@pytest.fixture
def cache(tmp_path: Path) -> str:
    """A cache folder of the test's own."""
    return str(tmp_path / "cache")


@pytest.fixture
def open_folder(cache: str) -> Callable[..., SpeechDataset]:
    """Opens a source with the test's own cache; keywords go to `SpeechConfig`, or to `open_speech`."""

    def opened(source: Path | str, *, vocabulary: Any = None, labels: bool = True, **options: Any) -> SpeechDataset:
        config = SpeechConfig(str(source), **{"cache_dir": cache, **options})
        return open_speech(config, sampling_rate=RATE, vocabulary=vocabulary, labels=labels)

    return opened


@pytest.fixture
def opened(open_folder: Callable[..., SpeechDataset]) -> Callable[..., SpeechDataset]:
    """Opens a source of which anything may be unusable."""
    return partial(open_folder, max_bad_fraction=1.0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audiofolder of 24 tones; not to be changed."""
    path = tmp_path_factory.mktemp("tones")
    write_folder(path / "train", 24)
    return path


@pytest.fixture(scope="session")
def parakeet() -> ParakeetProcessor:
    """A small ParakeetProcessor."""
    return parakeet_processor()


@pytest.fixture(scope="session")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2Processor:
    """A small Wav2Vec2Processor."""
    return wav2vec2_processor(tmp_path_factory.mktemp("wav2vec2"))


@pytest.fixture
def without_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of names and texts, for what is only about their order."""
    monkeypatch.setattr("compress.data.loader.extract_features", lambda *_: {})
