"""What skipping does to a model, in the report: frames, MACs, word error rate and speed with it and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from compress.conformers import blocks_of
from compress.data import (
    Batch,
    BatchConfig,
    SpeechDataset,
    SpeechLoader,
    extract_features,
    feature_extractor_of,
    of_first_buffer,
)
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.contenders import Evaluation
from compress.evaluation.errors import count_errors
from compress.evaluation.measured_aspect import MeasuredAspect
from compress.evaluation.metrics import error_rates
from compress.evaluation.report import Report, Transcripts
from compress.evaluation.rows import InUse
from compress.evaluation.skipping_plot import utterance_figure
from compress.evaluation.speed import SpeedConfig, measure
from compress.evaluation.transcribe import to_model
from compress.evaluation.usage import Frames, SkippingMacs, frames_of_last_pass, skipped_share
from compress.reports import formats
from compress.reports.page import Figure, Panel, Section, Table, Text, code
from compress.running.skipper import Skipper, skipper_of, without_skipping
from compress.running.skipping import Skipping, write_skipping

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_HEADER = ("skipping", "frames skipped", "MACs", "WER", "95 % interval", "RTF on speech", "speed")
TIMED_BATCHES = 8
"""Batches of the data set on which speed with and without skipping is measured."""
_ENVELOPE = 400  # columns in which the waveform of an utterance is drawn
_DIGITS = 4


class MeasuredSkipping(MeasuredAspect):
    """Letting blank frames skip blocks: the same speech with it and without, and speed on speech."""

    name = "skipping"
    about = (
        "of a model whose blank frames skip blocks: on and off, the same speech with and without skipping; macs_share "
        "and speedup refer to off; rtf is on speech of the data set. Elsewhere speed and MACs are without it"
    )

    def watch(self, model: PreTrainedModel) -> FrameCounter:
        """Gives what counts the frames that skip in every batch that the model transcribes."""
        return FrameCounter(model)

    def held_still(self, models: Sequence[PreTrainedModel]) -> AbstractContextManager[None]:
        """Inside, no model skips: frames of noise would do so or not, by chance."""
        return none_skipping(models)

    def measure(self, evaluation: Evaluation, watcher: FrameCounter) -> dict[str, Any] | None:
        """Transcribes without skipping and times both ways on speech; None for a model that cannot skip."""
        if not watcher.frames:
            return None
        contender, config = evaluation.model, evaluation.config
        with none_skipping([contender.model]):
            off = evaluation.transcribe(contender)
        roles = {"off": contender, "on": contender} | {
            role: other for role, other in evaluation.contenders.items() if role != "model"
        }
        batches = {
            role: speech_batches(evaluation.speech_for(other), other.processor, config.speed)
            for role, other in roles.items()
        }
        factors = real_time_factors({role: other.model for role, other in roles.items()}, batches, config.speed)
        written = {"off": off, "on": evaluation.transcripts["model"]}
        entry = skipping_entry(contender.model, watcher.frames, written, factors, config.bootstrap)
        dataset = evaluation.speech_for(contender)
        return entry | {"example": example(contender.model, contender.processor, dataset)}

    def in_use(self, report: Report) -> InUse | None:
        """With skipping, on speech."""
        if (entry := report.get(self.name)) is None:
            return None
        rtf = entry["rtf"]
        return InUse(rtf["on"], rtf.get("baseline"), " on speech, with skipping", ", without skipping")

    def summary(self, report: Report) -> str:
        """What skipping alone does."""
        entry = report.get(self.name)
        if entry is None:
            return ""
        wer, faster = formats.percent(entry["off"]["wer"]), formats.times(entry["speedup"])
        return f"Without skipping its WER is {wer}; with it the model is {faster} as fast as without."

    def sections(self, report: Report) -> list[Section]:
        """One section of the page, with an utterance frame by frame if there is one; none if nothing skips."""
        entry = report.get(self.name)
        if entry is None:
            return []
        note = (
            f"{_setting_line(entry)} Real-time factors are those of speech of the data set; all other numbers of this "
            "page about speed and MACs are without skipping."
        )
        table = Table(_HEADER, _rows(entry, report.get("baseline")))
        return [Section("What skipping does", [Text(note), table, *_utterance(entry["example"])])]


MEASURED_SKIPPING = MeasuredSkipping()


class FrameCounter:
    """Counts the frames that skip, utterance by utterance, in the passes of a model; of another model none."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.frames: list[Frames] = []

    def __call__(self, batch: Batch) -> None:
        """Counts the frames of the batch that has just been transcribed."""
        skipper = skipper_of(self._model)
        if skipper is not None and skipper.last.valid is not None:
            self.frames += frames_of_last_pass(self._model)


@contextmanager
def none_skipping(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """Inside, no model skips."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(without_skipping(model))
        yield


def speech_batches(
    dataset: SpeechDataset, processor: ProcessorMixin, config: SpeedConfig, count: int = TIMED_BATCHES
) -> list[Batch]:
    """Some batches of a data set, drawn at random (of a stream: the first), on which speed is measured.

    Args:
        dataset: speech.
        processor: of the model.
        config: says how many utterances are in a batch, and seeds the draw.
        count: how many batches, at most.
    """
    wanted = count * config.batch
    if not dataset.streaming:
        dataset = dataset.sample(wanted, config.seed)
    batching = BatchConfig(seconds=float("inf"), max_utterances=config.batch, buffer_utterances=wanted, workers=0)
    loader = SpeechLoader(dataset, processor, batching, shuffle=False)
    batches = list(of_first_buffer(loader.epoch(0)))
    loader.close()
    return batches


def real_time_factors(
    models: dict[str, PreTrainedModel], batches: dict[str, list[Batch]], config: SpeedConfig
) -> dict[str, float]:
    """Real-time factors on speech, where what is said decides what skips.

    Args:
        models: by role; `on` and `off` are one model that can skip, with and without doing so.
        batches: by role, the same speech.
        config: conditions of the timing.
    """
    settings = _skipper(models["on"]).settings
    modes = {"on": settings, "off": replace(settings, threshold=1.0)}
    passes = [(role, number) for number in range(len(batches["on"])) for role in models]
    names = {(role, number): f"{role} {number}" for role, number in passes}
    prepare = {
        names[role, number]: partial(_skipper(models[role]).use, models[role], modes[role])
        for role, number in passes
        if role in modes
    }
    inputs = {names[role, number]: batches[role][number].inputs for role, number in passes}
    speeds = measure({names[role, number]: models[role] for role, number in passes}, inputs, config, prepare)
    _skipper(models["on"]).use(models["on"], settings)
    seconds = sum(batch.seconds for batch in batches["on"])
    return {
        role: sum(speeds[names[role, number]].median_seconds for number in range(len(batches[role]))) / seconds
        for role in models
    }


def skipping_entry(
    model: PreTrainedModel,
    frames: Sequence[Frames],
    written: dict[str, Transcripts],
    factors: dict[str, float],
    bootstrap: BootstrapConfig,
) -> dict[str, Any]:
    """What the report says of a model's skipping.

    Args:
        model: one that can skip.
        frames: of all utterances.
        written: `on` and `off`, what it wrote with and without skipping.
        factors: real-time factors on speech by role.
        bootstrap: how intervals are computed.
    """
    settings, macs = _skipper(model).settings, SkippingMacs(model)
    share = macs.share(frames, settings)
    return {
        "settings": write_skipping(settings),
        "blocks": len(blocks_of(model)),
        "frames": sum(utterance.all for utterance in frames),
        "skipped": skipped_share(frames),
        "macs_share": share,
        "macs_per_second": _per_second(macs, frames, settings, written["on"]),
        "predicted_speedup": 1 / share,
        "speedup": factors["off"] / factors["on"],
        "rtf": factors,
        **{role: _rates(transcripts, bootstrap) for role, transcripts in written.items()},
    }


def _per_second(
    macs: SkippingMacs, frames: Sequence[Frames], settings: Skipping, transcripts: Transcripts
) -> float | None:
    known = [seconds for seconds in transcripts.seconds if seconds is not None]
    return sum(macs.of(each, settings) for each in frames) / sum(known) if len(known) == len(frames) else None


def _rates(transcripts: Transcripts, bootstrap: BootstrapConfig) -> dict[str, Any]:
    counts = count_errors(transcripts.references, transcripts.hypotheses)
    interval = rate_interval(counts.errors, counts.words, bootstrap).to_list()
    return {"wer": error_rates(transcripts.references, transcripts.hypotheses).wer, "wer_ci95": interval}


@torch.no_grad()
def example(model: PreTrainedModel, processor: ProcessorMixin, dataset: SpeechDataset) -> dict[str, Any] | None:
    """One utterance of middle length, frame by frame: waveform, blank, which frames ran deep, words and when.

    Args:
        model: one that can skip, in eval mode.
        processor: its own.
        dataset: speech; a stream has no utterance of middle length, and gives None.
    """
    if dataset.streaming:
        return None
    index = sorted(range(len(dataset)), key=lambda row: dataset.seconds[row])[len(dataset) // 2]
    utterance = dataset[index]
    inputs = extract_features(feature_extractor_of(processor), [utterance.samples], dataset.sampling_rate)
    logits: Tensor = model(**to_model(model, inputs)).logits[0]
    skipper = _skipper(model)
    seen = skipper.last
    if seen.blank is None or seen.deep is None or seen.valid is None:
        return None
    valid = seen.valid[0]
    tokens = logits.argmax(-1)[valid].tolist()
    return {
        "id": utterance.id,
        "seconds": utterance.seconds,
        "reference": utterance.text,
        "threshold": skipper.settings.threshold,
        "wave": _envelope(np.asarray(utterance.samples)),
        "blank": [round(value, _DIGITS) for value in seen.blank[0][valid].tolist()],
        "kept": seen.deep[0][valid].int().tolist(),
        "words": words_in_time(processor, tokens, utterance.seconds / max(1, len(tokens))),
    }


def words_in_time(processor: Any, tokens: Sequence[int], frame_seconds: float) -> list[tuple[str, float]]:
    """The words of greedy tokens, and when the first token of each was written, in seconds.

    Args:
        processor: decodes CTC tokens into words, whatever its tokens are.
        tokens: one a frame.
        frame_seconds: length of a frame.
    """
    starts: list[float] = []
    written: list[str] = []
    for frame, (before, token) in enumerate(zip([None, *tokens], tokens, strict=False)):
        if token != before:
            written = processor.batch_decode([list(tokens[: frame + 1])])[0].split()
            starts += [frame * frame_seconds] * (len(written) - len(starts))
    return list(zip(written, starts, strict=False))


def _envelope(samples: np.ndarray) -> list[list[float]]:
    """Lowest and highest sample of each column of a picture."""
    parts = np.array_split(samples, min(_ENVELOPE, len(samples)))
    return [[round(float(part.min()), _DIGITS), round(float(part.max()), _DIGITS)] for part in parts]


def _utterance(example: dict[str, Any] | None) -> list[Panel]:
    """One utterance, frame by frame; None of a stream."""
    if example is None:
        return []
    note = (
        f"{code(example['id'])}, said: {example['reference']}. The line is the probability of the blank behind the "
        "first blocks, dashed the threshold; only the marked frames, bars below, went through all blocks."
    )
    label = "Waveform of one utterance, probability of the blank, frames that went through all blocks, and words"
    return [Panel("One utterance", [Figure(utterance_figure(example), label, note, wide=True)])]


def _rows(entry: dict[str, Any], baseline: dict[str, Any] | None) -> list[list[str]]:
    """Off, on, and the baseline if there is one, under `_HEADER`."""
    shares = {"off": ("0 %", "100 %"), "on": (formats.percent(entry["skipped"]), formats.percent(entry["macs_share"]))}
    measured = {role: entry[role] for role in shares} | ({"baseline": baseline} if baseline else {})
    return [
        [
            role,
            *shares.get(role, ("", "")),
            formats.percent(rates["wer"], 2),
            formats.interval(rates["wer_ci95"], 2),
            formats.significant(entry["rtf"][role]),
            formats.times(entry["rtf"]["off"] / entry["rtf"][role]),
        ]
        for role, rates in measured.items()
    ]


def _setting_line(entry: dict[str, Any]) -> str:
    """By which settings the model skips, in words."""
    settings, speed = entry["settings"], formats.times(entry["predicted_speedup"])
    return (
        f"Behind the first {settings['first_blocks']} of {entry['blocks']} blocks, frames skip whose blank is likelier "
        f"than {settings['threshold']:g}, unless they are within {settings['extension']} of one that is not. By its "
        f"MACs the model would be {speed} as fast."
    )


def _skipper(model: PreTrainedModel) -> Skipper:
    skipper = skipper_of(model)
    assert skipper is not None
    return skipper
