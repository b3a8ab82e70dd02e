"""The check on a GPU, from start to end on a CPU in its tiny mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers import forked
from tests.helpers.samples import write_folder
from tools import gpu_check
from tools.experiments import experiment
from tools.gpu import jobs, suite


def run_forked(command: Sequence[str], log: Path, *, stop: bool = True, seconds: float | None = None) -> None:
    """Runs what the launcher starts, without the launcher."""
    words = list(command)
    recipes = (i for i, word in enumerate(words) if word.startswith("recipes/"))
    done = forked.run(words[next(recipes, 1) :])
    assert done.returncode == 0, done.stderr


def test_every_part_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (jobs, suite, experiment):
        monkeypatch.setattr(module, "execute", run_forked)
    for split in ("train", "dev", "test"):
        write_folder(tmp_path / "speech" / split, 12)
    folder, speech, results = (str(tmp_path / name) for name in ("gpu", "speech", "RESULTS.md"))
    given = {"folder": folder, "data": speech, "results": results, "tiny": True, "steps": 4, "minutes": 60}
    gpu_check.gpu_check(gpu_check.CheckConfig(**given))
    text = Path(results).read_text()
    for head in ("tests that ran", "training step", "forward pass", "running in part", "job on speech"):
        assert f"| {head}" in text
    for row in (
        "gated, 1 x 2.0 s, a teacher in bf16, compiled for one shape",
        "25 % of the parameters",
        "1 of 3 blocks",
        "| 50 % |",
        "| teacher |",
    ):
        assert row in text
    assert "went wrong" not in text
