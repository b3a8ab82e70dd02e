"""Models in pieces: steps are those of one process, and what is put together is what was taken apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from compress.deciding.attached import KeptNorm
from tests.helpers import forked
from tests.helpers.launching import SHARDED


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("shards") / "found.json"
    ended = forked.run_two(["-m", "tests.helpers.two_shards", str(out)], **SHARDED)
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.fixture(params=["gates", "recogniser", "select", "joint"])
def found(request: pytest.FixtureRequest, every: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = every[request.param]
    return result


def test_two_processes_hold_half_each_and_step_as_one_does(found: dict[str, Any]) -> None:
    """Also where a width cannot be halved, over several batches a step, with unequal shares of the utterances."""
    assert found["is_sharded"]
    assert 0.5 <= found["pieces"] < 0.55
    assert any("depthwise_conv" in name for name in found["uneven"])
    for two, alone in found["steps"]:
        assert two == pytest.approx(alone, rel=1e-5)
    assert found["whole_minus_alone"] < 1e-4


def test_what_was_saved_goes_on_to_the_last_bit(found: dict[str, Any]) -> None:
    went_on, resumed = found["after"]
    assert resumed == went_on
    assert found["resumed_minus_went_on"] == 0.0
    assert found["buffers_differed"] > 0.0
    assert found["buffers_differ"] == 0.0


def test_one_process_loads_what_two_have_saved(found: dict[str, Any]) -> None:
    assert found["loaded_whole_minus_saved"] == 0.0


def test_gates_learned_by_two_are_those_learned_by_one(every: dict[str, Any]) -> None:
    assert every["gates"]["whole_minus_alone"] < 1e-5


def test_a_norm_that_is_stood_for_has_the_parameters_of_the_day() -> None:
    """Sharding, like loading by assignment, puts other tensors in place of a module's parameters."""
    kept, hidden = KeptNorm(nn.LayerNorm(4)), torch.randn(2, 3, 4)
    kept.weight = nn.Parameter(torch.full((4,), 2.0))
    expected = 2 * nn.functional.layer_norm(hidden, (4,))
    torch.testing.assert_close(kept(hidden), expected)
    torch.testing.assert_close(kept.without()(hidden), expected)
