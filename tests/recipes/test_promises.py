"""What every recipe promises, whatever it is about: it goes on as if never interrupted, refuses, and ends once."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.helpers import forked
from tests.helpers.jobs import JOBS, LOG, models_of
from tests.helpers.launching import command, done, metrics, run_alone, run_here
from tools.kill_and_resume import differences

ByName = Callable[[str], Path]
EVERY_JOB = pytest.mark.parametrize("name", JOBS)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
RESULT = "supernet.json"


def has_reached(output: Path, phase: str, step: int) -> bool:
    written = (output / "checkpoints" / phase).glob("step-*[0-9]")
    return any(path.name >= f"step-{step:08d}" for path in written)


def times(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}


@EVERY_JOB
def test_killed_in_every_phase_and_resumed_it_equals_a_run_never_interrupted(
    name: str, configs: ByName, runs: ByName, tmp_path: Path
) -> None:
    """Losses, models and numbers, to the last bit; killed at random checkpoints, by SIGKILL and by SIGTERM."""
    job, config, output = JOBS[name], configs(name), tmp_path / "run"
    for number, phase in enumerate(job.phases):
        program, step = forked.Program(command(job.recipe, (), config, output)), random.choice(job.due(phase))
        while not has_reached(output, phase, step):
            assert program.is_running, program.ended().stderr
            time.sleep(0.005)
        program.kill(SIGNALS[number])
        assert not (output / "done.json").exists()
    ended = run_alone(job.recipe, config, output)
    assert ended.returncode == 0, ended.stderr
    first, steps = next(iter(job.phases.items()))
    assert f"{first or 'train'} 1/{steps}" not in ended.stderr  # it did not begin anew
    assert list(differences(runs(name), output)) == []
    assert models_of(output) == models_of(runs(name))
    for result in runs(name).glob(RESULT):
        assert said_by(output / RESULT) == said_by(result)
    (output / "done.json").write_text("{}")
    assert list(differences(runs(name), output)) == ["done.json differs"]


@EVERY_JOB
def test_two_processes_leave_what_one_leaves(name: str, runs: ByName, runs_on_two: ByName) -> None:
    one, two = runs(name), runs_on_two(name)
    assert set(done(two)) == set(done(one))
    assert models_of(two) == models_of(one)
    assert JOBS[name].in_pieces == ("are shared out over 2 processes" in (two / LOG).read_text())
    for phase, steps in JOBS[name].phases.items():
        assert len(metrics(two / phase, "learning_rate")) == steps
        newest = max(path for path in (two / "checkpoints" / phase).glob("step-*"))
        assert {"random-0.pt", "random-1.pt"} <= {path.name for path in newest.iterdir()}
        numbers = done(two)[phase] if phase else done(two)
        assert numbers["skipped_steps"] == 0


@EVERY_JOB
def test_started_again_it_says_that_it_has_ended(name: str, configs: ByName, runs: ByName, capsys) -> None:
    before = times(runs(name))
    run_here(JOBS[name].recipe, configs(name), runs(name))
    assert "has already ended" in capsys.readouterr().err
    assert times(runs(name)) == before


@EVERY_JOB
def test_other_settings_are_refused_in_its_folder(name: str, configs: ByName, runs: ByName) -> None:
    before = times(runs(name))
    with pytest.raises(ValueError, match=r"seed was 0, is 7\."):
        run_here(JOBS[name].recipe, configs(name), runs(name), "--seed", "7", "--keep_checkpoints", "5")
    assert times(runs(name)) == before


@EVERY_JOB
def test_two_runs_in_one_folder_are_refused(name: str, configs: ByName, tmp_path: Path) -> None:
    """A launcher that is killed can leave its process running: the same command must not write among its files."""
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError) as error:  # noqa: PT011
        run_here(JOBS[name].recipe, configs(name), tmp_path)
    assert str(error.value) == (
        f"Another run is writing to {tmp_path}: wait until it has ended, or stop its processes."
    )
    assert not (tmp_path / "checkpoints").exists()


def said_by(result: Path) -> dict[str, Any]:
    """What supernet.json says, but for the time when it was written."""
    said: dict[str, Any] = json.loads(result.read_text())
    return {key: value for key, value in said.items() if key != "created"}


@EVERY_JOB
def test_it_runs_in_bf16(name: str, configs: ByName, runs: ByName, tmp_path: Path) -> None:
    """And computes its blocks twice where it can, which changes nothing."""
    job, first = JOBS[name], next(iter(JOBS[name].phases))
    run_here(
        job.recipe,
        configs(name),
        tmp_path / "run",
        "--precision",
        "bf16",
        *(() if name == "supernet" else ("--gradient_checkpointing", "true")),
        *job.shortly,
    )
    value, exact = (metrics(output / first, job.loss)[0] for output in (tmp_path / "run", runs(name)))
    assert value == pytest.approx(exact, rel=0.05)
    assert value != exact
