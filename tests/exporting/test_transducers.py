"""Transducers leave as the graphs that clients want, run there, and run here behind the face of their model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.checkpoint import load_processor, save
from compress.checkpoint.exported import ExportError, read_export
from compress.cli import main
from compress.evaluation.generate import GenerateConfig, generate
from compress.exporting import quantising
from compress.exporting.clients import slot_for
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.runtimes.onnx_model import exported_model
from tests.helpers.exports import features_of, talkative_transducer, wave_files, written_by_torch
from tests.helpers.sharing import shared
from tools.experiments.sherpa import by_sherpa

KINDS = ("tdt", "rnnt")
QUICK = (
    "--speed.seconds", "0.5", "--speed.repetitions", "1", "--speed.warmup", "0", "--bootstrap.resamples", "100",
    "--macs_seconds", "1", "--batch.workers", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned transducer of each kind, and its two graphs for onnx-asr."""

    def make(folder: Path) -> None:
        for kind in KINDS:
            save(*talkative_transducer(kind), folder / kind)
            export(ExportConfig(model=str(folder / kind), out=str(folder / f"{kind}-two"), client="onnx-asr"))

    return shared(tmp_path_factory, "exported-transducers", make)


@pytest.mark.parametrize("kind", KINDS)
def test_two_graphs_write_what_pytorch_writes_there_and_here(kind: str, place: Path, tones: str) -> None:
    onnx_asr = pytest.importorskip("onnx_asr", reason="needs the extra: .[export]")
    files, folder = wave_files(tones)[:3], place / f"{kind}-two"
    expected = written_by_torch(str(place / kind), files)
    assert len("".join(expected)) > 10 * len(files)
    client = onnx_asr.load_model(f"nemo-conformer-{kind}", folder, providers=["CPUExecutionProvider"])
    assert [client.recognize(file).strip() for file in files] == expected
    model, processor = exported_model(read_export(folder)), load_processor(str(folder / "source"))
    assert generate(model, features_of(processor, files), processor, GenerateConfig()) == expected


@pytest.mark.parametrize(("kind", "int8"), [("tdt", True), ("rnnt", False)])
def test_sherpa_onnx_runs_three_graphs(kind: str, int8: bool, place: Path, tones: str, tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx", reason="needs the extra: .[export]")
    model, files = str(place / kind), wave_files(tones)[:3]
    made = export(ExportConfig(model=model, out=str(tmp_path / "three"), client="sherpa-onnx", int8=int8))
    graphs = dict(zip(("encoder", "decoder", "joiner"), made.facts["graphs"], strict=True))
    assert made.facts["largest_difference"] <= made.facts["tolerance"]
    options = {"feature_dim": 80, "model_type": "nemo_transducer"}
    texts = by_sherpa("from_transducer", made.folder, graphs, files, options)
    assert all(len(text) > 10 and set(text) <= set("low mid high") for text in texts)
    assert "nemo_transducer" in (made.folder / "README.md").read_text()


def test_three_graphs_are_evaluated_like_their_model(place: Path, tones: str, tmp_path: Path) -> None:
    model = str(place / "tdt")
    words = ["evaluate", model, "--runtime", "onnx", "--data", tones, "--baseline", model, "--out", str(tmp_path)]
    assert main([*words, "--data.limit", "3", *QUICK]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["runtime"]["name"] == "ONNX Runtime"
    assert report["model"]["wer"] == report["baseline"]["wer"]
    assert report["difference"]["better"] == report["difference"]["worse"] == 0
    assert report["model"]["blocks"] == report["baseline"]["blocks"]
    assert report["model"]["rtf"] > 0


def test_auto_keeps_layers_of_all_three_graphs_and_the_readme_runs_them(
    place: Path, tones: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising._Search, "_wer", lambda search, kept: 0.0 if len(kept) >= 2 else 9.0)
    words = ["export", str(place / "rnnt"), "--out", str(tmp_path / "export"), "--int8", "--keep_fp32", "auto"]
    limits = ["--max_wer_increase", "0", "--calibration_utterances", "1", "--batch.workers", "0", "--data.limit", "2"]
    assert main([*words, "--data", tones, *limits]) == 0
    facts = json.loads((tmp_path / "export" / "export.json").read_text())
    assert len(facts["int8"]["kept_float32"]) == 2
    assert {name.split(": ")[0] for name in facts["int8"]["kept_float32"]} <= {"encoder", "decoder", "joiner"}
    assert facts["error_rates"]["export"]["wer"] > 0
    monkeypatch.chdir(tmp_path / "export")
    code = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    ran: dict[str, Any] = {}
    exec(code, ran)
    assert ran["logits"].shape[:3] == (1, 1, 1)


def test_a_transducer_whose_blank_is_not_last_is_refused() -> None:
    model, processor = talkative_transducer("tdt")
    model.config.blank_token_id = 3
    with pytest.raises(
        ExportError, match=r"takes the last token, \d+, for the blank, .* is 3\. Clients that can: plain"
    ):
        slot_for("sherpa-onnx", model, processor)


def test_a_list_of_other_graphs_is_refused(place: Path, tmp_path: Path) -> None:
    facts = json.loads((place / "tdt-two" / "export.json").read_text())
    (tmp_path / "export.json").write_text(json.dumps(facts | {"graphs": ["export.json"]}))
    (tmp_path / "source").symlink_to(place / "tdt-two" / "source")
    with pytest.raises(ExportError, match=r"graphs lists 1, and a transducer has encoder, decoder, joiner, or"):
        exported_model(read_export(tmp_path))
