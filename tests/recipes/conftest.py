"""The jobs of the recipes and what they leave, made once for the tests of all files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.jobs import JOBS, LOG
from tests.helpers.launching import SHARDED, run_alone, run_by_torchrun, run_on_two, speech_and_config
from tests.helpers.pruning import make_teacher
from tests.helpers.sharing import shared

ByName = Callable[[str], Path]


@pytest.fixture(scope="session")
def configs(tmp_path_factory: pytest.TempPathFactory) -> ByName:
    """The config of a job, beside the speech that it is about."""

    def config(name: str) -> Path:
        if name == "prune":
            return shared(tmp_path_factory, name, make_teacher) / "prune.yaml"
        return shared(tmp_path_factory, name, partial(speech_and_config, text=JOBS[name].text)) / "tones.yaml"

    return config


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, configs: ByName) -> ByName:
    """The output of a whole run of a job. (`accelerate launch` starts a recipe in tests/cli/test_cli.py.)"""

    def fill(output: Path, name: str) -> None:
        recipe, config = JOBS[name].recipe, configs(name)
        ended = run_alone(recipe, config, output)
        assert ended.returncode == 0, ended.stderr
        (output / LOG).write_text(ended.stderr)

    return lambda name: shared(tmp_path_factory, f"{name}-run", partial(fill, name=name))


@pytest.fixture(scope="session")
def runs_on_two(tmp_path_factory: pytest.TempPathFactory, configs: ByName) -> ByName:
    """The output of a whole run of a job on two processes; that of the first as `torchrun` leaves it."""

    def fill(output: Path, name: str) -> None:
        job, config = JOBS[name], configs(name)
        environment = SHARDED if job.in_pieces else {}
        run = run_by_torchrun if name == "train" else partial(run_on_two, **environment)
        ended = run(job.recipe, config, output)
        assert ended.returncode == 0, ended.stderr
        (output / LOG).write_text(ended.stderr)

    return lambda name: shared(tmp_path_factory, f"{name}-on-two", partial(fill, name=name))


@pytest.fixture(scope="session")
def pruning(configs: ByName) -> Path:
    """Speech, a teacher, and the config of its compression."""
    return configs("prune").parent


@pytest.fixture(scope="session")
def pruned(runs: ByName) -> Path:
    """The output of a whole compression."""
    return runs("prune")
