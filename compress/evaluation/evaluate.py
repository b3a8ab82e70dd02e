"""`compress evaluate`: how well a model transcribes, how large and how fast it is, against a baseline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel

from compress.checkpoint import read_compression
from compress.checkpoint.exported import Export, is_export
from compress.conformers import family_of, kept_channels, kept_units, skeleton
from compress.cost import size_of
from compress.data import SpeechDataset, open_speech
from compress.evaluation.contenders import Contender, Evaluation
from compress.evaluation.files import write_report
from compress.evaluation.groups import groups_of, rates_by_group
from compress.evaluation.measured_aspects import MEASURED_ASPECTS
from compress.evaluation.metrics import load_metrics
from compress.evaluation.normalisation import scoring_rule, shared_vocabulary
from compress.evaluation.report import Measurements, Report, build
from compress.evaluation.settings import EvaluateConfig
from compress.evaluation.speed import Speed, SpeedConfig, conditions, measure, speed_inputs
from compress.evaluation.transcribe import why_one_by_one
from compress.files.writing import WriteError, require_writable
from compress.machine import DTYPES, find_device

logger = logging.getLogger(__name__)


class ReportNotWritten(WriteError):
    """The files of a report could not be written.

    Attributes:
        report: itself, which is complete.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def evaluate_models(config: EvaluateConfig, *, console: Console | None = None, export: Export | None = None) -> Report:
    """Evaluates a model, and a baseline under the very same conditions.

    Args:
        config: the models, the speech, and the conditions.
        console: where progress is drawn; None draws nothing.
        export: of the model, which is evaluated in its place.

    Returns:
        The report, as written to report.json (`compress.evaluation.report.ABOUT` explains its units).

    Raises:
        ReportNotWritten: the files cannot be written any more; it holds the report.
        ValueError: the data hold no word to score, or a model, device or file is not usable; the message says which.
    """
    if config.out is not None:
        require_writable(config.out)
    metrics = load_metrics(config.metrics)
    device, contenders = _contenders(config, export)
    rule = scoring_rule(config.normalise, [contender.processor for contender in contenders.values()])
    evaluation = Evaluation(config, contenders, _open(contenders, config), rule, console)
    watchers = {aspect.name: aspect.watch(evaluation.model.model) for aspect in MEASURED_ASPECTS}
    groups = groups_of(evaluation.speech_for(evaluation.model), config.by)
    for role, contender in contenders.items():
        watching = tuple(watchers.values()) if role == "model" else ()
        evaluation.transcripts[role] = evaluation.transcribe(contender, watching)
    evaluation.speeds = _speeds(contenders, config.speed)
    report = build(
        {role: _measurements(evaluation, role, metrics) for role in contenders},
        about={aspect.name: aspect.about for aspect in MEASURED_ASPECTS},
        data=_data_entry(evaluation),
        conditions=conditions(device, DTYPES[config.dtype], config.speed),
        bootstrap=config.bootstrap,
        worst=config.worst,
    )
    for aspect in MEASURED_ASPECTS:
        entry = aspect.measure(evaluation, watchers[aspect.name])
        report |= {} if entry is None else {aspect.name: entry}
    if groups is not None:
        report["by"] = rates_by_group(config.by, groups, evaluation.transcripts, config.bootstrap)
    if config.out is not None:
        _write(report, evaluation, Path(config.out))
    return report


def _contenders(config: EvaluateConfig, export: Export | None) -> tuple[torch.device, dict[str, Contender]]:
    """The models by role, and where they run: graphs run on the CPU, and whatever is compared with one does, too."""
    names = {"model": config.model} | ({"baseline": config.baseline} if config.baseline else {})
    on_cpu = export is not None or any(map(is_export, names.values()))
    if on_cpu and config.device not in ("auto", "cpu"):
        raise ValueError(f"device is {config.device!r}, and exported graphs run on the CPU: leave it out, or give cpu.")
    device = find_device("cpu" if on_cpu else config.device)
    contenders = {}
    for role, name in names.items():
        of_export = export if role == "model" else None
        contenders[role] = (
            Contender.of_export(name, of_export) if of_export else Contender.load(name, device, DTYPES[config.dtype])
        )
    return device, contenders


def _write(report: Report, evaluation: Evaluation, out: Path) -> None:
    try:
        write_report(report, evaluation.transcripts, out)
    except WriteError as error:
        raise ReportNotWritten(str(error), report) from error
    logger.info("Report written to %s", out)


def _open(contenders: dict[str, Contender], config: EvaluateConfig) -> dict[int, SpeechDataset]:
    """The data at every sampling rate that is asked for; one rate, opened once, is the usual case."""
    processors = [contender.processor for contender in contenders.values()]
    vocabulary = shared_vocabulary(processors, config.normalise)
    rates = sorted({contender.sampling_rate for contender in contenders.values()})
    return {rate: open_speech(config.data, sampling_rate=rate, vocabulary=vocabulary) for rate in rates}


def _speeds(contenders: dict[str, Contender], config: SpeedConfig) -> dict[str, Speed]:
    """Every contender and every further way in which the model runs, in turn."""
    model = contenders["model"].model
    ways = {name: setter for aspect in MEASURED_ASPECTS for name, setter in aspect.ways(model).items()}
    roles = {**dict.fromkeys(ways, contenders["model"]), **contenders}
    inputs = {
        role: speed_inputs(contender.processor, contender.sampling_rate, config) for role, contender in roles.items()
    }

    prepare: dict[str, Callable[[], None]] = {**ways, "model": partial(_run_whole, model)} if ways else {}
    with ExitStack() as stack:
        for aspect in MEASURED_ASPECTS:
            stack.enter_context(aspect.held_still([contender.model for contender in contenders.values()]))
        speeds = measure({role: contender.model for role, contender in roles.items()}, inputs, config, prepare)
    if ways:
        _run_whole(model)
    return speeds


def _run_whole(model: PreTrainedModel) -> None:
    for aspect in MEASURED_ASPECTS:
        aspect.run_whole(model)


def _measurements(evaluation: Evaluation, role: str, metrics: Mapping[str, Any]) -> Measurements:
    contender, config = evaluation.contenders[role], evaluation.config
    model, family = contender.model, family_of(contender.model)
    return Measurements(
        name=contender.name,
        family=family.name,
        transcripts=evaluation.transcripts[role],
        batching=_batching(model, config),
        size=size_of(model, config.macs_seconds),
        original=size_of(skeleton(model.config), config.macs_seconds),
        kept=kept_units(model),
        front=kept_channels(model),
        disk_bytes=contender.disk_bytes,
        digest=contender.digest,
        memory_bytes=contender.memory_bytes,
        speed=evaluation.speeds[role],
        compression=read_compression(contender.checkpoint),
        metrics=metrics,
        runtime=contender.runtime,
    )


def _batching(model: PreTrainedModel, config: EvaluateConfig) -> str:
    """How it was transcribed, in words."""
    if reason := why_one_by_one(model):
        return f"one utterance at a time, since {reason}"
    return f"in batches of up to {config.batch.seconds:g} s"


def _data_entry(evaluation: Evaluation) -> dict[str, Any]:
    config, transcripts = evaluation.config, evaluation.transcripts["model"]
    known = [seconds for seconds in transcripts.seconds if seconds is not None]
    speech = evaluation.speech_for(evaluation.model)
    return {
        "source": config.data.named(),
        "subset": config.data.subset,
        "split": speech.split,
        "utterances": len(transcripts.ids),
        "seconds": sum(known) if len(known) == len(transcripts.ids) else None,
        "normalise": config.normalise,
        "ignores": evaluation.rule.ignores,
        "problems": [problem.facts() for problem in speech.problems],
    }
