"""Training on another device than the CPU, which is tried out where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import forked


def test_a_step_of_everything_that_is_trained_stays_on_its_device(tmp_path: Path) -> None:
    """Losses, gradients, clipping, optimizer: a tensor that is made on the CPU by mistake ends it."""
    out = tmp_path / "found.json"
    ended = forked.run(["-m", "tests.helpers.elsewhere", str(out)])
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["mixing"] == "aten.add.Tensor of elsewhere:0[3], cpu[3]"
    assert len(found["here"]) == 8
    assert found["there"] == pytest.approx(found["here"], rel=1e-5)
