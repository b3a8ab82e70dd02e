"""Rows of metadata files that cannot be read as they stand are named with their lines, never taken for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.data import SpeechDataset
from compress.data.formats.metadata import read_metadata
from tests.helpers.samples import tone, write_audio

Open = Callable[..., SpeechDataset]


def written(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    for number in range(3):
        write_audio(folder / f"s{number}.wav", tone(0.5))
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("s1.wav,play piano, music", "line 3 has 3 fields, the header 2; put a text with commas in quotes"),
        ("s1.wav", "line 3 has 1 fields, the header 2"),
        (",stop", "line 3 names no file in file_name"),
        ("s\0.wav,stop", "line 3 names a file as no file can be called: 's\\x00.wav'"),
        ("x" * 5000 + ".wav,stop", "file not found"),
    ],
)
def test_a_bad_row_is_a_problem_of_its_own(tmp_path: Path, open_folder: Open, row: str, reason: str) -> None:
    written(tmp_path, f'file_name,transcription\ns0.wav,stop\n{row}\ns2.wav,"play, now"\n')
    dataset = open_folder(tmp_path, max_bad_fraction=0.5)
    assert (dataset.ids, dataset.texts) == (["s0.wav", "s2.wav"], ["stop", "play, now"])
    assert [problem.reason for problem in dataset.problems] == [reason]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('["s1.wav", "stop"]', "line 2 is no JSON object"),
        (
            '{"file_name": "s1.wav", "transcription": "a", "transcription": "b"}',
            "line 2 names 'transcription' more than",
        ),
        ('{"file_name": 7, "transcription": "stop"}', "line 2 names no file in file_name"),
        ('{"file_name": "s\\ud800.wav", "transcription": "stop"}', "line 2 names a file as no file can be called"),
        ('{"file_name": "s1.wav", "transcription": "st\\ud800op"}', "the transcript holds halves of characters"),
        ('{"file_name": "s1.wav"}', "no transcript"),
    ],
)
def test_a_bad_json_row_is_a_problem_of_its_own(tmp_path: Path, open_folder: Open, row: str, reason: str) -> None:
    good = '{"file_name": "s0.wav", "transcription": "stop"}'
    written(tmp_path, f"{good}\n{row}\n", "metadata.jsonl")
    dataset = open_folder(tmp_path, max_bad_fraction=0.5)
    assert dataset.ids == ["s0.wav"]
    assert dataset.problems[0].reason.startswith(reason)


def test_columns_are_those_of_all_json_rows(tmp_path: Path, open_folder: Open) -> None:
    rows = '{"file_name": "s0.wav"}\n{"file_name": "s1.wav", "transcription": "stop"}\n'
    written(tmp_path, rows, "metadata.jsonl")
    assert open_folder(tmp_path, max_bad_fraction=0.5).ids == ["s1.wav"]


def test_columns_with_another_separator_are_told(tmp_path: Path, open_folder: Open) -> None:
    written(tmp_path, "file_name;transcription\ns0.wav;stop\n")
    with pytest.raises(ValueError, match=r"no column 'file_name'; .* separate columns by commas"):
        open_folder(tmp_path)


def test_long_names_are_shown_in_part(tmp_path: Path, open_folder: Open) -> None:
    written(tmp_path, f"file_name,transcription\ns0.wav,stop\n{'x' * 5000}.wav,stop\n")
    problem = open_folder(tmp_path, max_bad_fraction=0.5).problems[0]
    assert len(problem.file) > 5000
    assert str(problem).endswith("xxx...: file not found")
    assert len(str(problem)) < 500


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", 'file_name,t\na.wav,"x\nb.wav,y\n', "line 2 cannot be read: unexpected end of data; a quote"),
        ("m.csv", 'file_name,t\na.wav,"x\nb.wav,"y"\n', "line 2 cannot be read: .* a quote that begins a field must"),
        (
            "m.csv",
            'file_name,t\na.wav,"x\nb.wav,y\nc.wav,z"\n',
            "line 2 begins a quote that is not closed before the row",
        ),
        ("m.csv", "file_name,t,t\na.wav,x,y\n", "the column 't' stands in the header more than once"),
        ("m.jsonl", '{"file_name": "a"}\n\n{"file_name": \n', "line 3 cannot be read as JSON: Expecting value"),
        ("m.jsonl", "[" * 100_000, "line 1 cannot be read as JSON: it is nested too deeply"),
        ("m.csv", "file_name,t\na.wav,x\n\ud800,x\n", "line 3 is no UTF-8; save the file as UTF-8"),
    ],
)
def test_what_leaves_rows_in_doubt_is_an_error(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_metadata(written(tmp_path, text, name))
