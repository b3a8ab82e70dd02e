"""An export goes to the Hub with its checkpoint, and the card says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.checkpoint.push import PushConfig, PushError, staged


def test_an_export_lies_in_onnx_and_on_the_card(pruned: str, exported: Path) -> None:
    config = PushConfig(repo_id="me/small", model=pruned, export=str(exported))
    with staged(config) as stage:
        files = {path.name for path in (stage / "onnx").iterdir()}
        facts = json.loads((stage / "onnx" / "export.json").read_text())
        card = (stage / "README.md").read_text()
    assert files == {"model.onnx", "export.json", "README.md"}
    assert facts["model"]["name"] == "model"
    assert "`onnx/` holds it as an ONNX graph in float32 for plain" in card


def test_another_model_s_export_is_refused(pruned: str, exported: Path) -> None:
    other = str(Path(pruned).parent / "whole")
    with pytest.raises(PushError, match="export of a model with other weights"):
        staged(PushConfig(repo_id="me/small", model=other, export=str(exported))).__enter__()
    with pytest.raises(PushError, match=r"holds no export\.json; make one with: compress export"):
        staged(PushConfig(repo_id="me/small", model=pruned, export=pruned)).__enter__()
