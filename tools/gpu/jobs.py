"""Training and compression on speech, by the recipes, as a user starts them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tools.experiments.experiment import evaluate, execute, log_of, read
from tools.gpu.workload import Workload

LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
TEACHER = "teacher"
LEAST_SECONDS = 30
SIZES = ("50", "25")
TINY = (
    "--model.settings.hidden_size", "32", "--model.settings.num_hidden_layers", "2",
    "--model.settings.subsampling_conv_channels", "4", "--model.settings.intermediate_size", "64",
    "--optimizer.warmup_steps", "1", "--threads", "1",
)  # fmt: skip


def job_rows(work: Workload) -> list[list[str]]:
    """The teacher, and half and a quarter of it, distilled; what there is no time for is left out."""
    if work.data is None:
        return [["no speech was given", "", "", "", "", "", ""]]
    data = ("--data.source", str(Path(work.data).absolute()))
    config = "configs/{}/parakeet-small_digits.yaml"
    teacher, steps = work.folder.absolute() / TEACHER, str(max(2, work.steps // 2))
    tiny = TINY if work.tiny else ()
    _run("train", teacher, "--config", config.format("train"), *data, "--max_steps", str(work.steps), *tiny)
    rows = [_row(work, TEACHER, teacher, teacher / "best")]
    for size in SIZES[: work.sized(len(SIZES), 1)]:
        if work.seconds_left < LEAST_SECONDS:
            break
        output = teacher.with_name(size)
        short = ("--recover.warmup_steps", "1", "--threads", "1") if work.tiny else ()
        options = ("--teacher", str(teacher / "best"), "--budget.params", f"{size}%", "--recover.steps", steps, *short)
        _run("prune", output, "--config", config.format("prune"), *data, *options)
        rows.append(_row(work, f"{size} %", output, output / "final"))
    return rows


def _run(recipe: str, output: Path, *options: str) -> None:
    execute((*LAUNCH, f"recipes/{recipe}.py", *options, "--output", str(output)), log_of(output))


def _row(work: Workload, name: str, output: Path, model: Path) -> list[str]:
    report = evaluate(model, str(work.data), work.folder.absolute() / f"report-{output.name}")
    measured, done = report["model"], read(output / "done.json")
    steps, seconds, waiting = _took(done)
    return [
        name, f"{measured['parameters']['total']:,}", f"{100 * measured['wer']:.2f}", f"{100 * measured['cer']:.2f}",
        f"{steps:,}", f"{1e3 * seconds / steps:.1f}", f"{100 * waiting:.0f} %",
    ]  # fmt: skip


def _took(done: dict[str, Any]) -> tuple[int, float, float]:
    """Steps, seconds in them, and the share of these that was spent waiting for data, over all phases."""
    phases = [done[name] for name in ("learn", "recover") if name in done] or [done]
    seconds = sum(phase["seconds"] for phase in phases)
    waited = sum(phase["wait_share"] * phase["seconds"] for phase in phases)
    return sum(phase["steps"] for phase in phases), seconds, waited / seconds
