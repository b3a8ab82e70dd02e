"""Graphs compute what their models compute, for every family; what cannot be exported is refused and leaves nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.checkpoint import CheckpointError, load_model, load_processor, save
from compress.checkpoint.exported import ExportError, read_export
from compress.checkpoint.weights import weights_digest
from compress.cli import main
from compress.conformers import blocks_of, family_of, frame_mask, frame_outputs
from compress.exporting.clients import graph_of_blocks, slot_for
from compress.exporting.export import export, write_checked
from compress.exporting.settings import LARGEST_DIFFERENCE, ExportConfig
from compress.exporting.source import SourceModel
from compress.model.able_to_skip import able_to_skip
from compress.model.removal import remove
from compress.running.skipping import Skipping
from compress.runtimes import optional
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.onnx_model import exported_model
from compress.runtimes.signatures import SIGNATURES
from tests.helpers.processors import processor_of, save_tiny
from tests.helpers.routes import processor_for
from tests.helpers.tiny import MODELS, batch, random_structure, wav2vec2_conformer

FAMILIES = (
    "parakeet", "wav2vec2_conformer-relative", "wav2vec2_bert-relative_key", "lasr", "granite_speech5",
    "torchaudio_conformer-batch", "parakeet_tdt", "canary", "seamless_m4t_v2", "nemotron_asr_streaming",
)  # fmt: skip


def _built(name: str) -> PreTrainedModel:
    """A tiny model of a family, at a rate of frames at which seconds of audio are no burden."""
    return wav2vec2_conformer("relative", last_stride=64) if name.startswith("wav2vec2_conformer") else MODELS[name]()


@pytest.mark.parametrize("name", FAMILIES)
def test_graphs_of_pruned_models_compute_what_they_compute(name: str, tmp_path: Path) -> None:
    model = _built(name)
    model = remove(model, random_structure(model, 3, front=True))
    with_ctc = family_of(model).has_ctc
    source = SourceModel(name, model, processor_for(model) if with_ctc else processor_of(model), None, ())
    slot = graph_of_blocks(model, source.processor)
    assert write_checked(source, slot, tmp_path / "model.onnx", LARGEST_DIFFERENCE) <= LARGEST_DIFFERENCE
    signature = SIGNATURES[slot.signature]
    graph = OnnxGraph(tmp_path / "model.onnx", signature.input_names(model))
    inputs = {key: value[:, :-7] for key, value in batch(model).items()}  # none of the lengths that the verb tries
    if name.startswith("wav2vec2_conformer"):
        inputs = {key: value.repeat(1, 5) for key, value in inputs.items()}
        inputs["attention_mask"] = (inputs["attention_mask"].cumsum(1) <= 9000).long()
    got = graph.run(signature.tensors(model, inputs))[0]
    expected = frame_outputs(model, inputs)
    valid = frame_mask(model, inputs, expected.shape[1])
    assert not valid.all()
    torch.testing.assert_close(got[valid], expected[valid], rtol=0, atol=LARGEST_DIFFERENCE)


def test_what_cannot_be_followed_is_refused_by_name() -> None:
    model = MODELS["granite_speech"]()
    with pytest.raises(ExportError, match=r"its attention cuts an utterance into pieces.*It cannot be exported\."):
        slot_for("plain", model, processor_of(model))


def test_an_export_is_complete_and_says_what_it_is(pruned: str, exported: Path) -> None:
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert {"model.onnx", "export.json", "README.md", "source/config.json", "source/compression.json"} <= files
    facts = read_export(exported).facts
    assert (facts["client"], facts["precision"], facts["signature"]) == ("plain", "float32", "transformers")
    assert facts["largest_difference"] <= facts["tolerance"] == LARGEST_DIFFERENCE
    assert facts["model"]["weights_sha256"] == weights_digest(pruned)
    graph = onnx.load(str(exported / "model.onnx"))
    assert not any(node.doc_string or node.metadata_props for node in graph.graph.node)
    assert str(Path.cwd()).encode() not in (exported / "model.onnx").read_bytes()
    assert {node.op_type for node in graph.graph.node if "pointwise" in node.name} <= {"MatMul", "Add", "Transpose"}


def test_an_export_runs_behind_the_face_of_its_model(pruned: str, exported: Path) -> None:
    model, graph = load_model(pruned), exported_model(read_export(exported))
    inputs = batch(model)
    got, expected = graph(**inputs).logits, model(**inputs).logits
    valid = frame_mask(graph, inputs, got.shape[1])
    torch.testing.assert_close(got[valid], expected[valid], rtol=0, atol=LARGEST_DIFFERENCE)
    assert family_of(graph) is family_of(model)


def test_one_size_of_an_elastic_checkpoint(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    assert main(["elastic", str(tmp_path / "model"), "--depths", "[1]", "--out", str(tmp_path / "elastic")]) == 0
    made = export(ExportConfig(model=str(tmp_path / "elastic"), depth=1, out=str(tmp_path / "small")))
    graph = exported_model(made)
    assert len(blocks_of(graph)) == 1
    assert made.facts["model"]["size"] == "1"
    elastic = load_model(str(tmp_path / "elastic"))
    elastic.set_depth(1)
    inputs = batch(elastic)
    mask = frame_mask(graph, inputs, elastic(**inputs).logits.shape[1])
    torch.testing.assert_close(
        graph(**inputs).logits[mask], elastic(**inputs).logits[mask], rtol=0, atol=LARGEST_DIFFERENCE
    )


def test_skipping_is_off_in_graphs_and_said(pruned: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(
        able_to_skip(load_model(pruned), Skipping(heads=(1,), first_blocks=1)),
        load_processor(pruned),
        tmp_path / "model",
    )
    with caplog.at_level("INFO"):
        made = export(ExportConfig(model=str(tmp_path / "model"), out=str(tmp_path / "export")))
    assert "Skipping of blank frames is off" in caplog.text
    assert "Skipping of blank frames is off" in (tmp_path / "export" / "README.md").read_text()
    assert getattr(exported_model(made), "skipper", None) is None


def test_a_graph_that_differs_names_its_block_and_leaves_nothing(
    pruned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load_model(pruned), load_processor(pruned)

    def other_when_followed(block: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output + 0.01 if torch.jit.is_tracing() else output

    blocks_of(model)[1].register_forward_hook(other_when_followed)
    monkeypatch.setattr("compress.exporting.source.load_recogniser", lambda name: (model, processor))
    with pytest.raises(ExportError, match=r"more than the tolerance 0\.0001: block 1 is the first"):
        export(ExportConfig(model=pruned, out=str(tmp_path / "export")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--client", "sherpa"], "choose one of plain, sherpa-onnx, onnx-asr, transformers.js"),
        (
            ["--client", "onnx-asr"],
            "it computes 80 or 128 mel features, and this model takes 16. Clients that can: plain",
        ),
        (["--keep_fp32", "auto"], "add --int8"),
        (["--keep_fp32", "auto", "--int8"], "name it with --data DIR"),
        (["--size", "33%", "--depth", "2"], "give one of them"),
        (["--depth", "7"], "depth"),
        (["--tolerance", "0"], "tolerance"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    words: list[str], message: str, pruned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    assert _exit_code(["export", pruned, "--out", str(out), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(pruned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert _exit_code(["export", pruned, "--out", str(tmp_path)]) == 2
    assert "exists already; choose another folder or delete it" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_packages_one_line_says_how_to_get_them(
    pruned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    assert _exit_code(["export", pruned, "--out", str(tmp_path / "export")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert 'compress export needs onnx and onnxruntime: in a checkout, pip install ".[export]"' in error


def _exit_code(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def _damaged(exported: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(exported, folder)
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | changes))
    return folder


def test_exports_that_cannot_be_used_say_why(exported: Path, tmp_path: Path) -> None:
    cases = {
        "is of format 9": {"format": 9},
        "lacks other.onnx": {"graphs": ["other.onnx"]},
        "lists the files of the graphs": {"graphs": ["../model.onnx"]},
        "signature is 'song'": {"signature": "song"},
        "it should take audio_signal, length": {"signature": "nemo-ctc"},
    }
    for number, (message, changes) in enumerate(cases.items()):
        with pytest.raises(ExportError, match=re.escape(message)):
            exported_model(read_export(_damaged(exported, tmp_path / str(number), **changes)))
    broken = _damaged(exported, tmp_path / "broken")
    with pytest.raises(CheckpointError, match="is no checkpoint, but an export, which `compress evaluate`"):
        load_model(str(broken))
    (broken / "config.json").write_text("{}")  # as beside exports for clients that want one
    with pytest.raises(CheckpointError, match="is no checkpoint, but an export, which `compress evaluate`"):
        load_model(str(broken))
    (broken / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"model\.onnx cannot be loaded by ONNX Runtime"):
        exported_model(read_export(broken))
