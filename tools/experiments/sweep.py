"""The word error rate of models that skip against their real-time factor, and the speed of new ones that skip.

Stands behind tools/experiments/skipping.py and skipping_ways.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from compress.checkpoint import load_model, load_processor
from compress.cost import dummy_input
from compress.data import Batch, BatchConfig, SpeechConfig, SpeechLoader, open_speech
from compress.evaluation import SpeedConfig, error_rates, transcribe
from compress.evaluation.errors import count_errors
from compress.evaluation.measured_skipping import FrameCounter, speech_batches
from compress.evaluation.speed import measure
from compress.evaluation.transcribe import batching_for
from compress.evaluation.usage import Frames, SkippingMacs, skipped_share
from compress.model.able_to_skip import able_to_skip
from compress.running.skipper import required_skipper, skipper_of
from compress.running.skipping import Skipping

RATE = 16000
OFF = 1.0
Run = tuple[PreTrainedModel, Skipping | None]
"""A model at a setting."""


class Sweep:
    """The teacher, and every model at every setting, on one split.

    Args:
        data: a folder with that split.
        teacher: the model that does not skip.
        models: those that do, by name.
        utterances: how many of the split.
        speed: how passes are timed; the batch is set for each measurement.
        split: of the data.
    """

    def __init__(
        self,
        data: str,
        teacher: str,
        models: dict[str, Path],
        utterances: int,
        speed: SpeedConfig,
        split: str = "test",
    ) -> None:
        self.models = {"teacher": load_model(teacher).eval()}
        self.models |= {name: load_model(str(path)).eval() for name, path in models.items()}
        self.processor = load_processor(teacher)
        self.dataset = open_speech(SpeechConfig(source=data, split=split), sampling_rate=RATE).sample(utterances)
        self.speed = speed

    def rows(self, settings: Sequence[tuple[float, int]], batches: Sequence[int]) -> list[dict[str, Any]]:
        """One entry per model and setting: what it skips, what it costs by its MACs and by the clock, its error rate.

        Args:
            settings: pairs of threshold and extension.
            batches: utterances of a timed batch.
        """
        runs = [("teacher", None), *self._runs(settings)]
        rows = [self._measured(name, skipping) for name, skipping in runs]
        timed = [(self.models[name], skipping) for name, skipping in runs]
        for size in batches:
            config = replace(self.speed, batch=size)
            factors = real_time_factors(timed, speech_batches(self.dataset, self.processor, config), config)
            for row, factor in zip(rows, factors, strict=True):
                row[f"rtf_{size}"] = factor
        return rows

    def _runs(self, settings: Sequence[tuple[float, int]]) -> Iterator[tuple[str, Skipping]]:
        """Every model that can skip: without skipping, and behind every head at every setting."""
        for name, model in self.models.items():
            if skipper := skipper_of(model):
                yield name, replace(skipper.settings, threshold=OFF)
                for first in skipper.settings.heads:
                    at = partial(replace, skipper.settings, first_blocks=first)
                    yield from ((name, at(threshold=threshold, extension=ext)) for threshold, ext in settings)

    def _measured(self, name: str, skipping: Skipping | None) -> dict[str, Any]:
        model, counter = self.models[name], FrameCounter(self.models[name])
        _set(model, skipping)
        loader = SpeechLoader(self.dataset, self.processor, batching_for(model, BatchConfig()), shuffle=False)
        _, references, written = transcribe(model, loader, self.processor, on_batch=counter)
        loader.close()
        rates, counts = error_rates(references, written), count_errors(references, written)
        frames = counter.frames or [Frames(1, 1)]
        where = {"first_blocks": skipping.first_blocks, "threshold": skipping.threshold} if skipping else {}
        share = SkippingMacs(model).share(frames, skipping) if skipping and skipping.threshold < OFF else 1.0
        print(f"{name} {where}: WER {rates.wer:.2%}, {skipped_share(frames):.1%} of the frames skip", flush=True)
        return {"model": name, "parameters": model.num_parameters(), "wer": rates.wer, "cer": rates.cer,
                "extension": skipping.extension if skipping else None, "skipped": skipped_share(frames),
                "macs_share": share, "errors": counts.errors.tolist(), "words": counts.words.tolist(),
                **where}  # fmt: skip


def new_models(plain: PreTrainedModel, first_blocks: int) -> list[PreTrainedModel]:
    """A model that can skip behind its first blocks, with a plain and with a factorised CTC head."""
    heads = (first_blocks,)
    return [
        able_to_skip(plain, Skipping(first_blocks, OFF, 0, heads=heads, factorised=factorised))
        for factorised in (False, True)
    ]


def speed_rows(
    plain: PreTrainedModel, models: Sequence[PreTrainedModel], shares: Sequence[float], config: SpeedConfig
) -> list[dict[str, Any]]:
    """The speed-up of skipping over a model that does not, as MACs predict it and as the clock measures it.

    Args:
        plain: the model that does not skip.
        models: those that do.
        shares: of the frames that are kept.
        config: length and number of the utterances, and how passes are timed.
    """
    inputs = {"input_features": dummy_input(plain, config.seconds, config.batch, "cpu")}
    batch = Batch(inputs, torch.empty(0), [], [], config.seconds * config.batch)
    chosen = [(model, _keeping(model, inputs, share)) for share in shares for model in models]
    full, *factors = real_time_factors([(plain, None), *chosen], [batch], config)
    rows = []
    for (model, skipping), factor in zip(chosen, factors, strict=True):
        frames = _frames(model, inputs, skipping)
        predicted = 1 / SkippingMacs(model).share(frames, skipping)
        rows.append({"batch": config.batch, "factorised": skipping.factorised, "skipped": skipped_share(frames),
                     "predicted": predicted, "measured": full / factor})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def real_time_factors(runs: Sequence[Run], speech: Sequence[Batch], config: SpeedConfig) -> list[float]:
    """Real-time factors, all runs taking turns on every batch."""
    seconds = [0.0] * len(runs)
    names = [str(number) for number in range(len(runs))]
    models = {name: model for name, (model, _) in zip(names, runs, strict=True)}
    prepare = {name: partial(_set, *run) for name, run in zip(names, runs, strict=True)}
    for batch in speech:
        speeds = measure(models, dict.fromkeys(names, batch.inputs), config, prepare)
        for number, name in enumerate(names):
            seconds[number] += speeds[name].median_seconds
    return [total / sum(batch.seconds for batch in speech) for total in seconds]


def _set(model: PreTrainedModel, skipping: Skipping | None) -> None:
    if skipping is not None:
        required_skipper(model).use(model, skipping)


@torch.no_grad()
def _keeping(model: PreTrainedModel, inputs: dict[str, torch.Tensor], share: float) -> Skipping:
    """The settings that keep such a share of the frames of these inputs."""
    skipper = required_skipper(model)
    skipper.use(model, replace(skipper.settings, threshold=0.0))
    model(**inputs)
    assert skipper.last.blank is not None
    return replace(skipper.settings, threshold=float(skipper.last.blank.quantile(share)))


@torch.no_grad()
def _frames(model: PreTrainedModel, inputs: dict[str, torch.Tensor], skipping: Skipping) -> list[Frames]:
    counter = FrameCounter(model)
    _set(model, skipping)
    model(**inputs)
    counter(Batch(inputs, torch.empty(0), [], [], 0.0))
    return counter.frames
