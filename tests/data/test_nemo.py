"""NeMo manifests, plain, in buckets and with tars: what people who have them expect on the first day."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data import SpeechDataset
from tests.helpers.formats import audio_bytes, lengths, reasons, remarks, write_lines, write_tar, write_tone
from tests.helpers.samples import tone, write_audio

Open = Callable[..., SpeechDataset]


def test_case_01_paths_begin_at_the_manifest(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tone(tmp_path / "d/wavs/a.wav")
    rows = [{"audio_filepath": f"wavs/{name}.wav", "duration": 0.5, "text": "stop"} for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    dataset = opened(write_lines(tmp_path / "d/m.json", rows))
    assert lengths(dataset) == {"wavs/a.wav": 0.5}
    places = [tmp_path / "d/wavs/b.wav", tmp_path / "wavs/b.wav"]
    assert reasons(dataset) == {"wavs/b.wav": f"file not found: tried {places[0]} and {places[1]}"}


def test_case_02_a_tilde_is_the_home(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_tone(tmp_path / "home/a.wav")
    assert len(opened(write_lines(tmp_path / "m.json", [{"audio_filepath": "~/a.wav", "text": "stop"}]))) == 1


@pytest.mark.parametrize("name", ["m.json", "m.jsonl", "m.txt", "train.json.gz"])
def test_case_03_a_manifest_is_known_by_its_rows(tmp_path: Path, opened: Open, name: str) -> None:
    write_tone(tmp_path / "a.wav")
    rows = [{"audio_filepath": "a.wav", "duration": 0.5, "text": "stop now"}]
    path = write_lines(tmp_path / name, rows, packed=name.endswith("gz"))
    assert opened(path).texts == ["stop now"]
    assert (opened(tmp_path).texts if name != "m.txt" else ["stop now"]) == ["stop now"]


def test_case_04_to_06_offsets_cut_a_long_file(tmp_path: Path, opened: Open) -> None:
    whole = np.concatenate([tone(1, hertz=300 + 10 * second) for second in range(12)])
    write_audio(tmp_path / "a.wav", whole)
    clips = [(0, 4), (5, 2.5), (9.5, 2), (11, 1.3), (11, 4), (13, 1), (0, "x")]
    rows = [{"audio_filepath": "a.wav", "offset": start, "duration": length, "text": "stop"} for start, length in clips]
    dataset = opened(write_lines(tmp_path / "m.json", rows), max_seconds=5)
    assert lengths(dataset) == {"a.wav:0-4": 4, "a.wav:5-7.5": 2.5, "a.wav:9.5-11.5": 2, "a.wav:11-12.3": 1}
    assert np.allclose(dataset[1].samples, whole[80_000:120_000], atol=1e-3)
    assert "a.wav:11-12.3: clip beyond the end of its file: by 0.30 s, cut" in remarks(dataset)
    assert reasons(dataset) == {
        "a.wav:11-15": "clip outside its file: it ends at 15.00 s, the file ends at 12.00 s",
        "a.wav:13-14": "clip outside its file: it begins at 13.00 s, the file ends at 12.00 s",
        "a.wav:0-": "too long: 12.00 s, more than max_seconds 5",
    }


def test_case_07_lengths_are_measured(tmp_path: Path, opened: Open) -> None:
    rows = []
    for name, duration in (("null", None), ("text", "long"), ("wrong", 2.5), ("right", "0.5")):
        write_tone(tmp_path / f"{name}.wav")
        rows.append({"audio_filepath": f"{name}.wav", "duration": duration, "text": "stop"})
    dataset = opened(write_lines(tmp_path / "m.json", rows))
    assert set(dataset.seconds) == {0.5}
    assert remarks(dataset) == [
        "text.wav: duration is no number: 'long', measured instead",
        "wrong.wav: length not as said: 2.50 s, it is 0.50 s",
    ]


def test_case_08_texts_that_are_none(tmp_path: Path, opened: Open) -> None:
    rows = [{"audio_filepath": "a.wav", "text": text} for text in ("stop", None, float("nan"), 5, "")]
    write_tone(tmp_path / "a.wav")
    dataset = opened(write_lines(tmp_path / "m.json", rows))
    assert dataset.texts == ["stop"]
    assert {problem.reason for problem in dataset.problems} == {"no transcript"}
    path = write_lines(tmp_path / "n.json", [{"audio_filepath": "a.wav", "words": "stop", "duration": 1}])
    with pytest.raises(ValueError, match=r"n.json: no transcripts; looked for .*has audio_filepath, words, duration"):
        opened(path)
    assert opened(path, text_column="words").texts == ["stop"]


def test_case_09_10_translations_and_marked_rows(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    said = {"audio_filepath": "a.wav", "text": "halt", "source_lang": "en"}
    rows = [{**said, "target_lang": "de"}, {**said, "target_lang": "en"}, {**said, "_skipme": "low rate"}]
    dataset = opened(write_lines(tmp_path / "m.json", rows))
    assert len(dataset) == len(dataset.problems) == 1
    assert reasons(dataset)["a.wav"].startswith("a translation from en into de")
    assert remarks(dataset) == ["a.wav: marked to be skipped: _skipme 'low rate'"]


def test_case_11_bytes_that_text_editors_leave(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    row = json.dumps({"audio_filepath": "a.wav", "text": "stop"})
    (tmp_path / "m.json").write_bytes(f"\ufeff{row}\r\n\r\n{row}".encode())
    assert opened(tmp_path / "m.json").ids == ["a.wav", "a.wav#2"]


def test_case_16_commands_are_refused_unless_allowed(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    marker = tmp_path / "marker"
    rows = [{"audio_filepath": f"pipe:touch {marker}; cat {tmp_path}/a.wav", "text": "stop"}]
    path = write_lines(tmp_path / "m.json", [*rows, {"audio_filepath": "a.wav", "text": "stop"}])
    dataset = opened(path)
    assert "line 1 is a command: 'touch" in dataset.problems[0].reason
    assert dataset.problems[0].reason.endswith("is not run; write files instead, or set data.allow_commands")
    assert not marker.exists()
    assert len(opened(path, allow_commands=True)) == 2
    assert marker.exists()


@pytest.mark.parametrize(("channel", "hertz"), [(1, 800), (None, None)])
def test_case_20_channels(tmp_path: Path, opened: Open, channel: int | None, hertz: int | None, caplog: Any) -> None:
    left, right = tone(0.5, hertz=200), tone(0.5, hertz=800)
    for name in ("a.wav", "b.wav"):
        write_audio(tmp_path / name, np.stack([left, right], axis=1))
    rows = [{"audio_filepath": name, "text": "stop"} for name in ("a.wav", "b.wav")]
    dataset = opened(write_lines(tmp_path / "m.json", rows), channel=channel)
    assert np.allclose(dataset[0].samples, right if hertz else (left + right) / 2, atol=1e-3)
    told = [record for record in caplog.records if "several channels: 2, their mean is taken" in record.getMessage()]
    assert len(told) == (channel is None)


def tarred(folder: Path, first: int, rows: list[dict[str, Any]], members: list[str]) -> None:
    """Two shards from number `first` on, of which the first holds the members, the second one more."""
    write_tar(folder / f"audio_{first}.tar", {name: audio_bytes(2) for name in members})
    write_tar(folder / f"audio_{first + 1}.tar", {"last.wav": audio_bytes()})
    last = {"audio_filepath": "last.wav", "duration": 0.5, "text": "stop", "shard_id": first + 1}
    given = [{"duration": 2.0, "text": "now", "shard_id": first, **row} for row in rows]
    write_lines(folder / "tarred_audio_manifest.json", [*given, last])


@pytest.mark.parametrize("first", [0, 1])
def test_case_21_tarred(tmp_path: Path, opened: Open, first: int) -> None:
    rows: list[dict[str, Any]] = [{"audio_filepath": "_data_x.wav", "offset": 0.0, "duration": 1.0}]
    rows += [{"audio_filepath": "_data_x-sub1.wav", "offset": 1.0, "duration": 0.75}]
    rows += [{"audio_filepath": "y.wav"}, {"audio_filepath": "z.wav"}]
    tarred(tmp_path, first, rows, ["_data_x.wav", "y.flac", "nobody.wav"])
    dataset = opened(tmp_path)
    assert list(lengths(dataset).values()) == [1.0, 0.75, 2.0, 0.5]
    assert reasons(dataset) == {"z.wav": f"line 4: no file of this name in audio_{first}.tar"}
    assert remarks(dataset) == [f"audio_{first}.tar/nobody.wav: not used: no row of the manifest names it"]


@pytest.mark.parametrize("name", ["/", "."])
def test_a_tarred_row_may_name_nothing(tmp_path: Path, opened: Open, name: str) -> None:
    tarred(tmp_path, 0, [{"audio_filepath": "y.wav"}, {"audio_filepath": name}], ["y.wav"])
    dataset = opened(tmp_path)
    assert dataset.ids == ["y.wav", "last.wav"]
    assert reasons(dataset) == {name: "line 2: no file of this name in audio_0.tar"}


def test_tarred_numbers_must_agree(tmp_path: Path, opened: Open) -> None:
    tarred(tmp_path, 1, [{"audio_filepath": "a.wav", "shard_id": 0}], ["a.wav"])
    with pytest.raises(ValueError, match=r"rows name shards 0, 2, tars are numbered 1, 2; 0 are missing"):
        opened(tmp_path)


def test_packed_tars_of_a_manifest_are_named(tmp_path: Path, opened: Open) -> None:
    tarred(tmp_path, 0, [{"audio_filepath": "a.wav"}], ["a.wav"])
    refusal = r"a packed tar cannot be read at any place; unpack it first \(gunzip\)"
    for number in (1, 0):  # one of them, then both
        tar = tmp_path / f"audio_{number}.tar"
        tar.with_suffix(".tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
        if number:
            assert len(opened(tmp_path)) == 2  # it is not packed alone
        tar.unlink()
        with pytest.raises(ValueError, match=rf"audio_{number}\.tar\.gz: {refusal}"):
            opened(tmp_path, streaming=not number)


def test_buckets_are_one_data_set(tmp_path: Path, opened: Open) -> None:
    for number in (1, 2):
        tarred(tmp_path / f"tarred/bucket{number}", 0, [{"audio_filepath": "a.wav"}], ["a.wav"])
        write_tone(tmp_path / f"plain/bucket{number}/a.wav")
        row = {"audio_filepath": "a.wav", "text": "stop"}
        write_lines(tmp_path / f"plain/bucket{number}/manifest.json", [row])
    assert opened(tmp_path / "tarred").texts == ["now", "stop", "now", "stop"]
    assert len(opened(tmp_path / "plain")) == 2


@pytest.mark.parametrize("pattern", ["m_{00..01}.json", "m__OP_00..01_CL_.json", "m_*.json"])
def test_patterns_name_many_manifests(tmp_path: Path, opened: Open, pattern: str) -> None:
    write_tone(tmp_path / "data (v2)/a.wav")
    for number in (0, 1):
        row = {"audio_filepath": "a.wav", "text": "stop"}
        write_lines(tmp_path / f"data (v2)/m_0{number}.json", [row])
    assert len(opened(f"{tmp_path}/data (v2)/{pattern}")) == 2
    with pytest.raises(ValueError, match=r"1 of 3 files are missing, the first is .*m_02.json"):
        opened(f"{tmp_path}/data (v2)/m_{{00..02}}.json")


@pytest.mark.parametrize(
    ("ends", "message"),
    [("5..2", "write the smaller one first"), ("0..999999999", "names 1,000,000,000 files, more than 1,000,000")],
)
def test_patterns_that_nobody_means(opened: Open, ends: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(Path(f"m_{{{ends}}}.json"))


def test_rows_of_nonsense_are_problems(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    cases = {
        "has no channel -1: it has 1": {"text": "stop", "channel": -1},
        "line 2 names no part of a file: offset 1e+308": {"text": "stop", "offset": 1e308},
        "its transcript cannot be read: bad.txt: 'utf-8'": {"text_filepath": "bad.txt"},
        "no transcript: file not found: tried": {"text_filepath": "none.txt"},
    }
    for reason, values in cases.items():
        rows = [{"audio_filepath": "a.wav", "text": "stop"}, {"audio_filepath": "a.wav", **values}]
        dataset = opened(write_lines(tmp_path / "m.json", rows), text_column=next(iter(values)), labels=False)
        assert any(said.startswith(reason) for said in reasons(dataset).values()), reason


def test_splits_are_files_of_their_names(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    for name, text in (("train_manifest", "one"), ("dev_manifest", "two")):
        write_lines(tmp_path / f"{name}.json", [{"audio_filepath": "a.wav", "text": text, "speaker": "s"}])
    train, dev = opened(tmp_path), opened(tmp_path, split="dev")
    assert (train.texts, dev.texts, train.whole) == (["one"], ["two"], False)
    assert train.groups("speaker") == ["s"]
    with pytest.raises(ValueError, match=r"no split 'test'; it has dev, train"):
        opened(tmp_path, split="test")
