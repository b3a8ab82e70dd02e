"""An export goes to the Hub with its checkpoint, and the card says what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compress.checkpoint.exported import read_export
from compress.checkpoint.push import PushConfig, PushError, staged
from compress.runtimes.onnx_model import exported_model


def test_an_export_lies_in_onnx_and_on_the_card(pruned: str, exported: Path) -> None:
    config = PushConfig(repo_id="me/small", model=pruned, export=str(exported))
    with staged(config) as stage:
        files = {path.name for path in (stage / "onnx").iterdir()}
        facts = json.loads((stage / "onnx" / "export.json").read_text())
        card = (stage / "README.md").read_text()
        assert read_export(stage / "onnx").facts["client"] == "plain"
        exported_model(read_export(stage / "onnx"))
    assert files == {"model.onnx", "export.json", "README.md", "source"}
    assert facts["model"]["name"] == "model"
    assert "`onnx/` holds it as an ONNX graph in float32 for plain" in card


def test_the_card_says_which_size_was_exported(pruned: str, exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "export")
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | {"model": facts["model"] | {"size": "4"}}))
    with staged(PushConfig(repo_id="me/small", model=pruned, export=str(folder))) as stage:
        assert "`onnx/` holds its size `4` as an ONNX graph in float32" in (stage / "README.md").read_text()


def test_graphs_in_a_folder_of_their_own_lie_where_clients_look_for_them(
    pruned: str, exported: Path, tmp_path: Path
) -> None:
    """As those for transformers.js."""
    shutil.copytree(exported, tmp_path / "js")
    (tmp_path / "js" / "onnx").mkdir()
    (tmp_path / "js" / "model.onnx").rename(tmp_path / "js" / "onnx" / "model.onnx")
    facts = json.loads((tmp_path / "js" / "export.json").read_text())
    (tmp_path / "js" / "export.json").write_text(json.dumps(facts | {"graphs": ["onnx/model.onnx"]}))
    with staged(PushConfig(repo_id="me/small", model=pruned, export=str(tmp_path / "js"))) as stage:
        assert {path.name for path in (stage / "onnx").iterdir()} == {"model.onnx", "export.json", "source"}
        assert read_export(stage / "onnx").graph == stage / "onnx" / "model.onnx"


def test_another_model_s_export_is_refused(pruned: str, exported: Path) -> None:
    other = str(Path(pruned).parent / "whole")
    with pytest.raises(PushError, match="export of a model with other weights"):
        staged(PushConfig(repo_id="me/small", model=other, export=str(exported))).__enter__()
    with pytest.raises(PushError, match=r"holds no export\.json; make one with: compress export"):
        staged(PushConfig(repo_id="me/small", model=pruned, export=pruned)).__enter__()
