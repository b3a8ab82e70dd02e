"""Stochastic depth on several processes: all drop the same blocks, and what remains is averaged."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import forked


def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    ended = forked.run_two(["-m", "tests.helpers.two_depths", str(out)])
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert all(one == other for one, other in found["drops"])
    assert any(any(one) for one, _ in found["drops"])
    assert all(found["dropped_blocks_have_no_gradient"])
    assert found["averaged_minus_mean"] < 1e-6
    assert found["weights_differ"] == 0.0
