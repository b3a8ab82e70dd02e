"""Compares what clients of others write down, given exports, with what PyTorch writes down with the same models.

    python -m tools.experiments.clients --folder runs/exports --models [TEACHER,HALF,QUARTER] --source data/digits \\
        --data "connected digits, test split" --results RESULTS.md

Every model, a Parakeet with a CTC head, is exported once for each client, in float32 and int8, into the folder. A
client that computes features a little differently from the model's own writes a few texts differently; the difference
of error rates, paired over the utterances, says what that costs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from compress.checkpoint import load_processor
from compress.checkpoint.exported import Export
from compress.data import SpeechConfig, SpeechDataset, feature_extractor_of, open_speech
from compress.evaluation import EvaluateConfig
from compress.evaluation.contenders import Contender, Evaluation
from compress.evaluation.errors import ErrorCounts, count_errors
from compress.evaluation.normalisation import scoring_rule, shared_vocabulary
from compress.files.paths import last_part
from compress.files.writing import MEBIBYTE
from tools.commands import main, typed
from tools.experiments.comparing import difference, paired
from tools.experiments.exports import export_of, wer
from tools.experiments.sherpa import by_sherpa
from tools.results import EntryConfig, add, facts, grid

HEAD = ("model", "run by", "precision", "MiB", "WER %", "minus PyTorch's, points", "texts that differ from PyTorch's")
PRECISIONS = ("float32", "int8")
HALF_A_STEP = 80
"""In samples: sherpa-onnx's frames are so much later than those that NeMo's models are trained with."""


@dataclass(frozen=True, kw_only=True)
class ClientsConfig(EntryConfig):
    """What is compared, and the entry that holds it.

    Attributes:
        folder: Where the exports go.
        models: Checkpoints.
        source: The speech.
        split: Of it.
        limit: So many utterances of it, drawn at random; null takes all.
        data: What a reader must know about it.
    """

    folder: str
    models: tuple[str, ...]
    source: str
    split: str = "test"
    limit: int | None = None
    data: str
    title: str = "Clients of others beside PyTorch"


def compare(config: ClientsConfig) -> None:
    """Prints one row for each model, client and precision, and makes an entry of them."""
    rows = [row for name in config.models for row in rows_of(name, config)]
    lines = grid(HEAD, rows)
    print("\n".join(lines))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "onnx-asr", "sherpa-onnx"))
    add(config, [*facts(typed(), config.data, f"{versions}. {config.note}".strip()), *lines])


def rows_of(name: str, config: ClientsConfig) -> list[list[str]]:
    """PyTorch, and every client in both precisions."""
    model = Contender.load(name, torch.device("cpu"), torch.float32)
    asked = EvaluateConfig(model=name, data=SpeechConfig(source=config.source, split=config.split))
    vocabulary = shared_vocabulary([model.processor], asked.normalise)
    speech = open_speech(asked.data, sampling_rate=model.sampling_rate, vocabulary=vocabulary)
    speech = speech.sample(config.limit) if config.limit else speech
    rule = scoring_rule(asked.normalise, [model.processor])
    own = Evaluation(asked, {}, {model.sampling_rate: speech}, rule).transcribe(model)
    counts, said = count_errors(own.references, own.hypotheses), [rule(text or "") for text in speech.texts]
    rows = [[last_part(name), "PyTorch", PRECISIONS[0], f"{model.disk_bytes / MEBIBYTE:.2f}", wer(counts), "", ""]]
    for client, write in CLIENTS.items():
        for precision in PRECISIONS:
            exported = export_of(config.folder, name, int8=precision == "int8", client=client.split(",")[0])
            texts = [rule(text) for text in write(exported, speech)]
            size = f"{exported.bytes_on_disk / MEBIBYTE:.2f}"
            rows.append([last_part(name), client, precision, size, *against(counts, said, texts, own.hypotheses)])
    return rows


def against(own: ErrorCounts, said: list[str], texts: list[str], own_texts: tuple[str, ...]) -> list[str]:
    """Error rate, difference to PyTorch's, and how many texts differ."""
    counts = count_errors(said, texts)
    value, interval = paired(counts.errors, own.errors, own.words)
    other = sum(mine != theirs for mine, theirs in zip(own_texts, texts, strict=True))
    return [wer(counts), difference(value, interval.to_list()), f"{other} of {len(texts)}"]


def by_onnx_asr(export: Export, speech: SpeechDataset) -> list[str]:
    """What onnx-asr writes down."""
    import onnx_asr

    kind = json.loads((export.folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    quantization = None if export.facts["precision"] == PRECISIONS[0] else export.facts["precision"]
    client: Any = onnx_asr.load_model(
        kind, export.folder, quantization=quantization, providers=["CPUExecutionProvider"]
    )
    return [client.recognize(utterance.samples, sample_rate=speech.sampling_rate) for utterance in speech]


def by_sherpa_onnx(export: Export, speech: SpeechDataset, *, before: int = 0) -> list[str]:
    """What sherpa-onnx writes down, with so many samples of silence before each utterance."""
    bins = int(feature_extractor_of(load_processor(export.source)).feature_size)
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, f"{number}.wav") for number in range(len(speech))]
        for file, utterance in zip(files, speech, strict=True):
            soundfile.write(file, np.pad(utterance.samples, (before, 0)), speech.sampling_rate, subtype="FLOAT")
        return by_sherpa("from_nemo_ctc", export.folder, {"model": export.graph.name}, files, {"feature_dim": bins})


CLIENTS: Mapping[str, Callable[[Export, SpeechDataset], list[str]]] = {
    "onnx-asr": by_onnx_asr,
    "sherpa-onnx": by_sherpa_onnx,
    "sherpa-onnx, half a step of silence before": partial(by_sherpa_onnx, before=HALF_A_STEP),
}
"""What is said of them in the table; their names, for `compress export` and pip, come first."""

if __name__ == "__main__":
    main(compare)
