"""A budget in time without a profile: one process measures this machine first, and all work with what it found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator

from compress.files.reading import read_json
from compress.files.writing import require_place_for_models, write_json
from compress.latency import LATENCY_FILE
from compress.profiling import with_profile
from compress.training.loop import processes

TimedRun = TypeVar("TimedRun", bound=Any)  # of recipes/prune.py: budget, teacher, output, threads


def with_measured_budget(config: TimedRun, accelerator: Accelerator) -> TimedRun:
    """The settings of a run whose budget, if it is one of time, names a profile. All ranks must call it.

    Rank 0 measures, and writes latency.json into the output folder, unless an earlier start has; machines that do not
    share this folder get a copy.

    Args:
        config: of the run.
        accelerator: says on which device the result will be timed.

    Raises:
        WriteError: if the output folder is, or lies in, that of a model; nothing is measured then.
    """
    if config.budget is None or config.budget.latency is None or config.budget.profile is not None:
        return config
    path = Path(config.output, LATENCY_FILE)
    require_place_for_models(path.parent)
    if accelerator.is_main_process:
        with_profile(config.budget, config.teacher, path.parent, threads=config.threads, device=str(accelerator.device))
    content = processes.from_main(read_json(path) if accelerator.is_main_process else None)
    if not path.exists():
        write_json(path, content)
    budget = replace(config.budget, profile=str(path))
    settings: TimedRun = replace(config, budget=budget)
    return settings
