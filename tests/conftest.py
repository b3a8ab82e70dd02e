"""What every test shares: no network, one thread, and the folder of real speech where there is one."""

from __future__ import annotations

import gc
import importlib.metadata
import os
from pathlib import Path

import pytest

# These must be set before torch and the Hugging Face libraries are imported anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"

REPOSITORY = Path(__file__).resolve().parent.parent
MOST_NEW_OBJECTS = 50_000
"""When garbage is looked for: tests make and drop many small models."""


def pytest_configure(config: pytest.Config) -> None:
    """Stops at once where torch and torchaudio do not match, since almost every import would then fail obscurely."""
    problem = torch_pair_problem()
    if problem:
        pytest.exit(problem, returncode=1)


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking for garbage among it takes a third of a second, many times over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MOST_NEW_OBJECTS)


def torch_pair_problem() -> str | None:
    """Says what is wrong with the installed torch and torchaudio, from their metadata only; None if they are a pair."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchaudio")}
    releases = {version.split("+")[0] for version in versions.values()}
    builds = {name: version.partition("+")[2] or "default" for name, version in versions.items()}
    if len(releases) == 1 and len(set(builds.values())) == 1:
        return None
    return (
        f"torch {versions['torch']} and torchaudio {versions['torchaudio']} are not a pair: speech models "
        "of transformers cannot be imported with them. Install both at once, as constraints.txt pins them: "
        'pip install --constraint constraints.txt --editable ".[test]"'
    )


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """Real human speech (`digits/` and others): `COMPRESS_TEST_DATA`, else `../shared/data`; else a skip."""
    folder = Path(os.environ.get("COMPRESS_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs real speech in {folder}; set COMPRESS_TEST_DATA to its folder")
    return folder
