"""`compress skip`: which frames a trained model can let skip without more errors, found on a dev set.

One pass without skipping gives the error rate to hold and what every intermediate output says of the blank. From that
follows, without running anything, how many frames each setting skips and so what it costs. The settings are then
measured, the cheapest first, and the cheapest one that holds is the choice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from compress.checkpoint import describe, load_recogniser, require_new, save
from compress.config import check, check_at_least
from compress.conformers import frame_mask
from compress.conformers.recording import BlockOutputs
from compress.cost import size_of
from compress.data import Batch, SpeechLoader
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import scoring_rule
from compress.evaluation.transcribe import batching_for, transcribe
from compress.evaluation.usage import Frames, SkippingMacs, skipped_share
from compress.machine import find_device
from compress.reports import formats
from compress.running.frames import deep_frames
from compress.running.skipper import required_skipper, without_skipping
from compress.running.skipping import Skipping, SkippingError, write_skipping
from compress.running.skipping_pass import blank_behind
from compress.search.settings import DevConfig
from compress.search.skip_report import HEADER, row

logger = logging.getLogger(__name__)

PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(DevConfig):
    """Which settings are tried.

    The rest is that of `DevConfig`.

    Attributes:
        out: folder for the checkpoint with the settings that were chosen.
        max_wer_increase: by how many percentage points, absolute, the word error rate may rise: 0.1 allows 2.0 % to
            become 2.1 %.
        baseline: folder or Hub id of the model whose word error rate is meant, such as the one from which this one
            learned to skip; null: the same model, when it skips nothing.
        thresholds: probabilities of the blank above which a frame skips.
        extensions: numbers of neighbours of a kept frame that are kept, too.
    """

    out: str
    max_wer_increase: float = 0.1
    baseline: str | None = None
    thresholds: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
    extensions: tuple[int, ...] = (0, 1, 2)
    utterances: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        probabilities = bool(self.thresholds) and all(0 <= threshold < 1 for threshold in self.thresholds)
        check(probabilities, "thresholds", list(self.thresholds), "give probabilities from 0 to below 1")
        neighbours = bool(self.extensions) and min(self.extensions) >= 0
        check(neighbours, "extensions", list(self.extensions), "give numbers of neighbours from 0")
        check_at_least("max_wer_increase", self.max_wer_increase, 0, "percentage points")


@dataclass(frozen=True)
class SettingTrial:
    """One setting: the share of frames that skip, that of the MACs that is left, and the word error rate if known."""

    settings: Skipping
    skipped: float
    macs_share: float
    wer: float | None = None


class Dev:
    """The speech on which settings are tried, its features in memory."""

    def __init__(self, config: CalibrateConfig, model: PreTrainedModel, processor: Any) -> None:
        self.model, self.processor, self.rule = model, processor, scoring_rule(config.normalise, [processor])
        dataset = config.open(processor)
        loader = SpeechLoader(dataset, processor, batching_for(model, config.batch), shuffle=False)
        self.batches: list[Batch] = list(loader.epoch(0))
        loader.close()

    def epoch(self, epoch: int) -> Iterable[Batch]:
        """Returns every batch once."""
        return self.batches

    def wer(self, on_batch: Any = None) -> float:
        """Measures the word error rate of the model as it is set at present."""
        _, references, written = transcribe(self.model, self, self.processor, on_batch=on_batch)
        tidy = (list(map(self.rule, texts)) for texts in (references, written))
        return error_rates(*tidy).wer


def calibrate(config: CalibrateConfig) -> dict[str, Any]:
    """Chooses first blocks, threshold and extension on a dev set, and writes the checkpoint that skips so.

    Args:
        config: the model, the speech, and which settings are tried.

    Returns:
        What `compression.json` says of the result: `skipping` has the settings, the trials, the error rate without
        skipping, and that to hold.

    Raises:
        SkippingError: if the checkpoint has no intermediate output, or no setting holds.
        CheckpointError: if `out` exists already.
    """
    require_new(config.out)
    model, processor = load_recogniser(config.model, dtype="auto", device=find_device(config.device))
    known = required_skipper(model).settings
    dev = Dev(config, model, processor)
    baseline = _baseline(config) if config.baseline else None
    without, candidates = _without(dev, known, config)
    before = baseline.wer() if baseline else without
    del baseline
    measured = list(_measured(dev, candidates, before, config.max_wer_increase))
    chosen = _chosen(measured, before, config)
    if config.baseline is None and _rise(chosen, without) < 0:
        _warn_of_gain(chosen, without)
    model.config.skipping = write_skipping(chosen.settings)
    size = size_of(model)
    skipping = {
        "wer_without": without,
        "wer_to_hold": before,
        "max_wer_increase": config.max_wer_increase,
        "trials": [_entry(trial) for trial in measured],
        "chosen": _entry(chosen),
    }
    facts = describe("skip", config.model, size, size) | {"skipping": skipping}
    save(model, processor, config.out, facts)
    return facts


def _baseline(config: CalibrateConfig) -> Dev:
    """The model whose error rate is to hold, loaded before anything is measured."""
    assert config.baseline is not None
    model, processor = load_recogniser(config.baseline, dtype="auto", device=find_device(config.device))
    return Dev(config, model, processor)


def _without(dev: Dev, known: Skipping, config: CalibrateConfig) -> tuple[float, list[SettingTrial]]:
    """Measures the error rate without skipping, and lists all settings that skip something, the cheapest first."""
    seen: dict[int, list[Tensor]] = {number: [] for number in known.heads}
    valid: list[Tensor] = []
    outputs = BlockOutputs(dev.model, [number - 1 for number in known.heads])

    def look(batch: Batch) -> None:
        states = outputs.take()
        for number in known.heads:
            seen[number].append(blank_behind(dev.model, known, number, states[number - 1]).cpu())
        valid.append(frame_mask(dev.model, batch.inputs, seen[known.heads[0]][-1].shape[1]).cpu())

    with without_skipping(dev.model):
        before = dev.wer(look)
    outputs.close()
    macs = SkippingMacs(dev.model)
    trials = [_trial(macs, replace(known, first_blocks=k, threshold=t, extension=e), seen[k], valid)
              for k, t, e in product(known.heads, config.thresholds, config.extensions)]  # fmt: skip
    return before, sorted((trial for trial in trials if trial.skipped), key=lambda trial: trial.macs_share)


def _measured(dev: Dev, candidates: Sequence[SettingTrial], before: float, increase: float) -> Iterator[SettingTrial]:
    """Settings with their error rates, the cheapest first, until one holds.

    Where one does not hold, the highest threshold with the same first blocks and extension is measured at once; if that
    does not hold either, the others between them are left out.
    """
    careful = {_kind(trial): trial for trial in sorted(candidates, key=lambda trial: trial.settings.threshold)}
    known: dict[tuple[int, int], SettingTrial] = {}
    for trial in candidates:
        last = known.get(_kind(trial))
        if last and _rise(last, before) > increase:
            continue
        if last and last.settings == trial.settings:
            return
        measured = _with_rate(dev, trial, before)
        yield measured
        if _rise(measured, before) <= increase:
            return
        if last is None and trial is not careful[_kind(trial)]:
            known[_kind(trial)] = _with_rate(dev, careful[_kind(trial)], before)
            yield known[_kind(trial)]


def _kind(trial: SettingTrial) -> tuple[int, int]:
    return trial.settings.first_blocks, trial.settings.extension


def _with_rate(dev: Dev, trial: SettingTrial, before: float) -> SettingTrial:
    required_skipper(dev.model).use(dev.model, trial.settings)
    measured = replace(trial, wer=dev.wer())
    cells = zip(HEADER, row(_entry(measured), before), strict=True)
    logger.info("%s", "  ".join(f"{name} {cell}" for name, cell in cells))
    return measured


def _trial(macs: SkippingMacs, settings: Skipping, blank: Sequence[Tensor], valid: Sequence[Tensor]) -> SettingTrial:
    frames = list(_frames(settings, blank, valid))
    return SettingTrial(settings, skipped_share(frames), macs.share(frames, settings))


def _frames(settings: Skipping, blank: Sequence[Tensor], valid: Sequence[Tensor]) -> Iterator[Frames]:
    for probabilities, mask in zip(blank, valid, strict=True):
        deep = deep_frames(probabilities, mask, settings.threshold, settings.extension)
        yield from (Frames(*counts) for counts in zip(mask.sum(1).tolist(), deep.sum(1).tolist(), strict=True))


def _rise(trial: SettingTrial, before: float) -> float:
    """Returns percentage points, absolute and free of the rounding of fractions."""
    assert trial.wer is not None
    return round(PERCENT * (trial.wer - before), 9)


def _chosen(measured: Sequence[SettingTrial], before: float, config: CalibrateConfig) -> SettingTrial:
    if holding := [trial for trial in measured if _rise(trial, before) <= config.max_wer_increase]:
        return min(holding, key=lambda trial: trial.macs_share)
    if not measured:
        raise SkippingError("No setting skips a single frame of the dev set: train longer, or give lower thresholds.")
    nearest = min(measured, key=lambda trial: _rise(trial, before))
    raise SkippingError(
        f"None of {len(measured)} settings keeps the word error rate within {config.max_wer_increase:g} points of "
        f"{formats.percent(before, 2)}. The nearest, {write_skipping(nearest.settings)}, adds "
        f"{_rise(nearest, before):.2f}: allow more, try higher thresholds, or train longer (recipes/train.py)."
    )


def _entry(trial: SettingTrial) -> dict[str, Any]:
    return asdict(trial) | {"settings": write_skipping(trial.settings)}


def _warn_of_gain(chosen: SettingTrial, without: float) -> None:
    logger.warning(
        "This model makes fewer errors when it skips (%s) than when it does not (%s). Compare it with the one that "
        "it was made from, --baseline MODEL, or train it with less skipping, --skipping.simulated 0.5.",
        formats.percent(chosen.wer or 0.0, 2), formats.percent(without, 2),
    )  # fmt: skip
