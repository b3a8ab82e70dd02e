"""What this package has left and reads again: latency profiles, exports, reports behind a card, curves of sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from transformers import ParakeetCTCConfig, PreTrainedConfig

from compress.checkpoint import save
from compress.checkpoint.exported import EXPORT_FILE, SOURCE_FOLDER, read_export
from compress.checkpoint.push import PushConfig, staged
from compress.checkpoint.weights import weights_digest
from compress.conformers import skeleton
from compress.cost import cost_table, size_of
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.evaluation.contenders import Contender
from compress.files.writing import write_json
from compress.latency import LATENCY_FILE, LatencyProfile, Line, described_model
from compress.shrinking.curve import read_entry
from compress.shrinking.curve_report import with_chosen
from compress.training.new_models import ModelConfig, build_model
from compress.training.tokens import TokensConfig, build_processor
from tools.hostility.kind import Kind

BINS = 16
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "subsampling_conv_channels": 4, "num_mel_bins": BINS}  # fmt: skip
REPORT, ENTRIES = "report/report.json", ("whole.json", "50.json")


def _config() -> PreTrainedConfig:
    return ParakeetCTCConfig(vocab_size=20, pad_token_id=19, encoder_config=SIZES)


def _make_profile(folder: Path) -> None:
    conditions = {"batch": 1, "threads": 1, "seconds": 10.0, "runtime": "torch", "device_name": "a machine"}
    lines = {kind: Line(2000, 30) for kind in ("ffn", "attention", "conv")}
    error = {"mean": 0.01, "worst": 0.04, "structures": 10}
    model, front = described_model(_config()), cost_table(_config(), "macs").front.scaled(0.01, 0.01)
    LatencyProfile(model, conditions, 5_000, 100, lines, 8, error, front).save(folder / LATENCY_FILE)


def _read_profile(folder: Path) -> Any:
    config = _config()
    budget = make_budget(BudgetConfig(latency="70%", profile=str(folder / LATENCY_FILE), front=True), config)
    return decide(budget, proportional(skeleton(config), front=True)), budget.requested


def _make_export(folder: Path) -> None:
    processor = build_processor("parakeet", ["stop"], TokensConfig(), mel_bins=BINS)
    (folder / SOURCE_FOLDER).mkdir()
    _config().to_json_file(str(folder / SOURCE_FOLDER / "config.json"))
    processor.save_pretrained(folder / SOURCE_FOLDER)
    features = helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", "time", BINS])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "time"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", BINS])
    nodes = [helper.make_node("Identity", ["input_features"], ["logits"])]
    graph = helper.make_graph(nodes, "same", [features, mask], [logits])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    facts = {"format": 1, "model": {"name": "a"}, "client": "transformers.js", "precision": "float32",
             "signature": "transformers", "graphs": ["model.onnx"], "largest_difference": 1e-6}  # fmt: skip
    write_json(folder / EXPORT_FILE, facts)


def _read_export(folder: Path) -> Any:
    return Contender.of_export(str(folder), read_export(folder)).disk_bytes


def _make_card(folder: Path) -> None:
    """A checkpoint with all that is said of it: its compression, a report, an export."""
    processor = build_processor("parakeet", ["stop"], TokensConfig(), mel_bins=BINS)
    tokens = len(processor.tokenizer)
    model = build_model(ModelConfig("parakeet", SIZES), vocabulary_size=tokens, blank=tokens - 1)
    earlier = {"method": "apply", "teacher": "a", "parameters_before": 9, "parameters": 8}
    counts = {"parameters_before": 8, "parameters": 4, "requested": "params 50% of total", "limit": 4, "full": 8,
              "achieved": 4, "expected": 4.5, "wer": {"dev": 0.1}}  # fmt: skip
    save(model, processor, folder, {"method": "prune", "teacher": "b", **counts, "teacher_compression": earlier})
    entry = {"wer": 0.1, "wer_ci95": [0.05, 0.2], "words": 10, "parameters": {"total": size_of(model).total},
             "macs_per_second": 1e6, "rtf": 0.01}  # fmt: skip
    write_json(folder / REPORT, {
        "data": {"source": "speech", "split": "test"}, "model": entry, "baseline": entry,
        "conditions": {"device_name": "a machine", "batch": 1, "seconds": 10.0},
        "difference": {"wer": 0.0, "wer_ci95": [-0.1, 0.1]},
    })  # fmt: skip
    export = folder / "graphs"
    export.mkdir()
    _make_export(export)
    facts = json.loads((export / EXPORT_FILE).read_text())
    facts["model"]["weights_sha256"] = weights_digest(str(folder))
    rates = {"split": "test", "model": {"wer": 0.1}, "export": {"wer": 0.1}}
    write_json(export / EXPORT_FILE, facts | {"error_rates": rates})


def _read_card(folder: Path) -> Any:
    names = {"report": str(folder / "report"), "export": str(folder / "graphs")}
    with staged(PushConfig(repo_id="someone/small", model=str(folder), **names)) as stage:
        return (stage / "README.md").read_text()


def _make_curve(folder: Path) -> None:
    entry = {"wer": 0.1, "wer_ci95": [0.05, 0.2], "cer": 0.05, "parameters": 1000, "macs_per_second": 1e6, "rtf": 0.01,
             "times_as_fast": 1.0, "share": 1.0}  # fmt: skip
    for name in ENTRIES:
        write_json(folder / name, {"name": name.removesuffix(".json"), **entry, "rounds": [{"cost": 500}]})


def _read_curve(folder: Path) -> Any:
    return with_chosen([read_entry(folder / name) for name in ENTRIES])


def _nothing_lost(_: Path, __: Any, ___: Any) -> str:
    """Other numbers make another valid file."""
    return ""


RESULTS: Mapping[str, Kind] = {
    "latency": Kind((LATENCY_FILE,), _make_profile, _read_profile, _nothing_lost),
    "export": Kind((EXPORT_FILE, f"{SOURCE_FOLDER}/config.json"), _make_export, _read_export, _nothing_lost),
    "card": Kind((REPORT, "compression.json", f"graphs/{EXPORT_FILE}"), _make_card, _read_card, _nothing_lost),
    "curve": Kind(ENTRIES, _make_curve, _read_curve, _nothing_lost),
}
"""Every kind of result, by its name."""
