"""Clients that nobody here wrote run what was exported for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.checkpoint import load_model, load_processor, save
from compress.checkpoint.exported import ExportError
from compress.data import feature_extractor_of
from compress.exporting.clients import slot_for
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.runtimes.onnx_model import exported_model
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.exports import save_talkative, talkative_transducer, wave_files, written_by_torch
from tests.helpers.sharing import shared
from tests.helpers.tiny import MODELS

SHERPA = """
import json, sys, sherpa_onnx, soundfile
method, options, *files = sys.argv[1:]
recogniser = getattr(sherpa_onnx.OfflineRecognizer, method)(**json.loads(options))
for file in files:
    audio, rate = soundfile.read(file, dtype="float32")
    stream = recogniser.create_stream()
    stream.accept_waveform(rate, audio)
    recogniser.decode_stream(stream)
    print(stream.result.text)
"""


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny pruned Parakeet with the features of Parakeet's own checkpoints, which says something all the time."""

    def make(folder: Path) -> None:
        save_talkative(folder / "model")

    return str(shared(tmp_path_factory, "talkative", make) / "model")


@pytest.mark.parametrize("int8", [False, True])
def test_onnx_asr_writes_what_pytorch_writes(talkative: str, tones: str, tmp_path: Path, int8: bool) -> None:
    onnx_asr = pytest.importorskip("onnx_asr", reason="needs the extra: .[export]")
    export(ExportConfig(model=talkative, out=str(tmp_path / "export"), client="onnx-asr", int8=int8))
    client = onnx_asr.load_model(
        "nemo-conformer-ctc",
        tmp_path / "export",
        quantization="int8" if int8 else None,
        providers=["CPUExecutionProvider"],
    )
    files = wave_files(tones)
    texts, expected = [client.recognize(file) for file in files], written_by_torch(talkative, files)
    assert len("".join(expected)) > 10 * len(files)
    if int8:
        assert sum(map(len, texts)) == pytest.approx(sum(map(len, expected)), rel=0.3)
    else:
        assert texts == expected


def test_sherpa_onnx_runs_what_was_exported_for_it(talkative: str, tones: str, tmp_path: Path) -> None:
    """In a process of its own, which it would end where metadata are missing; its features are half a frame later."""
    pytest.importorskip("sherpa_onnx", reason="needs the extra: .[export]")
    made = export(ExportConfig(model=talkative, out=str(tmp_path / "export"), client="sherpa-onnx"))
    files = wave_files(tones)[:3]
    texts = _by_sherpa("from_nemo_ctc", made.folder, files, model=made.facts["graphs"][0])
    assert all(len(text) > 10 and set(text) <= set("low mid high") for text in texts)


def _by_sherpa(
    method: str, folder: Path, files: list[str], options: dict[str, Any] | None = None, **graphs: str
) -> list[str]:
    """What it writes down, one line for each file."""
    names = {key: str(folder / name) for key, name in {**graphs, "tokens": "tokens.txt"}.items()}
    words = [sys.executable, "-c", SHERPA, method, json.dumps(names | (options or {})), *files]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    texts = done.stdout.splitlines()
    assert len(texts) == len(files)
    return texts


@pytest.mark.parametrize(("kind", "int8"), [("tdt", True), ("rnnt", False)])
def test_clients_run_transducers(kind: str, int8: bool, tones: str, tmp_path: Path) -> None:
    """Both layouts: three graphs, or decoder and joiner as one."""
    onnx_asr = pytest.importorskip("onnx_asr", reason="needs the extra: .[export]")
    pytest.importorskip("sherpa_onnx", reason="needs the extra: .[export]")
    save(*talkative_transducer(kind), tmp_path / "model")
    files, model = wave_files(tones)[:3], str(tmp_path / "model")
    expected = written_by_torch(model, files)
    assert len("".join(expected)) > 10 * len(files)
    export(ExportConfig(model=model, out=str(tmp_path / "two"), client="onnx-asr"))
    client = onnx_asr.load_model(f"nemo-conformer-{kind}", tmp_path / "two", providers=["CPUExecutionProvider"])
    assert [client.recognize(file) for file in files] == expected

    made = export(ExportConfig(model=model, out=str(tmp_path / "three"), client="sherpa-onnx", int8=int8))
    graphs = dict(zip(("encoder", "decoder", "joiner"), made.facts["graphs"], strict=True))
    assert made.facts["largest_difference"] <= made.facts["tolerance"]
    options = {"feature_dim": 80, "model_type": "nemo_transducer"}
    texts = _by_sherpa("from_transducer", made.folder, files, options, **graphs)
    assert all(len(text) > 10 and set(text) <= set("low mid high") for text in texts)
    assert "nemo_transducer" in (made.folder / "README.md").read_text()
    with pytest.raises(ExportError, match="graphs of a transducer for sherpa-onnx, which this program does not run"):
        exported_model(made)


def test_a_transducer_whose_blank_is_not_last_is_refused() -> None:
    model, processor = talkative_transducer("tdt")
    model.config.blank_token_id = 3
    with pytest.raises(
        ExportError, match=r"takes the last token, \d+, for the blank, .* is 3\. Clients that can: plain"
    ):
        slot_for("sherpa-onnx", model, processor)


def test_transformers_js_is_told_to_group_what_repeats(talkative: str, tmp_path: Path) -> None:
    """It says `three` only where blanks are dropped after grouping; tests/tools/test_web_page.py runs it."""
    made = export(ExportConfig(model=talkative, out=str(tmp_path / "export"), client="transformers.js", int8=True))
    assert made.facts["graphs"] == ["onnx/model_quantized.onnx"]
    folder = tmp_path / "export"
    decoder = json.loads((folder / "tokenizer.json").read_text())["decoder"]["decoders"]
    assert (decoder[0]["type"], decoder[0]["pad_token"]) == ("CTC", "<pad>")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "parakeet_ctc"


def test_a_client_that_has_no_slot_names_those_that_have() -> None:
    model = MODELS["wav2vec2_bert-relative_key"]()
    processor = build_processor("wav2vec2_bert", ["low mid high"], TokensConfig(), mel_bins=16)
    with pytest.raises(
        ExportError, match=r"it takes parakeet, .*lasr, wav2vec2_conformer, and this is a wav2vec2_bert.*can: plain\."
    ):
        slot_for("sherpa-onnx", model, processor)


def test_other_features_are_named(talkative: str) -> None:
    model, processor = load_model(talkative), load_processor(talkative)
    feature_extractor_of(processor).preemphasis = 0.5
    with pytest.raises(ExportError, match=r"preemphasis 0\.5 instead of 0\.97"):
        slot_for("onnx-asr", model, processor)
