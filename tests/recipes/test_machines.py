"""Several machines, and models in pieces: what is left is what one machine leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.structure import Structure
from tests.helpers import forked
from tests.helpers.launching import SHARDED, command, done, metrics
from tests.helpers.pruning import LEARN, RECIPE
from tools.kill_and_resume import differences


def test_in_pieces_on_two_machines_killed_and_resumed(
    pruning: Path, runs_on_two: Callable[[str], Path], tmp_path: Path
) -> None:
    """Killed as it learns gates and as it recovers; against models in pieces on one machine, and against whole ones."""
    config, whole = pruning / "prune.yaml", runs_on_two("prune")
    ended = forked.run_two(command(RECIPE, (), config, tmp_path / "one"), **SHARDED)
    assert ended.returncode == 0, ended.stderr
    words, checkpoints = command(RECIPE, (), config, tmp_path / "two"), tmp_path / "two/checkpoints"
    for checkpoint in ("learn/step-00000003", "recover/step-00000002"):
        programs = forked.TwoPrograms(words, machines=2, **SHARDED)
        while not (checkpoints / checkpoint).exists():
            assert all(rank.is_running for rank in programs.ranks), programs.ended().stderr
            time.sleep(0.005)
        programs.kill()
    ended = forked.TwoPrograms(words, machines=2, **SHARDED).ended()
    assert ended.returncode == 0, ended.stderr
    assert list(differences(tmp_path / "one", tmp_path / "two")) == []

    for name in ("loss/total", "gradient_norm", "size/expected"):
        assert metrics(tmp_path / "two/learn", name) == pytest.approx(metrics(whole / "learn", name), rel=1e-3)
    structures = [Structure.load(output / "final/structure.json") for output in (whole, tmp_path / "two")]
    assert structures[0] == structures[1]
    assert len(metrics(whole / "learn", "loss/total")) == LEARN
    assert done(tmp_path / "two")["achieved"] == done(whole)["achieved"]
