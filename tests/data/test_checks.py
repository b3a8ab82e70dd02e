"""Whatever is wrong with a data set is reported, skipped up to a limit, and never dropped silently."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.data import BadDataError, Problem, SpeechDataset, write_problems
from tests.helpers.samples import LETTERS, tone, write_audio, write_folder, write_metadata

Open = Callable[..., SpeechDataset]
VOCABULARY = set(LETTERS + " ")


@pytest.fixture
def bad_folder(tmp_path: Path) -> Path:
    """Ten good entries and one of every kind of bad ones."""
    folder = tmp_path / "bad"
    rows = write_folder(folder, 10)
    write_audio(folder / "silent.wav", np.zeros(16_000, np.float32))
    write_audio(folder / "long.wav", tone(3.0))
    write_audio(folder / "short.wav", tone(0.02))
    write_audio(folder / "good.wav", tone(1.0))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no audio at all")
    names = ["silent", "long", "short", "empty", "text", "missing"]
    texts = {"untold": "  ", "digits": "turn 7 on @", "upper": "TURN ON"}
    rows += [{"file_name": f"{name}.wav", "transcription": "turn on", "speaker": ""} for name in names]
    rows += [{"file_name": "good.wav", "transcription": text, "speaker": ""} for text in texts.values()]
    write_metadata(folder, rows)
    return folder


EXPECTED = [
    Problem("silent.wav", "silent: peak -inf dBFS, below silence_dbfs -60"),
    Problem("long.wav", "too long: 3.00 s, more than max_seconds 2"),
    Problem("short.wav", "too short: 0.02 s, less than min_seconds 0.1"),
    Problem("empty.wav", "empty: 0 bytes"),
    Problem("text.wav", "cannot be decoded: Format not recognised."),
    Problem("missing.wav", "file not found"),
    Problem("good.wav", "no transcript"),
    Problem("good.wav", "characters outside the vocabulary: '7' '@'"),
    Problem("good.wav", "characters outside the vocabulary: 'N' 'O' 'R' 'T' 'U' (set case: lower)"),
]


def test_every_kind_is_skipped_and_reported(
    bad_folder: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = open_folder(bad_folder, vocabulary=VOCABULARY, max_seconds=2.0, max_bad_fraction=0.5)
    assert dataset.problems == EXPECTED
    assert len(dataset) == 10
    assert "skipped 9 of 19 entries (47.4%) that cannot be used" in caplog.text
    for problem in EXPECTED:
        assert str(problem) in caplog.text


def test_too_many_stop_the_run_with_the_list(bad_folder: Path, open_folder: Open) -> None:
    with pytest.raises(BadDataError) as error:
        open_folder(bad_folder, vocabulary=VOCABULARY, max_seconds=2.0)
    head, *lines = str(error.value).splitlines()
    assert head == (
        f"{bad_folder}: 9 of 19 entries (47.4%) cannot be used, more than max_bad_fraction 1.0%. "
        "Mend or remove them, or raise max_bad_fraction."
    )
    assert lines == [f"  {problem}" for problem in EXPECTED]
    assert error.value.problems == EXPECTED


def test_one_percent_is_the_default_limit(tmp_path: Path, open_folder: Open) -> None:
    rows = [{"file_name": "good.wav", "transcription": "stop"}] * 100
    write_audio(tmp_path / "good.wav", tone(0.2))
    write_metadata(tmp_path, [*rows[1:], {"file_name": "missing.wav", "transcription": "stop"}])
    assert len(open_folder(tmp_path)) == 99
    write_metadata(tmp_path, [*rows[2:], *[{"file_name": "missing.wav", "transcription": "stop"}] * 2])
    with pytest.raises(BadDataError, match=r"2 of 100 entries \(2.0%\)"):
        open_folder(tmp_path)


def test_long_lists_are_cut_in_the_message_only(tmp_path: Path, open_folder: Open) -> None:
    write_metadata(tmp_path, [{"file_name": f"{number}.wav", "transcription": "stop"} for number in range(60)])
    with pytest.raises(BadDataError, match=r"\n  \.\.\. and 10 more$") as error:
        open_folder(tmp_path)
    assert len(error.value.problems) == 60


def test_nothing_left_is_an_error(tmp_path: Path, open_folder: Open) -> None:
    write_metadata(tmp_path, [{"file_name": "missing.wav", "transcription": "stop"}])
    with pytest.raises(ValueError, match=r"none of 1 entries can be used; the first: missing.wav: file not found"):
        open_folder(tmp_path, max_bad_fraction=1.0)


def test_two_faults_of_one_entry_are_one_problem(tmp_path: Path, open_folder: Open) -> None:
    write_folder(tmp_path, 3)
    write_metadata(tmp_path, [{"file_name": "missing.wav", "transcription": ""}])
    with pytest.raises(BadDataError) as error:
        open_folder(tmp_path)
    assert error.value.problems == [Problem("missing.wav", "file not found; no transcript")]


def test_transcripts_are_only_stripped_by_default(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "a.wav", tone(0.5))
    write_metadata(tmp_path, [{"file_name": "a.wav", "transcription": "  Turn\t it  On "}])
    assert open_folder(tmp_path).texts == ["Turn it On"]
    assert open_folder(tmp_path, case="lower").texts == ["turn it on"]
    assert open_folder(tmp_path, case="upper").texts == ["TURN IT ON"]


def test_without_labels_transcripts_do_not_matter(bad_folder: Path, open_folder: Open) -> None:
    dataset = open_folder(bad_folder, vocabulary=VOCABULARY, max_seconds=2.0, max_bad_fraction=0.5, labels=False)
    assert dataset.problems == EXPECTED[:6]
    assert dataset.ids[-3:] == ["good.wav", "good.wav#2", "good.wav#3"]
    assert dataset.texts[-3:] == [None, "turn 7 on @", "TURN ON"]


def test_ids_do_not_depend_on_what_is_usable(bad_folder: Path, open_folder: Open) -> None:
    dataset = open_folder(bad_folder, vocabulary=set(LETTERS + " 7@"), max_seconds=2.0, max_bad_fraction=0.5)
    assert dataset.ids[-1] == "good.wav#2"


def test_all_problems_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "run/skipped.jsonl"
    write_problems([Problem("old.wav", "gone")], path)
    write_problems(EXPECTED, path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"file": problem.file, "reason": problem.reason} for problem in EXPECTED]
    write_problems([], path)
    assert list(path.parent.iterdir()) == []


def test_names_that_are_no_unicode_are_written_too(tmp_path: Path) -> None:
    write_problems([Problem("caf\udce9.wav", "gone")], tmp_path / "skipped.jsonl")
    assert json.loads((tmp_path / "skipped.jsonl").read_text())["file"] == "caf\udce9.wav"


def test_transcripts_are_composed_unless_the_tokenizer_knows_parts_alone(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "a.wav", tone(0.5))
    write_metadata(tmp_path, [{"file_name": "a.wav", "transcription": "cafe\u0301"}])
    assert open_folder(tmp_path).texts == ["caf\u00e9"]
    assert open_folder(tmp_path, vocabulary=set("caf\u00e9")).texts == ["caf\u00e9"]
    assert open_folder(tmp_path, vocabulary=set("cafe\u0301")).texts == ["cafe\u0301"]
