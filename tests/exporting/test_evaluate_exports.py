"""`compress evaluate` takes what was exported, beside the model that it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from compress.checkpoint.exported import read_export
from compress.cli import main
from compress.data import BatchConfig
from compress.evaluation.transcribe import batching_for
from compress.runtimes.onnx_model import exported_model
from compress.runtimes.signatures import ONE_GRAPH
from tests.helpers.tiny import batch

QUICK = (
    "--speed.seconds", "0.5", "--speed.repetitions", "1", "--speed.warmup", "0", "--bootstrap.resamples", "100",
    "--macs_seconds", "1", "--batch.workers", "0",
)  # fmt: skip


def test_an_export_beside_its_model(pruned: str, exported: Path, tones: str, tmp_path: Path) -> None:
    words = ["evaluate", str(exported), "--data", tones, "--baseline", pruned, "--out", str(tmp_path), *QUICK]
    assert main([*words, "--speed.threads", "1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    model, baseline = report["model"], report["baseline"]
    assert model["runtime"]["name"] == "ONNX Runtime"
    assert baseline["runtime"] == {"name": "PyTorch", "version": torch.__version__, "precision": "float32"}
    assert model["wer"] == baseline["wer"]
    assert report["difference"]["better"] == report["difference"]["worse"] == 0
    assert model["bytes"] == (exported / "model.onnx").stat().st_size
    assert model["blocks"] == baseline["blocks"]
    assert model["parameters"] == baseline["parameters"]
    assert model["compression"]["method"] == "apply"
    text = (tmp_path / "report.md").read_text()
    assert "| Runtime | ONNX Runtime, float32 | PyTorch, float32 |" in text


def test_a_model_is_evaluated_by_another_runtime(pruned: str, tones: str, tmp_path: Path) -> None:
    words = ["evaluate", pruned, "--runtime", "onnx", "--data", tones, "--out", str(tmp_path), *QUICK]
    assert main(words) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["name"] == pruned
    assert report["model"]["runtime"]["name"] == "ONNX Runtime"


def test_a_graph_of_8_bits_runs_utterances_one_by_one(
    pruned: str, tones: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its clients do: in a batch, the loudest utterance would set the scale of the activations of all."""
    out = str(tmp_path / "export")
    assert main(["export", pruned, "--out", out, "--int8"]) == 0
    assert "largest difference from the model, before 8 bits" in " ".join(capsys.readouterr().out.split())
    model = exported_model(read_export(out))
    assert batching_for(model, BatchConfig(seconds=100)).max_utterances == 1
    words = ["evaluate", out, "--baseline", pruned, "--data", tones, "--out", str(tmp_path / "report")]
    assert main([*words, *QUICK]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["model"]["batching"].startswith("one utterance at a time, since one scale of 8 bits")
    assert report["baseline"]["batching"].startswith("in batches of up to")


def test_a_graph_has_as_many_threads_as_torch(exported: Path) -> None:
    model = exported_model(read_export(exported))
    before, graph = torch.get_num_threads(), model.graphs[ONE_GRAPH]
    session = graph._session
    inputs = batch(model)
    model(**inputs)
    assert graph._session is session
    try:
        torch.set_num_threads(before + 1)
        model(**inputs)
    finally:
        torch.set_num_threads(before)
    assert graph._session is not session


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "exported graphs run on the CPU"),
        (["--runtime", "tflite"], "choose one of torch, onnx"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    words: list[str], message: str, exported: Path, tones: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", str(exported), "--data", tones, *words])
    assert message in " ".join(capsys.readouterr().err.split())
