"""Checks the package on a GPU: a selection of the tests, the time of training steps and of forward passes, and a job.

    python -m tools.gpu_check --folder runs/gpu --data data/digits --results RESULTS.md

It downloads nothing. What goes wrong in a part is printed, the other parts go on, and the exit status says so. Times
are of models with random weights in the dimensions of parakeet-ctc-0.6b in bf16: they do not depend on the weights.
With --tiny everything is small enough for a CPU, and the numbers mean nothing.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from compress.config import check_choice
from compress.evaluation.speed import device_name
from tools.commands import main, typed
from tools.gpu.jobs import job_rows
from tools.gpu.passes import part_rows, pass_rows
from tools.gpu.steps import step_rows
from tools.gpu.suite import suite_rows
from tools.gpu.workload import Workload
from tools.results import EntryConfig, add, facts, grid

logger = logging.getLogger(__name__)

Part = Callable[[Workload], list[list[str]]]
PARTS: dict[str, tuple[Part, tuple[str, ...]]] = {
    "steps": (step_rows, ("training step", "ms", "ratio to plain", "TFLOP/s", "share of the peak", "peak memory, GiB")),
    "passes": (pass_rows, ("forward pass", "batch", "ms", "times as fast", "MACs predict", "real over predicted")),
    "in-part": (part_rows, ("running in part", "batch", "real-time factor", "times as fast", "MACs predict")),
    "job": (job_rows, ("job on speech", "parameters", "WER %", "CER %", "steps", "ms per step", "waiting for data")),
    "tests": (suite_rows, ("tests that ran on the device", "passed", "failed", "skipped", "seconds")),
}


@dataclass(frozen=True, kw_only=True)
class CheckConfig(EntryConfig):
    """What is checked, and the entry that holds it.

    Attributes:
        folder: Where logs and models go.
        data: An audiofolder with train, dev and test for the last part; null leaves that part out.
        parts: Which parts run, in this order.
        minutes: Time for everything.
        steps: Update steps of the job's teacher; recovery has half of them.
        tiny: Whether everything is small enough for a CPU.
    """

    folder: str
    data: str | None = None
    parts: tuple[str, ...] = tuple(PARTS)
    minutes: float = 9.0
    steps: int = 600
    tiny: bool = False
    title: str = "On a GPU: gate learning, speed of pruned models, a job"

    def __post_init__(self) -> None:
        for part in self.parts:
            check_choice("parts", part, tuple(PARTS))


def gpu_check(config: CheckConfig) -> None:
    """Prints one table for each part, and appends them to a file of results."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    work = Workload(Path(config.folder), config.data, time.monotonic() + 60 * config.minutes, config.steps, config.tiny)
    lines, failed = list[str](), list[str]()
    for name in config.parts:
        rows, head = PARTS[name]
        logger.info("%s: %.0f seconds are left", name, work.seconds_left)
        try:
            part = grid(head, rows(work))
        except (Exception, SystemExit):  # the other parts still tell something
            failed.append(name)
            logger.exception("%s went wrong", name)
            part = [f"{name}: {traceback.format_exc(limit=0).strip()}", ""]
        print("\n".join(part), flush=True)
        lines += part
    where = f"{device_name(work.device)}, torch {torch.__version__}. {config.note}".strip()
    add(config, [*facts(typed(), config.data or "none: noise", where), *lines])
    if failed:
        raise ValueError(f"{', '.join(failed)} went wrong; the log above says how.")


if __name__ == "__main__":
    main(gpu_check)
