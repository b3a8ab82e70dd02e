"""Several machines, and models in pieces: what is left is what one machine leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compress.checkpoint import load_model
from compress.structure import Structure
from tests.helpers import forked
from tests.helpers.launching import SHARDED, command, done, metrics
from tests.helpers.pruning import LEARN, RECIPE, RECOVER


def test_in_pieces_on_two_machines_killed_and_resumed(
    pruning: Path, runs_on_two: Callable[[str], Path], tmp_path: Path
) -> None:
    """Against two processes of one machine that are left alone and hold whole models."""
    whole, output = runs_on_two("prune"), tmp_path / "run"
    words = command(RECIPE, (), pruning / "prune.yaml", output, "--checkpoint_every_steps", "4",
                    "--evaluate_every_steps", "4", "--trackers", "[]")  # fmt: skip
    programs = forked.TwoPrograms(words, machines=2, **SHARDED)
    while not (output / "checkpoints/learn/step-00000004").exists():
        assert all(rank.is_running for rank in programs.ranks), programs.ended().stderr
        time.sleep(0.005)
    programs.kill()
    assert not (output / "done.json").exists()
    ended = forked.TwoPrograms(words, machines=2, **SHARDED).ended()
    assert ended.returncode == 0, ended.stderr
    assert f"learn 1/{LEARN}" not in ended.stderr  # it did not begin anew

    for phase, steps, name in (("learn", LEARN, "gradient_norm"), ("recover", RECOVER, "loss/total")):
        mine, expected = (metrics(folder / phase, name) for folder in (output, whole))
        assert len(mine) == steps
        assert mine == pytest.approx(expected, rel=0.01)
    assert done(output)["expected"] == pytest.approx(done(whole)["expected"], rel=1e-3)
    removed = [dict(load_model(str(folder / "removed")).named_buffers()) for folder in (output, whole)]
    assert any("running_var" in name for name in removed[0])
    torch.testing.assert_close(*removed, rtol=0.01, atol=1e-3)
    structures = [Structure.load(folder / "final/structure.json") for folder in (output, whole)]
    assert structures[0] == structures[1]
