"""Kills a training job again and again at random steps, and compares what it leaves with a run that never was.

    python -m tools.kill_and_resume --recipe_config configs/demo/prune.yaml --out runs/kills -- --recover.steps 40 ...

With `--machines 2` the job runs on two processes that two launchers start, as on two machines. What follows `--` goes
to the recipe. Losses, multipliers and gate statistics of every step, error rates on the dev set, every model, gates
included, and the final numbers must be the same to the last bit (on a CPU); times may differ.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from compress.config import parse
from compress.files.reading import read_json, read_json_lines
from tools.results import REPOSITORY

POLL_SECONDS = 0.01
LONGEST_DELAY_SECONDS = 0.2
TIMES = ("seconds", "data/wait_share", "wait_share")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class KillConfig:
    """A job that runs twice.

    Attributes:
        recipe_config: Config file of the recipe.
        out: Folder for both runs.
        recipe: The job.
        kills: How often; the first by SIGKILL, then by SIGTERM and SIGKILL in turn.
        machines: Launchers of one process each; 1 starts the recipe itself.
        seed: Of the steps at which it is killed.
    """

    recipe_config: str
    out: str
    recipe: str = "recipes/prune.py"
    kills: int = 10
    machines: int = 1
    seed: int = 0


def kill_and_resume(config: KillConfig, options: Sequence[str]) -> None:
    """Runs the job twice, once whole and once in pieces, and compares.

    Args:
        config: the job.
        options: more options of the recipe.
    """
    words = [config.recipe, "--config", config.recipe_config, "--log_every_steps", "1", *options]
    command = [sys.executable, *launchers(config.machines), *words]
    whole, pieces = Path(config.out).absolute() / "whole", Path(config.out).absolute() / "pieces"
    _finish([*command, "--output", str(whole)])
    resumed = [*command, "--output", str(pieces)]
    in_pieces(resumed, pieces, _steps_done(whole), config.kills, random.Random(config.seed))
    if differing := list(differences(whole, pieces)):
        raise SystemExit("The runs differ:\n" + "\n".join(differing))
    print(
        f"{config.kills} times killed and resumed: losses, multipliers, gates, models and final numbers are the same."
    )


def launchers(machines: int) -> list[str]:
    """The words that start a recipe: nothing more, or a program that starts a launcher for each machine."""
    return ["-m", "tools.machines", str(machines)] if machines > 1 else []


def in_pieces(command: Sequence[str], output: Path, total: int, kills: int, generator: random.Random) -> None:
    """Runs a job to its end, and kills it on the way: by SIGKILL and SIGTERM in turn, at random steps.

    Args:
        command: the job; it reports every step.
        output: its folder.
        total: its steps, over all phases.
        kills: how often.
        generator: draws the steps, and the moment after each.
    """
    for number, step in enumerate(sorted(generator.sample(range(1, total), kills))):
        with_signal = SIGNALS[number % len(SIGNALS)]
        reached = _kill(command, output, step, generator.uniform(0, LONGEST_DELAY_SECONDS), with_signal)
        print(f"killed by {with_signal.name} after step {reached} of {total}", flush=True)
    _finish(command)


def _start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, start_new_session=True, **options)


def _finish(command: Sequence[str]) -> None:
    process = _start(command, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"The job failed:\n{errors}")


def _kill(command: Sequence[str], output: Path, step: int, delay: float, with_signal: signal.Signals) -> int:
    """Starts the job, kills it a moment after it has reported so many steps, and gives the steps it had reported."""
    process = _start(command, stderr=subprocess.DEVNULL)
    try:
        while _steps_done(output) < step:
            if process.poll() is not None:
                raise SystemExit(f"The job ended with {process.returncode} before step {step}.")
            time.sleep(POLL_SECONDS)
        time.sleep(delay)
    finally:  # also where something goes wrong here: no job is left running
        with suppress(psutil.NoSuchProcess):
            job = psutil.Process(process.pid)
            for running in [job, *job.children(recursive=True)]:  # launchers give their processes other groups
                with suppress(psutil.NoSuchProcess):
                    running.send_signal(with_signal)
        process.wait()
    return _steps_done(output)


def _steps_done(output: Path) -> int:
    """Steps reported by all phases."""
    files = (*output.glob("metrics.jsonl"), *output.glob("*/metrics.jsonl"))
    return sum(_text(file).count('"learning_rate"') for file in files)


def _text(path: Path) -> str:
    """What a file holds; nothing while it is being replaced."""
    try:
        return path.read_text()
    except OSError:
        return ""


def differences(whole: Path, pieces: Path) -> Iterator[str]:
    """What two runs do not have in common, file by file; times do not count."""
    for pattern, read in (("metrics.jsonl", _lines), ("done.json", _json), ("*.safetensors", load_file)):
        names = {path.relative_to(folder) for folder in (whole, pieces) for path in folder.rglob(pattern)}
        if not names:
            yield f"neither run has any {pattern}"
        for name in sorted(names):
            if not ((whole / name).exists() and (pieces / name).exists()):
                yield f"{name} is missing in one of the runs"
            elif not _equal(read(whole / name), read(pieces / name)):
                yield f"{name} differs"


def _json(path: Path) -> Any:
    return read_json(path)


def _lines(path: Path) -> Any:
    return read_json_lines(path)


def _equal(whole: Any, pieces: Any) -> bool:
    if isinstance(whole, torch.Tensor):
        return torch.equal(whole, pieces)
    if isinstance(whole, dict):
        keys = whole.keys() - set(TIMES)
        return keys == pieces.keys() - set(TIMES) and all(_equal(whole[key], pieces[key]) for key in keys)
    if isinstance(whole, list):
        return len(whole) == len(pieces) and all(map(_equal, whole, pieces))
    return bool(whole == pieces)


if __name__ == "__main__":
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parse(KillConfig, sys.argv[1:cut], prog="python -m tools.kill_and_resume", description=__doc__)
    kill_and_resume(arguments, sys.argv[cut + 1 :])
