"""Clients that nobody here wrote run what was exported for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.checkpoint import load_model, load_processor
from compress.checkpoint.exported import ExportError
from compress.data import feature_extractor_of
from compress.exporting.clients import slot_for
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.exports import save_talkative, save_talkative_of, wave_files, written_by_torch
from tests.helpers.sharing import shared
from tests.helpers.tiny import MODELS
from tools.experiments.sherpa import by_sherpa


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
    texts = by_sherpa("from_nemo_ctc", made.folder, {"model": made.facts["graphs"][0]}, files)
    assert all(len(text) > 10 and set(text) <= set("low mid high") for text in texts)


@pytest.mark.parametrize(
    ("family", "method"), [("lasr", "from_medasr_ctc"), ("wav2vec2_conformer", "from_omnilingual_asr_ctc")]
)
def test_sherpa_onnx_has_slots_for_lasr_and_raw_audio(family: str, method: str, tones: str, tmp_path: Path) -> None:
    """It writes what PyTorch writes of raw audio; features for LASR it computes in a way of its own."""
    pytest.importorskip("sherpa_onnx", reason="needs the extra: .[export]")
    model, files = str(tmp_path / "model"), wave_files(tones)[:2]
    save_talkative_of(family, tmp_path / "model")
    made = export(ExportConfig(model=model, out=str(tmp_path / "export"), client="sherpa-onnx"))
    texts = [text.strip() for text in by_sherpa(method, made.folder, {"model": made.facts["graphs"][0]}, files)]
    expected = written_by_torch(model, files)
    if family == "lasr":
        assert [set(text) for text in texts] == [set(text) for text in expected]
    else:
        assert texts == expected
    assert all(expected)


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
