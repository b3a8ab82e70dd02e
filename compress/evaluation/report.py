"""The report: one JSON-able dict that the terminal table, the Markdown and the HTML are drawn from.

Units, everywhere in it: error rates, their intervals and their differences are fractions (0.05 is 5 %); sizes are bytes
or counts; times are seconds. Only what people read (table, Markdown, HTML) is in percent and in words.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import transformers

from compress.checkpoint.weights import WEIGHTS_DIGEST
from compress.evaluation.bootstrap import BootstrapConfig, paired_interval, rate_interval
from compress.evaluation.errors import ErrorCounts, align, count_errors
from compress.evaluation.metrics import error_rates, further_scores
from compress.evaluation.speed import Speed
from compress.reports.making import created, made
from compress.structure import MODULES

if TYPE_CHECKING:
    from compress.cost import Size

REPORT_FORMAT = 1
ROLES = ("model", "baseline")
"""Whose numbers a report holds; it does without the baseline."""
Report = dict[str, Any]
KeptUnits = Sequence["dict[str, tuple[int, int]] | None"]

ABOUT = {
    "wer, cer, difference.wer": "fractions of the reference words or characters, pooled over the corpus: 0.05 is 5 %",
    "metrics": "numbers of further metrics of `evaluate`, in their own units",
    "wer_ci95": "[low, high], 95 % percentile bootstrap over utterances, fractions",
    "difference": "model - baseline on the same utterances; its interval is paired",
    "ratio.parameters, ratio.macs, ratio.bytes, ratio.memory": "model / baseline: below 1 is smaller",
    "ratio.speed": "seconds of the baseline / seconds of the model: above 1 is faster",
    "runtime": "what ran the model, its version, and the precision of the weights",
    "bytes": "weight files on disk, of an export its graphs",
    WEIGHTS_DIGEST: "of the names, types, shapes and values of all tensors: tells these weights from all others",
    "macs_per_second": "multiply-accumulate operations of one utterance of macs_seconds, divided by its length",
    "macs_end": "what they end with: the logits of a CTC head, or the encoder of a model without one",
    "rtf": "median seconds of computing per second of audio, under `conditions`",
    "peak_memory_bytes": "weights in memory + the growth of memory during one forward pass, see conditions.memory",
    "by": "error rates of the utterances of each value of a metadata column; wer_ci95 is null below two utterances",
    "blocks": "per block of the original model, null where it was dropped: [kept, original] units and parameters",
    "front": "per group of channels in front of the blocks: [kept, original]",
}


@dataclass(frozen=True)
class Transcripts:
    """What one model wrote, in the order of the data set; texts are normalised for scoring."""

    ids: tuple[str, ...]
    seconds: tuple[float | None, ...]  # None where a stream does not tell
    references: tuple[str, ...]
    hypotheses: tuple[str, ...]

    def only(self, ids: set[str]) -> Transcripts:
        """Some of the utterances, sorted by id, so that two models' transcripts line up."""
        rows = sorted((row for row in self.rows() if row[0] in ids), key=lambda row: row[0])
        return Transcripts(
            ids=tuple(row[0] for row in rows),
            seconds=tuple(row[1] for row in rows),
            references=tuple(row[2] for row in rows),
            hypotheses=tuple(row[3] for row in rows),
        )

    def rows(self) -> list[tuple[str, float | None, str, str]]:
        """One `(id, seconds, reference, hypothesis)` per utterance."""
        return list(zip(self.ids, self.seconds, self.references, self.hypotheses, strict=True))


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured of one model, and by which further metrics its transcripts are scored."""

    name: str
    family: str
    transcripts: Transcripts
    batching: str
    size: Size
    original: Size
    kept: KeptUnits
    disk_bytes: int
    digest: str
    memory_bytes: int
    speed: Speed
    compression: dict[str, Any] | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    runtime: dict[str, str] = field(default_factory=dict)
    front: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def build(
    measured: dict[str, Measurements],
    *,
    about: dict[str, str] | None = None,
    data: dict[str, Any],
    conditions: dict[str, Any],
    bootstrap: BootstrapConfig,
    worst: int,
) -> Report:
    """Puts the report together.

    Args:
        measured: under "model" and, if there is one, "baseline".
        about: what aspects add to `ABOUT`.
        data: what was read: source, the split that was read, number of utterances, problems.
        conditions: of the timing.
        bootstrap: how intervals are computed.
        worst: how many of the worst utterances to show.
    """
    report: Report = {
        "format": REPORT_FORMAT,
        "created": created(),
        "versions": _versions(),
        "about": ABOUT | (about or {}),
        "data": data,
        "conditions": conditions,
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "unit": "utterance"},
    }
    report |= {role: model_entry(measurements, bootstrap) for role, measurements in measured.items()}
    if "baseline" in measured:
        report["difference"] = difference(measured["model"].transcripts, measured["baseline"].transcripts, bootstrap)
        report["ratio"] = ratio(report["model"], report["baseline"])
    report["worst"] = worst_utterances({role: each.transcripts for role, each in measured.items()}, worst)
    return report


def _parameters(measured: Measurements) -> dict[str, Any]:
    size, original = measured.size, measured.original
    return {"total": size.total, "encoder": size.encoder, "blocks": size.blocks, "original_blocks": original.blocks}


def _speed_and_memory(measured: Measurements) -> dict[str, Any]:
    speed = measured.speed
    return {
        "rtf": speed.rtf,
        "rtf_repetitions": [seconds / speed.audio_seconds for seconds in speed.times_seconds],
        "peak_memory_bytes": measured.memory_bytes + speed.activation_bytes,
        "weights_memory_bytes": measured.memory_bytes,
    }


def model_entry(measured: Measurements, bootstrap: BootstrapConfig) -> dict[str, Any]:
    """What the report says about one model."""
    texts = measured.transcripts.references, measured.transcripts.hypotheses
    counts = count_errors(*texts)
    return {
        "name": measured.name,
        "family": measured.family,
        **error_rates(*texts).to_dict(),
        "wer_ci95": rate_interval(counts.errors, counts.words, bootstrap).to_list(),
        "metrics": further_scores(measured.metrics, *texts),
        "batching": measured.batching,
        "runtime": measured.runtime,
        "parameters": _parameters(measured),
        "bytes": measured.disk_bytes,
        WEIGHTS_DIGEST: measured.digest,
        "macs_per_second": measured.size.macs_per_second,
        "macs_seconds": measured.size.seconds,
        "macs_end": measured.size.macs_end,
        **_speed_and_memory(measured),
        "blocks": kept_blocks(measured.kept, measured.size.blocks, measured.original.blocks),
        "front": {name: list(counts) for name, counts in measured.front.items()},
        "compression": measured.compression,
    }


def kept_blocks(
    kept: KeptUnits,
    now: Sequence[dict[str, int]],
    before: Sequence[dict[str, int]],
) -> list[dict[str, Any] | None]:
    """Per block of the original model, `[kept, original]` units and parameters of each module; None if it was dropped.

    Args:
        kept: units, per block of the original.
        now: parameters by module, per block that is left.
        before: parameters by module, per block of the original.
    """
    left = iter(now)
    return [
        None if units is None else _kept_modules(units, next(left), original)
        for units, original in zip(kept, before, strict=True)
    ]


def difference(model: Transcripts, baseline: Transcripts, bootstrap: BootstrapConfig) -> dict[str, Any]:
    """The paired difference model - baseline over the utterances that both transcribed.

    Raises:
        ValueError: they have no utterance in common.
    """
    shared = set(model.ids) & set(baseline.ids)
    if not shared:
        raise ValueError("Model and baseline share no utterance, so they cannot be compared: check the data set.")
    left, right = _counts(model.only(shared)), _counts(baseline.only(shared))
    words = int(left.words.sum())
    gained = right.errors - left.errors
    return {
        "wer": float(left.errors.sum() - right.errors.sum()) / words,
        "wer_ci95": paired_interval(left.errors, right.errors, left.words, bootstrap).to_list(),
        "utterances": len(shared),
        "better": int((gained > 0).sum()),
        "same": int((gained == 0).sum()),
        "worse": int((gained < 0).sum()),
    }


def ratio(model: dict[str, Any], baseline: dict[str, Any]) -> dict[str, float]:
    """Model over baseline; for speed the other way round, so that above 1 is faster."""
    return {
        "parameters": model["parameters"]["total"] / baseline["parameters"]["total"],
        "encoder_parameters": model["parameters"]["encoder"] / baseline["parameters"]["encoder"],
        "bytes": model["bytes"] / baseline["bytes"],
        "macs": model["macs_per_second"] / baseline["macs_per_second"],
        "speed": baseline["rtf"] / model["rtf"],
        "memory": model["peak_memory_bytes"] / baseline["peak_memory_bytes"],
    }


def worst_utterances(transcripts: dict[str, Transcripts], count: int) -> list[dict[str, Any]]:
    """The utterances with most errors of the model, most first, with every model's words aligned to the reference."""
    model = transcripts["model"]
    errors = count_errors(model.references, model.hypotheses).errors
    order = sorted(range(len(model.ids)), key=lambda row: -errors[row])[:count]
    written = {role: dict(zip(texts.ids, texts.hypotheses, strict=True)) for role, texts in transcripts.items()}
    return [
        {
            "id": model.ids[row],
            "seconds": model.seconds[row],
            "reference": model.references[row],
            **{role: _aligned(model.references[row], texts, model.ids[row]) for role, texts in written.items()},
        }
        for row in order
        if errors[row] > 0
    ]


def _aligned(reference: str, texts: dict[str, str], name: str) -> dict[str, Any] | None:
    """The alignment of one utterance; None if this model could not use it."""
    if name not in texts:
        return None
    hypothesis = texts[name]
    columns = align(reference, hypothesis)
    return {
        "hypothesis": hypothesis,
        "errors": sum(column.kind != "equal" for column in columns),
        "alignment": [[column.kind, column.reference, column.hypothesis] for column in columns],
    }


def _kept_modules(
    units: dict[str, tuple[int, int]], now: dict[str, int], before: dict[str, int]
) -> dict[str, dict[str, list[int]]]:
    return {name: {"units": list(units[name]), "parameters": [now[name], before[name]]} for name in MODULES}


def _counts(transcripts: Transcripts) -> ErrorCounts:
    return count_errors(transcripts.references, transcripts.hypotheses)


def _versions() -> dict[str, Any]:
    return {**made()["versions"], "transformers": transformers.__version__, "python": platform.python_version()}
