"""One tiny pruned model and one export of it, for all tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.checkpoint import load_model, load_processor, save
from compress.model.removal import remove
from compress.structure import Structure
from tests.helpers.launching import make_split
from tests.helpers.processors import save_tiny
from tests.helpers.sharing import shared

pytest.importorskip("onnx", reason="exports need the extra: .[export]")
pytest.importorskip("onnxruntime", reason="exports need the extra: .[export]")

PRUNED = {
    "family": "parakeet",
    "blocks": [
        {"ffn1": [0, 3, 5, 20], "attention": [1, 3], "conv": None, "ffn2": "all"},
        None,
        {"ffn1": None, "attention": "all", "conv": [0, 1, 2, 9, 30], "ffn2": [7, 8]},
    ],
    "front": {"conv0": [0, 2, 3, 7], "conv1": [1, 4, 6]},
}


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Parakeet of 16 mel features with a dropped block, emptied modules, unequal widths and a part of its front."""

    def make(folder: Path) -> None:
        save_tiny(folder / "whole")
        model = str(folder / "whole")
        save(
            remove(load_model(model), Structure.from_dict(PRUNED)),
            load_processor(model),
            folder / "model",
            {"method": "apply"},
        )

    return str(shared(tmp_path_factory, "pruned-for-export", make) / "model")


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten utterances of three tones, as dev and as test split."""

    def make(folder: Path) -> None:
        for split in ("dev", "test"):
            make_split(folder / split, 10, seed=3)

    return str(shared(tmp_path_factory, "tones-for-export", make))


@pytest.fixture(scope="session")
def exported(pruned: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export for any program that runs ONNX."""
    from compress.cli import main

    def make(folder: Path) -> None:
        assert main(["export", pruned, "--out", str(folder / "export")]) == 0

    return shared(tmp_path_factory, "exported", make) / "export"
