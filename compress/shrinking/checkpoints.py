"""From a checkpoint to a smaller one, and the same from Python."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import describe, load_config, load_recogniser, require_new, save
from compress.config import check, check_choice
from compress.conformers import skeleton
from compress.cost import size_of
from compress.curvature.repair import RefitConfig
from compress.data import BatchConfig, SpeechConfig, feature_extractor_of, open_speech, vocabulary_of
from compress.deciding.budget import Budget, BudgetConfig, BudgetError, make_budget
from compress.deciding.decisions import DEFAULT_DECISION, check_range
from compress.deciding.uniform import DEFAULT_UNIFORM, UniformConfig
from compress.latency import LATENCY_FILE
from compress.machine import DTYPES, find_device
from compress.profiling import with_profile
from compress.shrinking.calibration import Calibration, read_calibration
from compress.shrinking.rounds import limits_of_rounds, needs_speech, smaller
from compress.shrinking.settings import WITHOUT_TRAINING, ShrinkConfig

logger = logging.getLogger(__name__)

DEFAULT_REFIT = RefitConfig()
DEFAULT_BATCH = BatchConfig()


def shrink(
    model: PreTrainedModel,
    processor: Any,
    data: SpeechConfig | str,
    budget: BudgetConfig | str,
    *,
    structure: str = DEFAULT_DECISION,
    rounds: Sequence[str] | None = None,
    refit: RefitConfig | None = DEFAULT_REFIT,
    batch: BatchConfig = DEFAULT_BATCH,
    seed: int = 0,
    uniform: UniformConfig = DEFAULT_UNIFORM,
) -> PreTrainedModel:
    """Makes a model smaller without training; the given one stays as it is.

    Args:
        model: of any family, also one that is compressed already.
        processor: the model's own.
        data: speech to look at, or its source.
        budget: the size to reach; a text such as `50%` or `20M` is a number of parameters.
        structure: who decides: `obs`, `fisher` or `variance` by looking at speech, or `magnitude`, `proportional`,
            `uniform`.
        uniform: how a uniform decision is taken.
        rounds: sizes on the way; None: as many as the size asks for.
        refit: how what is left is repaired; None: not at all.
        batch: how utterances are put together.
        seed: of the choice of utterances.

    Returns:
        The smaller model, in eval mode, on the same device.

    Raises:
        BudgetError: if the budget cannot be reached.
        ValueError: if the speech is unusable, or nobody decides so.
    """
    remedy = "give a share or an amount of parameters as a text, such as '50%' or '20M', or a BudgetConfig"
    check(isinstance(budget, str | BudgetConfig), "budget", budget, remedy, BudgetError)
    config = BudgetConfig(params=budget) if isinstance(budget, str) else budget
    check_choice("structure", structure, WITHOUT_TRAINING)
    check(config.stages is None, "budget.stages", config.stages, "they are for training: give rounds")
    target = make_budget(config, model.config, structure)
    check_range(target, model, structure, uniform)
    speech, training = None, model.training
    model.eval()
    if needs_speech(structure, refit, uniform):
        source = SpeechConfig(source=data) if isinstance(data, str) else data
        speech = calibration_of(model, processor, source, (refit or DEFAULT_REFIT).utterances, batch, seed)
    small = smaller(model, structure, target, rounds, speech, refit, alike=uniform).model
    model.train(training)
    return small


def shrink_checkpoint(config: ShrinkConfig) -> dict[str, Any]:
    """Writes the smaller form of a checkpoint, for a budget or by a file.

    Args:
        config: what was asked for, without sizes.

    Returns:
        What `compression.json` says of the result.

    Raises:
        CheckpointError: if `out` exists already.
        ValueError: if the budget cannot be reached, or the model or the speech are unusable.
    """
    require_new(config.out)
    with TemporaryDirectory() as folder:
        config = timed(config, Path(folder))
        made = _shrink_checkpoint(config)
        if (measured := Path(folder, LATENCY_FILE)).exists():
            shutil.copy(measured, config.out)
    return made


def timed(config: ShrinkConfig, folder: Path) -> ShrinkConfig:
    """The same order, whose budget or sizes, if they are times, name a profile; one is measured into a folder."""
    conditions: dict[str, Any] = {"threads": config.speed.threads, "device": config.device}
    budget = config.budget and with_profile(config.budget, config.model, folder, **conditions)
    sizes = config.sizes and with_profile(config.sizes, config.model, folder, **conditions)
    return replace(config, budget=budget, sizes=sizes)


def _shrink_checkpoint(config: ShrinkConfig) -> dict[str, Any]:
    budget = reachable_target(config.budget, config.model, config.structure, config.uniform) if config.budget else None
    if budget:
        limits_of_rounds(budget, config.rounds, config.structure, config.uniform)
    model, processor, speech = opened(config)
    last = smaller(model, config.structure, budget, config.rounds, speech, config.refit, alike=config.uniform)
    small, facts = last.model, {"structure": config.structure, "rounds": last.rounds}
    if budget:
        facts["achieved"] = last.rounds[-1]["cost"]
    made = describe("shrink", config.model, size_of(model), size_of(small), budget) | facts
    save(small, processor, config.out, made, dtype=saved_dtype(config.model))
    return made


def opened(config: ShrinkConfig) -> tuple[PreTrainedModel, Any, Calibration | None]:
    """Loads the model and its processor, and reads the speech that is looked at, if any is."""
    model, processor = load_recogniser(config.model, dtype=DTYPES[config.dtype], device=find_device(config.device))
    speech = None
    if config.looks_at_speech:
        speech = calibration_of(model, processor, config.data, config.utterances, config.batch, config.seed)
    return model, processor, speech


def calibration_of(
    model: PreTrainedModel, processor: Any, data: SpeechConfig, utterances: int, batch: BatchConfig, seed: int
) -> Calibration:
    """Opens a data set, with transcripts or without, and reads some utterances of it."""
    rate, vocabulary = feature_extractor_of(processor).sampling_rate, vocabulary_of(processor)
    dataset = open_speech(data, sampling_rate=rate, vocabulary=vocabulary, labels=False)
    return read_calibration(model, processor, dataset, utterances, batch, seed=seed)


def reachable_target(config: BudgetConfig, model: str, decision: str, alike: UniformConfig = DEFAULT_UNIFORM) -> Budget:
    """A budget for a checkpoint, from its config alone.

    Raises:
        BudgetError: with the range that can be reached.
    """
    known = load_config(model)
    budget = make_budget(config, known, decision)
    check_range(budget, skeleton(known, original=False), decision, alike)
    return budget


def saved_dtype(model: str) -> Any:
    """The precision in which a checkpoint has its weights."""
    return getattr(load_config(model), "dtype", None) or DTYPES["float32"]
