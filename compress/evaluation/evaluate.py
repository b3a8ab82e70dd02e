"""`compress evaluate`: how well a model transcribes, how large and how fast it is, against a baseline."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from compress.checkpoint import read_compression
from compress.config import check, check_at_least, check_choice
from compress.conformers import family_of, kept_units, skeleton
from compress.cost import size_of
from compress.data import BatchConfig, SpeechConfig, SpeechDataset, open_speech
from compress.data.settings import SYNTHETIC
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.contenders import Contender, Evaluation
from compress.evaluation.errors import IGNORED, Normaliser, shared_vocabulary
from compress.evaluation.files import write_report
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.measured_aspects import MEASURED_ASPECTS
from compress.evaluation.memory import weights_in_memory
from compress.evaluation.report import Measurements, Report, build
from compress.evaluation.speed import Speed, SpeedConfig, conditions, measure, speed_inputs
from compress.machine import DTYPES, find_device

logger = logging.getLogger(__name__)

_ONE_BY_ONE = "one utterance at a time, since its output depends on padding"


def _test_split() -> SpeechConfig:
    return SpeechConfig(source=SYNTHETIC, split="test")


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate, on what, and how.

    Attributes:
        model: folder or Hub id of the model.
        data: the speech; the test split of the built-in synthetic corpus unless something else is named.
        baseline: folder or Hub id of the model to compare with, usually the teacher; None evaluates `model` alone.
        out: folder for report.json, report.md, report.html and transcripts.jsonl; None writes nothing.
        batch: how utterances are batched for transcription; families whose output depends on padding run one by one.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16".
        normalise: what scoring ignores on both sides: "none", "lower" (case), "words" (case and punctuation).
        macs_seconds: length of the utterance whose MACs are counted.
        speed: conditions of the timing.
        bootstrap: how intervals are computed.
        generate: how models without a CTC head write.
        worst: how many of the worst utterances the report shows.
    """

    model: str
    data: SpeechConfig = field(default_factory=_test_split)
    baseline: str | None = None
    out: str | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    device: str = "auto"
    dtype: str = "float32"
    normalise: Normaliser = "lower"
    macs_seconds: float = 10.0
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    worst: int = 20

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("normalise", self.normalise, IGNORED)
        length = "give the length of an utterance, for example 10"
        check(self.macs_seconds > 0, "macs_seconds", self.macs_seconds, length)
        check_at_least("worst", self.worst, 0, "utterances")


def evaluate_models(config: EvaluateConfig, *, console: Console | None = None) -> Report:
    """Evaluates a model, and a baseline under the very same conditions.

    Args:
        config: see `EvaluateConfig`.
        console: where progress is drawn; None draws nothing.

    Returns:
        The report, as written to report.json (`compress.evaluation.report.ABOUT` explains its units).

    Raises:
        ValueError: the data hold no word to score, or a model, device or file is not usable; the message says which.
    """
    device = find_device(config.device)
    names = {"model": config.model} | ({"baseline": config.baseline} if config.baseline else {})
    contenders = {role: Contender.load(name, device, DTYPES[config.dtype]) for role, name in names.items()}
    evaluation = Evaluation(config, contenders, _open(contenders, config), console)
    watchers = {aspect.name: aspect.watch(evaluation.model.model) for aspect in MEASURED_ASPECTS}
    for role, contender in contenders.items():
        watching = tuple(watchers.values()) if role == "model" else ()
        evaluation.transcripts[role] = evaluation.transcribe(contender, watching)
    evaluation.speeds = _speeds(contenders, config.speed)
    report = build(
        {role: _measurements(evaluation, role) for role in contenders},
        about={aspect.name: aspect.about for aspect in MEASURED_ASPECTS},
        data=_data_entry(evaluation),
        conditions=conditions(device, DTYPES[config.dtype], config.speed),
        bootstrap=config.bootstrap,
        worst=config.worst,
    )
    for aspect in MEASURED_ASPECTS:
        entry = aspect.measure(evaluation, watchers[aspect.name])
        report |= {} if entry is None else {aspect.name: entry}
    if config.out is not None:
        write_report(report, evaluation.transcripts, Path(config.out))
        logger.info("Report written to %s", config.out)
    return report


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

    def run_whole() -> None:
        for aspect in MEASURED_ASPECTS:
            aspect.run_whole(model)

    prepare = {**ways, "model": run_whole} if ways else {}
    with ExitStack() as stack:
        for aspect in MEASURED_ASPECTS:
            stack.enter_context(aspect.held_still([contender.model for contender in contenders.values()]))
        speeds = measure({role: contender.model for role, contender in roles.items()}, inputs, config, prepare)
    if ways:
        run_whole()
    return speeds


def _measurements(evaluation: Evaluation, role: str) -> Measurements:
    contender, config = evaluation.contenders[role], evaluation.config
    model, family = contender.model, family_of(contender.model)
    return Measurements(
        name=contender.name,
        family=family.name,
        transcripts=evaluation.transcripts[role],
        batching=_ONE_BY_ONE if family.padding_sensitive else f"in batches of up to {config.batch.seconds:g} s",
        size=size_of(model, config.macs_seconds),
        original=size_of(skeleton(model.config), config.macs_seconds),
        kept=kept_units(model),
        disk_bytes=contender.disk_bytes,
        memory_bytes=weights_in_memory(model),
        speed=evaluation.speeds[role],
        compression=read_compression(contender.name),
    )


def _data_entry(evaluation: Evaluation) -> dict[str, Any]:
    config, transcripts = evaluation.config, evaluation.transcripts["model"]
    known = [seconds for seconds in transcripts.seconds if seconds is not None]
    problems = evaluation.speech_for(evaluation.model).problems
    return {
        "source": config.data.source,
        "subset": config.data.subset,
        "split": config.data.split,
        "utterances": len(transcripts.ids),
        "seconds": sum(known) if len(known) == len(transcripts.ids) else None,
        "normalise": config.normalise,
        "ignores": IGNORED[config.normalise],
        "problems": [{"file": problem.file, "reason": problem.reason} for problem in problems],
    }
