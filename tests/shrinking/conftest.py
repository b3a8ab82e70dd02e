"""Speech of tones under train/ and dev/, and a tiny checkpoint that spells what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launching import make_split
from tests.helpers.shrinking import spelling_checkpoint


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    make_split(folder / "train", 12, seed=1)
    make_split(folder / "dev", 5, seed=2)
    return folder


@pytest.fixture(scope="session")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return spelling_checkpoint(tmp_path_factory.mktemp("checkpoint") / "parakeet")
