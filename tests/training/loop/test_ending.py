"""How a run ends, and what keeps another one from taking its place unseen."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compress.training.loop.claim import claimed, require_apart
from compress.training.loop.ending import end, has_ended, interrupted


def test_a_run_has_ended_once_its_numbers_are_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert not has_ended(tmp_path, "train.py")
    end(tmp_path, {"best_dev_wer": 0.1, "steps": 4, "expected": 40312.5}, "train.py")
    assert "Done: best_dev_wer 10.0 %  steps 4  expected 40,312  (all numbers: " in caplog.text
    assert has_ended(tmp_path, "train.py")


def test_a_run_whose_model_is_gone_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final/config.json").write_text("{}")
    for content in (None, b"half of a file"):
        if content is not None:
            (tmp_path / "final/model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"final is not there in full, .*: delete .*checkpoints and run the same"):
            end(tmp_path, {}, "train.py", "final")
    assert not has_ended(tmp_path, "train.py")
    save_file({"a": torch.ones(2)}, tmp_path / "final/model.safetensors")
    end(tmp_path, {}, "train.py", "final")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "link", Path("/proc/out")):
        with (
            pytest.raises(ValueError, match=rf"Could not write {place} .*(Something else has that|Choose a place)"),
            claimed(place),
        ):
            pass


def test_a_finished_run_of_another_program_is_not_this_one(tmp_path: Path) -> None:
    end(tmp_path, {}, "train.py")
    with pytest.raises(
        ValueError, match=r"holds a finished run of train.py, not of prune.py; give another output folder"
    ):
        has_ended(tmp_path, "prune.py")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", None])
def test_final_numbers_that_are_damaged_end_nothing(tmp_path: Path, content: str | None) -> None:
    done = tmp_path / "done.json"
    if content is None:
        done.mkdir()
    else:
        done.write_text(content)
    with pytest.raises(ValueError, match=r"done.json .*Delete it, and run the same command again"):
        has_ended(tmp_path, "train.py")


@pytest.mark.parametrize("begun", ["final", "final/inner", "final/../final", "link"])
def test_a_run_does_not_replace_what_it_begins_from(tmp_path: Path, begun: str) -> None:
    (tmp_path / "final" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "final")
    with pytest.raises(ValueError, match="and would replace it; give another output folder"):
        require_apart(str(tmp_path / begun), tmp_path, "removed", "final")
    with pytest.raises(ValueError, match="would write among its files; give another output folder"):
        require_apart(str(tmp_path / begun), tmp_path / begun, "other")
    require_apart(str(tmp_path / "teacher"), tmp_path, "final")
    require_apart(None, tmp_path, "final")
    require_apart("someone/model", tmp_path, "final")


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        interrupted("prune.py")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "prune.py: interrupted; the same command goes on from the last checkpoint\n"
