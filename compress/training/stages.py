"""Stages: a compression by way of larger budgets, each of which leaves a model of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedConfig

from compress.config import check
from compress.deciding.budget import BudgetConfig, BudgetError, make_budget
from compress.deciding.decisions import LEARNED
from compress.files.reading import read_object
from compress.training.loop.ending import DONE_FILE
from compress.training.loop.same_run import STAGES
from compress.training.loop.schedule import PhaseConfig
from compress.training.results import FINAL

logger = logging.getLogger(__name__)

_DONE_FORM = {"requested": str, "limit": int, "achieved": int, "full": int}
Settings = TypeVar("Settings", bound=Any)  # of recipes/prune.py: budget, output, start, structure, learn, recover, push


def stages_of(config: Settings, model_config: PreTrainedConfig) -> list[Settings]:
    """The settings of every stage, the budget's own last; one alone where there are none on the way.

    All stages together take as many steps as were asked for, each the same share, and each begins with the final model
    of the one before it.

    Args:
        config: of the whole run.
        model_config: of the teacher.

    Raises:
        BudgetError: if the stages do not decrease from below the whole model to above the budget.
        ValueError: if the output holds stages of another run, or there are fewer steps than stages.
    """
    budget: BudgetConfig | None = config.budget
    if budget is None or budget.stages is None:
        return [config]
    key = budget.metric
    targets = [*budget.stages, budget.amount]
    budgets = [_with(budget, key, target) for target in targets]
    _check_decreasing(budgets, budget.stages, model_config)
    folders = [str(Path(config.output, STAGES, name.replace("%", "").strip())) for name in budget.stages]
    _check_alone(config.output, folders, budget.stages)
    outputs, starts = [*folders, config.output], [config.start, *(str(Path(folder, FINAL)) for folder in folders)]
    learn, recover = (shared_out(settings, len(targets)) for settings in (config.learn, config.recover))
    for target, first, second in zip(targets, learn, recover, strict=True):
        gated = f"{first.steps} steps with gates, " if config.structure == LEARNED else ""
        logger.info("Stage %s: %s%d steps of recovery", target, gated, second.steps)
    seeds = range(config.seed, config.seed + 2 * len(targets), 2)  # recovery has the one behind; all draw other batches
    parts = zip(budgets, outputs, starts, learn, recover, seeds, strict=True)
    stages = [replace(config, budget=b, output=o, start=s, learn=f, recover=r, seed=n) for b, o, s, f, r, n in parts]
    return [*(replace(stage, push=None) for stage in stages[:-1]), stages[-1]]


def _with(budget: BudgetConfig, key: str, target: str) -> BudgetConfig:
    changes: dict[str, Any] = {key: target, "stages": None}
    return replace(budget, **changes)


def _check_decreasing(budgets: Sequence[BudgetConfig], stages: Sequence[str], model_config: PreTrainedConfig) -> None:
    made = [make_budget(budget, model_config) for budget in budgets]
    limits = [made[0].table.full, *(budget.limit for budget in made)]
    remedy = f"name sizes that decrease from below {limits[0]:,} to above the budget of {limits[-1]:,}"
    check(all(high > low for high, low in pairwise(limits)), "budget.stages", list(stages), remedy, BudgetError)


def _check_alone(output: str, folders: Sequence[str], stages: Sequence[str]) -> None:
    there = {str(path) for path in Path(output, STAGES).glob("*") if path.is_dir()}
    remedy = "give another output, or the stages of the run that is there"
    check(there <= set(folders), f"{output}/{STAGES} holds other stages; budget.stages", list(stages), remedy)


Steps = TypeVar("Steps", bound=PhaseConfig)


def shared_out(settings: Steps, count: int) -> list[Steps]:
    """A phase in so many parts, of as many steps together; the first parts get what is left over.

    Raises:
        ValueError: if it has fewer steps than there are parts.
    """
    check(settings.steps >= count, "steps", settings.steps, f"give at least one for each of the {count} stages")
    steps = [settings.steps // count + (number < settings.steps % count) for number in range(count)]
    warmups = [round(settings.warmup_steps * part / settings.steps) for part in steps]
    return [replace(settings, steps=part, warmup_steps=up) for part, up in zip(steps, warmups, strict=True)]


def steps_of(*stages: Settings) -> int:
    """The steps that stages take together, in all of their phases."""
    return sum(stage.recover.steps + (stage.learn.steps if stage.structure == LEARNED else 0) for stage in stages)


def numbers_of_stages(output: Path) -> dict[str, Any]:
    """The final numbers of the stages of a run, by their folders, if it has any."""
    found = sorted((output / STAGES).glob(f"*/{DONE_FILE}"), key=lambda path: path.stat().st_mtime)
    return {STAGES: {path.parent.name: read_object(path, _DONE_FORM) for path in found}} if found else {}
