"""Gates on several processes: gradients are averaged, draws are the same, and one decision holds for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import forked


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("ranks") / "found.json"
    done = forked.run_two(["-m", "tests.helpers.two_ranks", str(out)])
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(Path(out).read_text())
    assert result["ranks"] == 2
    return result


def test_gradients_of_gates_multipliers_and_weights_are_averaged(found: dict[str, Any]) -> None:
    assert {"gates.log_alpha", "lagrangian.linear", "lagrangian.quadratic"} <= set(found["names"])
    assert found["gates_differ_locally"] > 1e-3  # the ranks saw different speech, so averaging has work to do
    assert found["averaged_minus_mean"] < 1e-6


def test_gates_and_their_noise_stay_the_same_on_all_ranks(found: dict[str, Any]) -> None:
    assert found["alphas_moved"] > 0.1
    assert found["alphas_differ"] == 0.0
    assert found["draws_equal"]


def test_decisions_are_the_same_on_all_ranks(found: dict[str, Any]) -> None:
    assert found["structures"][0] == found["structures"][1]
    assert found["spoilt_own"][0] != found["spoilt_own"][1]
    assert found["agreed"][0] == found["agreed"][1] == found["spoilt_own"][0]


def test_what_each_rank_has_of_its_own_is_restored_there(found: dict[str, Any]) -> None:
    assert found["restored_of_each"] == [["of 0"], ["of 1"]]
    assert found["restored_mean"] == 0.5


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed in /proc on Linux only")
def test_no_thread_of_the_group_outlives_it(found: dict[str, Any]) -> None:
    assert found["threads_left"]
    assert not [name for name in found["threads_left"] if "gloo" in name]


def test_scores_and_refit_are_those_of_all_speech_on_any_number_of_processes(found: dict[str, Any]) -> None:
    assert found["scores_of_two_minus_one"] < 1e-4
    assert found["repaired_of_two_minus_one"] < 1e-3 < found["repaired_on_one_alone"]
