from __future__ import annotations

import errno
from pathlib import Path

import pytest

from compress.files.writing import (
    WriteError,
    explained,
    recover_folder,
    replaced_folder,
    require_place_for_models,
    require_writable,
    write_text,
)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.json"
    write_text(target, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"MiB are free there\. Free some space and run the same"),
        (OSError(errno.EROFS, "Read-only file system"), r"\)\. Choose a place that you may write to"),
        (OSError(errno.EEXIST, "File exists"), r"\)\. Something else has that name; choose another"),
        (RuntimeError("basic_ios::clear: iostream error"), r"MiB are free there\. Free some space"),
        (RuntimeError("[enforce fail at inline_container.cc:858] file write failed"), r"Free some space"),
        (Exception("Permission denied (os error 13)"), r"\)\. Choose a place that you may write to"),
    ],
)
def test_the_remedy_follows_the_cause(tmp_path: Path, error: Exception, remedy: str) -> None:
    with pytest.raises(WriteError, match=remedy), explained(tmp_path):
        raise error


def test_a_folder_is_tried_before_it_is_needed(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    for taken in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WriteError, match="Something else has that name"):
            require_writable(taken)


def test_no_model_is_written_into_the_folder_of_another(tmp_path: Path) -> None:
    """Neither through a link; the folder of a run, which holds models and no weights of its own, is none."""
    model = tmp_path / "run" / "best"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    require_place_for_models(model / "new")
    (model / "model.safetensors").write_text("")
    (tmp_path / "link").symlink_to(model)
    for within in (model, model / "new", model / "new" / "folder", tmp_path / "link" / "new", model / ".." / "best"):
        with pytest.raises(WriteError, match=r"lies in the folder of the model .*run/best: .* Choose a folder beside"):
            require_place_for_models(within)
    require_place_for_models(tmp_path / "run" / "final")
    require_place_for_models(model / ".." / "final")
    assert [path.name for path in model.iterdir() if path.is_dir()] == []


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "model").mkdir(parents=True)
    (tmp_path / "disk" / "model" / "old").write_text("")
    link = tmp_path / "final"
    link.symlink_to(tmp_path / "disk" / "model")
    with replaced_folder(link) as fresh:
        (fresh / "new").write_text("")
    recover_folder(link)
    assert link.is_symlink()
    assert [path.name for path in link.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "final"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["model"]


def test_nothing_is_left_behind_where_making_fails(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "old").write_text("")

    def fail(target: Path) -> None:
        with replaced_folder(target) as fresh:
            (fresh / "part").write_text("")
            raise RuntimeError("half way")

    for name in ("final", "new"):
        with pytest.raises(RuntimeError, match="half way"):
            fail(tmp_path / name)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["final", "final/old"]
