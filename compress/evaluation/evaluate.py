"""`compress evaluate`: how well a model transcribes, how large and how fast it is, against a baseline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compress.checkpoint import load_model, load_processor, read_compression
from compress.conformers import family_of, kept_units, skeleton
from compress.cost import size_of
from compress.data import (
    Batch,
    BatchConfig,
    SpeechConfig,
    SpeechDataset,
    SpeechLoader,
    feature_extractor_of,
    open_speech,
)
from compress.data.settings import SYNTHETIC
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.errors import IGNORED, Normaliser, normalise, shared_vocabulary
from compress.evaluation.files import write_report
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.memory import weights_in_memory
from compress.evaluation.report import Measurements, Report, Transcripts, build
from compress.evaluation.skipping import (
    FrameCounter,
    example,
    none_skipping,
    real_time_factors,
    skipping_entry,
    speech_batches,
)
from compress.evaluation.speed import Speed, SpeedConfig, conditions, measure, speed_inputs
from compress.evaluation.subnets import measurements, role_of, setters, subnet_entries, subnets_below
from compress.evaluation.transcribe import OnBatch, batching_for, transcribe
from compress.evaluation.weights import bytes_on_disk
from compress.machine import DTYPES, find_device
from compress.running.subnets import subnet_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

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
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} is unknown; choose one of {', '.join(DTYPES)}.")
        if self.normalise not in IGNORED:
            raise ValueError(f"normalise={self.normalise!r} is unknown; choose one of {', '.join(IGNORED)}.")
        if self.macs_seconds <= 0:
            raise ValueError(f"macs_seconds is {self.macs_seconds}; give the length of an utterance, for example 10.")
        if self.worst < 0:
            raise ValueError(f"worst is {self.worst}; give 0 or more utterances.")


@dataclass(frozen=True)
class _Contender:
    """A loaded model with everything needed to run it."""

    name: str
    model: PreTrainedModel
    processor: ProcessorMixin
    disk_bytes: int

    @property
    def sampling_rate(self) -> int:
        return int(feature_extractor_of(self.processor).sampling_rate)


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
    contenders = {role: _load(name, device, DTYPES[config.dtype]) for role, name in names.items()}
    datasets = _open(contenders, config)
    counter = FrameCounter(contenders["model"].model)
    transcripts = {
        role: _transcribe(
            one, datasets[one.sampling_rate], config, console, counter if role == "model" else _count_nothing
        )
        for role, one in contenders.items()
    }
    written = _written_at_sizes(contenders["model"], transcripts["model"], datasets, config, console)
    speeds = _speeds(contenders, config.speed)
    measured = {role: _measurements(one, transcripts[role], speeds[role], config) for role, one in contenders.items()}
    report = build(
        measured,
        data=_data_entry(datasets[contenders["model"].sampling_rate], transcripts["model"], config),
        conditions=conditions(device, DTYPES[config.dtype], config.speed),
        bootstrap=config.bootstrap,
        worst=config.worst,
    )
    at_sizes = measurements(contenders["model"].model, written, speeds, config.macs_seconds)
    report |= subnet_entries(at_sizes, config.bootstrap)
    if counter.frames:
        report["skipping"] = _skipping(contenders, datasets, counter, transcripts["model"], config, console)
    if config.out is not None:
        write_report(report, transcripts, Path(config.out))
        logger.info("Report written to %s", config.out)
    return report


def _load(name: str, device: torch.device, dtype: torch.dtype) -> _Contender:
    model = load_model(name, dtype=dtype, device=str(device)).eval()
    return _Contender(name, model, load_processor(name), bytes_on_disk(name))


def _open(contenders: dict[str, _Contender], config: EvaluateConfig) -> dict[int, SpeechDataset]:
    """The data at every sampling rate that is asked for; one rate, opened once, is the usual case."""
    vocabulary = shared_vocabulary([one.processor for one in contenders.values()], config.normalise)
    rates = sorted({one.sampling_rate for one in contenders.values()})
    return {rate: open_speech(config.data, sampling_rate=rate, vocabulary=vocabulary) for rate in rates}


def _transcribe(
    one: _Contender,
    dataset: SpeechDataset,
    config: EvaluateConfig,
    console: Console | None,
    on_batch: OnBatch,
) -> Transcripts:
    """What a model wrote, in the order of the data set (of a stream: in the order in which it came)."""

    def finished(batch: Batch) -> None:
        progress.advance(task, len(batch.ids))
        on_batch(batch)

    loader = SpeechLoader(dataset, one.processor, batching_for(one.model, config.batch), shuffle=False)
    with _progress(console) as progress:
        task = progress.add_task(f"transcribing with {one.name}", total=None if dataset.streaming else len(dataset))
        ids, references, texts = transcribe(
            one.model,
            loader,
            one.processor,
            on_batch=finished,
            config=config.generate,
        )
    loader.close()
    written = {name: (reference, text) for name, reference, text in zip(ids, references, texts, strict=True)}
    lengths = dict(zip(dataset.ids, dataset.seconds, strict=True))
    order = ids if dataset.streaming else dataset.ids
    return Transcripts(
        ids=tuple(order),
        seconds=tuple(lengths.get(name) for name in order),
        references=tuple(normalise(written[name][0], config.normalise) for name in order),
        hypotheses=tuple(normalise(written[name][1], config.normalise) for name in order),
    )


@contextmanager
def _progress(console: Console | None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as progress:
        yield progress


def _written_at_sizes(
    one: _Contender,
    full: Transcripts,
    datasets: dict[int, SpeechDataset],
    config: EvaluateConfig,
    console: Console | None,
) -> dict[str, Transcripts]:
    """What an elastic model wrote at each size, the full one last, at which it is left; nothing if it has no others."""
    at, found = setters(one.model), {}
    for size in subnets_below(one.model):
        at[role_of(size)]()
        found[size] = _transcribe(one, datasets[one.sampling_rate], config, console, _count_nothing)
    if found:
        at["model"]()
        found[subnet_names(one.model)[-1]] = full
    return found


def _speeds(contenders: dict[str, _Contender], config: SpeedConfig) -> dict[str, Speed]:
    """Every model and every size of an elastic one, in turn."""
    prepare = setters(contenders["model"].model)
    every = {**dict.fromkeys(prepare, contenders["model"]), **contenders}
    inputs = {role: speed_inputs(one.processor, one.sampling_rate, config) for role, one in every.items()}
    with none_skipping([one.model for one in contenders.values()]):  # noise would skip or not, by chance
        speeds = measure({role: one.model for role, one in every.items()}, inputs, config, prepare)
    if prepare:
        prepare["model"]()
    return speeds


def _count_nothing(batch: Batch) -> None:
    pass


def _skipping(
    contenders: dict[str, _Contender],
    datasets: dict[int, SpeechDataset],
    counter: FrameCounter,
    written: Transcripts,
    config: EvaluateConfig,
    console: Console | None,
) -> dict[str, Any]:
    """What skipping does to the model: the same speech without it, and speed on speech, the baseline's, too."""
    one = contenders["model"]
    dataset = datasets[one.sampling_rate]
    with none_skipping([one.model]):
        off = _transcribe(one, dataset, config, console, _count_nothing)
    roles = {"off": one, "on": one} | {role: other for role, other in contenders.items() if role == "baseline"}
    batches = {
        role: speech_batches(datasets[other.sampling_rate], other.processor, config.speed)
        for role, other in roles.items()
    }
    factors = real_time_factors({role: other.model for role, other in roles.items()}, batches, config.speed)
    entry = skipping_entry(one.model, counter.frames, {"off": off, "on": written}, factors, config.bootstrap)
    return entry | {"example": example(one.model, one.processor, dataset)}


def _measurements(one: _Contender, transcripts: Transcripts, speed: Speed, config: EvaluateConfig) -> Measurements:
    return Measurements(
        name=one.name,
        family=family_of(one.model).name,
        transcripts=transcripts,
        batching=_ONE_BY_ONE
        if family_of(one.model).padding_sensitive
        else f"in batches of up to {config.batch.seconds:g} s",
        size=size_of(one.model, config.macs_seconds),
        original=size_of(skeleton(one.model.config), config.macs_seconds),
        kept=kept_units(one.model),
        disk_bytes=one.disk_bytes,
        memory_bytes=weights_in_memory(one.model),
        speed=speed,
        compression=read_compression(one.name),
    )


def _data_entry(dataset: SpeechDataset, transcripts: Transcripts, config: EvaluateConfig) -> dict[str, Any]:
    known = [seconds for seconds in transcripts.seconds if seconds is not None]
    return {
        "source": config.data.source,
        "subset": config.data.subset,
        "split": config.data.split,
        "utterances": len(transcripts.ids),
        "seconds": sum(known) if len(known) == len(transcripts.ids) else None,
        "normalise": config.normalise,
        "ignores": IGNORED[config.normalise],
        "problems": [{"file": problem.file, "reason": problem.reason} for problem in dataset.problems],
    }
