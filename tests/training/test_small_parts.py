"""Best value, position in the data, settings, folders, precision, names of stages."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.data import SpeechConfig
from compress.files.writing import recover_folder, replaced_folder, write_json
from compress.training.loop import precision
from compress.training.loop.best import Best
from compress.training.loop.noise import Noise
from compress.training.loop.position import Position, total_steps
from compress.training.loop.same_run import differing
from compress.training.run import RunConfig, best_on_dev
from compress.training.stages_report import _entry


class Numbers:
    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def batches_per_epoch(self, epoch: int) -> int:
        return self.lengths[epoch]

    def epoch(self, epoch: int, start: int = 0, place: None = None) -> Iterator[tuple[int, int]]:
        return ((epoch, number) for number in range(start, self.lengths[epoch]))


def test_best_ignores_ties_and_nan_and_survives() -> None:
    best = Best()
    assert best.improved(0.4, 1, {"a": 0.3})
    assert not best.improved(0.4, 2)
    assert not best.improved(math.nan, 3)
    resumed = Best()
    resumed.load_state_dict(best.state_dict())
    assert resumed == Best(0.4, 1, {"a": 0.3})


def test_the_best_on_other_speech_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    easy, hard = Best(on="dev-clean"), Best(on="dev-other")
    easy.improved(0.1, 1)
    hard.load_state_dict(easy.state_dict())
    assert "The dev set has changed" in caplog.text
    assert hard.improved(0.3, 2)


def test_the_best_of_a_run_is_that_on_its_dev_set() -> None:
    config = RunConfig(output="out", data=SpeechConfig("speech"))
    on = best_on_dev(config).on
    others = ({"dev_limit": 20}, {"dev_split": "test"}, {"dev": SpeechConfig("other")}, {"dev_split": None})
    assert len({best_on_dev(replace(config, **other)).on for other in others} | {on}) == 5
    assert best_on_dev(replace(config, data=SpeechConfig("speech", cache_dir="here"))).on == on


def test_what_has_no_effect_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"compile: true has no effect beside gradient_checkpointing: true"):
        RunConfig(output="out", data=SpeechConfig("speech"), compile=True, gradient_checkpointing=True)


def test_what_two_methods_draw_has_nothing_in_common() -> None:
    """With one stream, whether a block is dropped would say whether the frames of that batch skip."""
    drawn = [torch.rand(64, generator=Noise(seed, name).generator) for seed, name in ((3, "a"), (3, "b"), (4, "a"))]
    assert not any(torch.isin(one, other).any() for one, other in combinations(drawn, 2))
    assert torch.equal(drawn[0], torch.rand(64, generator=Noise(3, "a").generator))


def test_the_stream_goes_on_from_any_position() -> None:
    whole = list(zip(range(5), Position().stream(Numbers(2, 3, 1)), strict=False))
    assert [batch for _, batch in whole] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    position = Position()
    stream = position.stream(Numbers(2, 3, 1))
    for count in range(1, 5):
        next(stream)
        resumed = Position()
        resumed.load_state_dict(position.state_dict())
        assert next(resumed.stream(Numbers(2, 3, 1))) == whole[count][1]


def test_an_empty_data_set_does_not_spin_for_ever() -> None:
    with pytest.raises(ValueError, match="Epoch 0 has no batch"):
        next(Position().stream(Numbers(0)))


def test_epochs_of_different_length_are_added_up() -> None:
    assert total_steps(Numbers(2, 3, 1), epochs=3) == 6
    assert total_steps(Numbers(2, 3, 1), epochs=3, accumulate=4) == 2


def test_settings_differ_by_dotted_key() -> None:
    old = {"a": {"b": 1, "c": (1, 2)}, "d": None}
    assert differing(old, {"a": {"b": 1, "c": [1, 2]}, "d": None}) == {}
    assert differing(old, {"a": {"b": 2, "c": [1]}, "d": 3}, harmless=["a.c", "d"]) == {"a.b": (1, 2)}


def test_paths_in_the_folder_of_a_run_are_the_same_behind_it() -> None:
    """Those of the models of its stages and of its profile, where it was moved or is spelled otherwise."""

    def stage(run: str, part: str = "stages/50", start: str = "stages/75/final") -> dict[str, Any]:
        budget = {"profile": f"{run}/latency.json"}
        return {"output": f"{run}/{part}", "start": f"{run}/{start}", "teacher": "other/teacher", "budget": budget}

    allowed = ["output"]
    for folder in ("/other/runs/run", "elsewhere", "../run"):
        assert differing(stage("runs/run"), stage(folder), allowed) == {}
        assert differing(stage("runs/run", "."), stage(folder, "."), allowed) == {}
    changed = differing(stage("runs/run"), stage("moved", start="stages/60/final"), allowed)
    assert changed == {"start": ("runs/run/stages/75/final", "moved/stages/60/final")}
    beside = {"output": "new", "teacher": "new/teacher"}
    assert differing({"output": "run", "teacher": "other/teacher"}, beside, allowed) == {
        "teacher": ("other/teacher", "new/teacher")
    }


def test_a_folder_is_replaced_in_full_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "best"
    with replaced_folder(target) as fresh:
        (fresh / "weights").write_text("one")
    with pytest.raises(FileNotFoundError), replaced_folder(target) as fresh:
        (fresh / "weights").write_bytes((fresh / "absent").read_bytes())
    assert (target / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_swap_that_was_killed_halfway_is_undone(tmp_path: Path) -> None:
    (tmp_path / ".best.old").mkdir()
    (tmp_path / ".best.new").mkdir()
    recover_folder(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_json_is_replaced_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "run" / "done.json"
    write_json(path, {"steps": 1})
    write_json(path, {"steps": 2})
    assert json.loads(path.read_text()) == {"steps": 2}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("flags", "expected"), [("avx2 avx512_bf16", True), ("avx2 amx_bf16", True), ("avx2", False)])
def test_bf16_follows_the_processor(
    flags: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", info)
    device = torch.device("cpu")
    layer = torch.nn.Linear(2, 2)
    with precision.autocast(device, "auto"):
        assert layer(torch.ones(1, 2)).dtype == (torch.bfloat16 if expected else torch.float32)
    with precision.autocast(device, "fp32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    with precision.autocast(device, "bf16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "requested",
    ["params 50% of total", "macs 50% of encoder at 10 s", "latency 50% at 10 s, batch 1, 1 thread of torch"],
)
def test_a_stage_is_called_by_its_share(requested: str) -> None:
    numbers = {"requested": requested, "achieved": 1, "full": 2, "limit": 1}
    assert _entry(numbers, "stages/50")["name"] == "50%"
