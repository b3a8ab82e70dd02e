"""What the tests of several files share: a tiny teacher with its speech, and a whole compression of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launching import ACCELERATE, launch
from tests.helpers.pruning import RECIPE, make_teacher
from tests.helpers.sharing import shared


@pytest.fixture(scope="session")
def pruning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, a teacher, and the config of its compression."""
    return shared(tmp_path_factory, "pruning", make_teacher)


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory, pruning: Path) -> Path:
    """The output of a whole compression, as `accelerate launch --cpu` leaves it."""

    def run(output: Path) -> None:
        result = launch(RECIPE, ACCELERATE, pruning / "prune.yaml", output)
        assert result.returncode == 0, result.stderr

    return shared(tmp_path_factory, "pruned", run)
