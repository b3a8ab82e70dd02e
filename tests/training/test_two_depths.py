"""Stochastic depth on several processes: all drop the same blocks, and what remains is averaged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.helpers.launching import LAUNCH_SECONDS, REPOSITORY, TORCHRUN, environment


def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    ended = subprocess.run(
        [*TORCHRUN, "-m", "tests.helpers.two_depths", str(out)],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=LAUNCH_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert all(one == other for one, other in found["drops"])
    assert any(any(one) for one, _ in found["drops"])
    assert all(found["dropped_blocks_have_no_gradient"])
    assert found["averaged_minus_mean"] < 1e-6
    assert found["weights_differ"] == 0.0
