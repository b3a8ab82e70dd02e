"""Training on another device than the CPU, which is tried out where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import forked


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("devices") / "found.json"
    ended = forked.run(["-m", "tests.helpers.elsewhere", str(out)])
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_a_step_of_everything_that_is_trained_stays_on_its_device(found: dict[str, Any]) -> None:
    """Losses, gradients, clipping, optimizer: a tensor that is made on the CPU by mistake ends it."""
    assert found["mixing"] == "aten.add.Tensor of elsewhere:0[3], cpu[3]"
    assert len(found["here"]) == 8
    assert found["there"] == pytest.approx(found["here"], rel=1e-5)


def test_a_model_in_pieces_is_put_together_on_its_device(found: dict[str, Any]) -> None:
    """Buffers that no state holds come along, where it was built on the CPU and taken elsewhere to be sharded."""
    assert len(found["whole_here"]) == 4
    assert found["whole_there"] == pytest.approx(found["whole_here"], rel=1e-5)
