"""Weights of 8 bits: which layers they are, and how those that hurt are left as they were."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

from compress.checkpoint.exported import read_export
from compress.cli import main
from compress.exporting import graph
from compress.exporting.quantising import fewest, quantisable, write_quantised
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.onnx_model import exported_model
from tests.helpers.tiny import batch


def test_linear_layers_and_pointwise_convolutions_are_quantised(exported: Path, tmp_path: Path) -> None:
    whole = exported / "model.onnx"
    names = quantisable(whole)
    assert any("pointwise_conv1" in name for name in names)
    assert any("feed_forward2/linear1" in name for name in names)
    assert any("q_proj" in name for name in names)
    write_quantised(whole, tmp_path / "all.onnx", (), unsigned=False)
    write_quantised(whole, tmp_path / "some.onnx", names[:2], unsigned=True)
    kinds = {name: _kinds(tmp_path / f"{name}.onnx") for name in ("all", "some")}
    assert kinds["all"].count("MatMulInteger") == len(names)
    assert kinds["some"].count("MatMulInteger") == len(names) - 2


def _kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


@pytest.mark.parametrize("unsigned", [False, True])
def test_weights_beside_a_graph_are_quantised_as_those_inside(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsigned: bool
) -> None:
    """One by one, to the same numbers."""
    monkeypatch.setattr(graph, "MOST_BYTES_INSIDE", 10_000)
    graph.write_tidied(exported / "model.onnx", {}, tmp_path / "large.onnx")
    names = quantisable(exported / "model.onnx")
    write_quantised(tmp_path / "large.onnx", tmp_path / "beside.onnx", names[:1], unsigned=unsigned)
    write_quantised(exported / "model.onnx", tmp_path / "inside.onnx", names[:1], unsigned=unsigned)
    assert _kinds(tmp_path / "beside.onnx").count("MatMulInteger") == len(names) - 1
    assert (tmp_path / "beside.onnx_data").stat().st_size < (tmp_path / "large.onnx_data").stat().st_size / 2
    inputs = batch(exported_model(read_export(exported)))
    outputs = [
        OnnxGraph(tmp_path / f"{name}.onnx", list(inputs)).run(list(inputs.values()))[0]
        for name in ("beside", "inside")
    ]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("needed", [1, 2, 5, 7])
def test_the_fewest_costliest_layers_are_kept(needed: int) -> None:
    order = list("abcdefg")
    asked: list[int] = []

    def fits(kept: list[str]) -> bool:
        asked.append(len(kept))
        return len(kept) >= needed

    assert fewest(order, fits) == order[:needed]
    assert len(asked) <= 3


def test_auto_keeps_layers_until_the_error_rate_holds(pruned: str, tones: str, tmp_path: Path) -> None:
    words = ["export", pruned, "--out", str(tmp_path / "export"), "--int8", "--keep_fp32", "auto", "--data", tones]
    limits = ["--max_wer_increase", "0", "--calibration_utterances", "1", "--batch.workers", "0"]
    assert main([*words, *limits]) == 0
    facts = json.loads((tmp_path / "export" / "export.json").read_text())
    assert facts["precision"] == "int8"
    assert facts["error_rates"]["export"]["wer"] <= facts["error_rates"]["model"]["wer"]
    quantised = _kinds(tmp_path / "export" / "model.int8.onnx").count("MatMulInteger")
    assert quantised == facts["int8"]["quantised_layers"] > 0
