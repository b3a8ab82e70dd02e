"""Folders, metadata files, parquet, arrow, saved tables and streams give the same utterances."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from compress.data import BadDataError, BatchConfig, Problem, SpeechDataset, SpeechLoader, require_split
from compress.data.sources import unique
from tests.helpers.samples import COLUMNS, table, tone, write_audio, write_folder, write_metadata

Open = Callable[..., SpeechDataset]


def same_speech(left: SpeechDataset, right: SpeechDataset) -> bool:
    pairs = zip((left[index] for index in range(len(left))), (right[index] for index in range(len(right))), strict=True)
    return all(np.array_equal(a.samples, b.samples) and a.text == b.text and a.seconds == b.seconds for a, b in pairs)


def test_folder(folder: Path, open_folder: Open) -> None:
    dataset = open_folder(folder)
    utterance = dataset[3]
    assert len(dataset) == len(dataset.seconds) == len(dataset.texts) == len(dataset.ids) == 24
    assert utterance.id == dataset.ids[3] == "clips/003.wav"
    assert utterance.samples.dtype == np.float32
    assert utterance.seconds == dataset.seconds[3] == len(utterance.samples) / 16_000
    assert utterance.text == "light don't"
    assert dataset.problems == []
    assert len(open_folder(folder, limit=5)) == 5


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_kinds_and_places(tmp_path: Path, folder: Path, open_folder: Open, name: str) -> None:
    write_folder(tmp_path / "flat", 24, name)
    write_folder(tmp_path / "split/test", 24, name)
    reference = open_folder(folder)
    assert same_speech(open_folder(tmp_path / "flat"), reference)
    assert same_speech(open_folder(tmp_path / "split", split="test"), reference)
    assert same_speech(open_folder(tmp_path / "flat" / name), reference)


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "saved", "saved splits"])
def test_tables(tmp_path: Path, folder: Path, open_folder: Open, kind: str, as_bytes: bool) -> None:
    rows = table(folder, as_bytes=as_bytes)
    place = tmp_path / "table"
    if kind == "parquet":
        place = tmp_path / "train-00000-of-00001.parquet"
        rows.to_parquet(place)
    elif kind == "arrow":
        rows.save_to_disk(tmp_path / "saved")
        place = next((tmp_path / "saved").glob("*.arrow"))
    elif kind == "saved":
        rows.save_to_disk(place)
    else:
        datasets.DatasetDict({"train": rows}).save_to_disk(place)
    assert same_speech(open_folder(place, **COLUMNS), open_folder(folder))


def test_folder_of_parquet_files_by_split(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    table(folder, 4).to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    table(folder, 3).to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    assert len(open_folder(tmp_path, split="train", **COLUMNS)) == 4
    assert len(open_folder(tmp_path, split="test", **COLUMNS)) == 3


def test_strings_are_paths_beside_the_table(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "clips/a.wav", tone(0.5))
    datasets.Dataset.from_dict({"audio": ["clips/a.wav"], "transcription": ["stop"]}).to_parquet(tmp_path / "t.parquet")
    assert open_folder(tmp_path / "t.parquet").ids == ["clips/a.wav"]


def test_rows_without_audio_are_problems(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "a.wav", tone(0.5))
    cells = [{"bytes": (tmp_path / "a.wav").read_bytes(), "path": None}, {"bytes": None, "path": None}]
    made = datasets.Dataset.from_dict({"audio": cells, "transcription": ["stop", "stop"]})
    made.to_parquet(tmp_path / "t.parquet")
    dataset = open_folder(tmp_path / "t.parquet", max_bad_fraction=0.5)
    assert dataset.ids == ["row 0"]
    assert dataset.problems == [Problem("row 1", "no audio")]


def test_audio_without_metadata_serves_without_labels(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "b/one.flac", tone(0.5))
    write_audio(tmp_path / "a/two.opus", tone(0.5))
    assert open_folder(tmp_path, labels=False).ids == ["a/two.opus", "b/one.flac"]
    with pytest.raises(ValueError, match=r"holds metadata.csv or metadata.jsonl; write one with the columns file_name"):
        open_folder(tmp_path)


def test_files_not_listed_are_mentioned(tmp_path: Path, open_folder: Open, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, 3)
    write_audio(tmp_path / "clips/extra.wav", tone(0.5))
    with caplog.at_level(logging.WARNING):
        open_folder(tmp_path)
    assert "1 audio files are not listed in metadata.csv and not used, such as clips/extra.wav" in caplog.text


KINDS = ("folder", "metadata file", "bare folder", "parquet", "arrow", "saved")


def unsplit(kind: str, place: Path, folder: Path) -> Path:
    """Writes or finds a source of three entries without splits."""
    if "folder" in kind or kind == "metadata file":
        write_folder(place, 3)
    if kind == "bare folder":
        (place / "metadata.csv").unlink()
    if kind == "metadata file":
        return place / "metadata.csv"
    if kind == "parquet":
        table(folder, 3).to_parquet(place / "train.parquet")
        return place / "train.parquet"
    if kind in ("arrow", "saved"):
        table(folder, 3).save_to_disk(place)
    return next(place.glob("*.arrow")) if kind == "arrow" else place


def options_of(kind: str) -> dict[str, Any]:
    return COLUMNS if kind in ("parquet", "arrow", "saved") else {"labels": kind != "bare folder"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_without_splits_says_so(
    tmp_path: Path, folder: Path, open_folder: Open, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    place = unsplit(kind, tmp_path, folder)
    with caplog.at_level(logging.WARNING):
        dev = open_folder(place, split="dev", **options_of(kind))
    assert len(dev) == 3
    assert dev.whole
    assert f"{place} has no split 'dev': the whole of it is read" in caplog.text
    train = open_folder(place, **options_of(kind))
    with pytest.raises(
        ValueError, match=r"not divided into splits; name another source with dev.source, or set dev_split to null"
    ):
        require_split(train, dev)


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_a_stream_without_splits_says_so(
    tmp_path: Path, folder: Path, open_folder: Open, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    place = unsplit(kind, tmp_path, folder)
    with caplog.at_level(logging.WARNING):
        train = open_folder(place, streaming=True, **COLUMNS)
    assert train.whole
    assert f"{place} has no split 'train': the whole of it is read" in caplog.text
    with pytest.raises(ValueError, match="not divided into splits"):
        require_split(train, open_folder(place, split="dev", **COLUMNS))


def test_splits_are_told_apart(
    tmp_path: Path, folder: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "dev"):
        write_folder(tmp_path / "folder" / split, 3)
        table(folder, 3).to_parquet(tmp_path / f"tables/{split}.parquet")
    datasets.DatasetDict({split: table(folder, 3) for split in ("train", "dev")}).save_to_disk(tmp_path / "saved")
    with caplog.at_level(logging.WARNING):
        for name, options in (("folder", {}), ("tables", COLUMNS), ("saved", COLUMNS)):
            train, dev = (open_folder(tmp_path / name, split=split, **options) for split in ("train", "dev"))
            assert not train.whole
            assert not dev.whole
            require_split(train, dev)
    assert "the whole of it is read" not in caplog.text


def test_two_sources_without_splits_are_two_sets(tmp_path: Path, open_folder: Open) -> None:
    write_folder(tmp_path, 3)
    (tmp_path / "metadata.csv").rename(tmp_path / "train.csv")
    (tmp_path / "dev.csv").write_text((tmp_path / "train.csv").read_text())
    train, dev = (open_folder(tmp_path / name) for name in ("train.csv", "dev.csv"))
    assert train.whole
    assert dev.whole
    require_split(train, dev)  # raises nothing: the files differ
    with pytest.raises(ValueError, match=r"train.csv, which is not divided into splits"):
        require_split(train, open_folder(tmp_path / "train.csv"))


def test_a_dev_set_that_contains_the_training_set_is_refused(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    for split in ("train", "test"):
        table(folder, 3).to_parquet(tmp_path / f"{split}.parquet")
    train, dev = open_folder(tmp_path, **COLUMNS), open_folder(tmp_path / "train.parquet", split="dev", **COLUMNS)
    assert (train.whole, dev.whole) == (False, True)
    with pytest.raises(ValueError, match=r"both read .*train.parquet, which is not divided into splits"):
        require_split(train, dev)


def test_errors_name_what_is_there(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    write_metadata(tmp_path / "columns", [{"file_name": "a.wav", "text": "stop"}])
    write_metadata(tmp_path / "names", [{"path": "a.wav", "transcription": "stop"}])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/metadata.jsonl").write_text('{"file_name": ')
    cases: list[tuple[Path | str, dict[str, Any], str]] = [
        (folder, {"split": "dev"}, f"{folder}: no split 'dev'; it has train. Set split to one of them."),
        (tmp_path / "nowhere", {}, f"{tmp_path / 'nowhere'}: no such folder or file"),
        (
            tmp_path / "columns",
            {},
            f"{tmp_path}/columns/metadata.csv: no column 'transcription'; it has file_name, text; "
            "set text_column to one of them",
        ),
        (
            tmp_path / "names",
            {},
            f"{tmp_path}/names/metadata.csv: no column 'file_name'; it has path, transcription; "
            "call the column file_name that holds what is wanted",
        ),
        (folder, {"streaming": True}, f"{folder}: only tables, tars and the Hub can be streamed; set streaming: false"),
    ]
    for source, options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            open_folder(source, **options)
    with pytest.raises(ValueError, match=r"broken/metadata.jsonl: line 1 cannot be read as JSON"):
        open_folder(tmp_path / "broken")
    with pytest.raises(ValueError, match=r"somebody/speech: no such folder or file, and no data set of that name"):
        open_folder("somebody/speech")


def test_table_columns_are_named_in_errors(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    table(folder, 2).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"no column 'audio'; it has sound, words; set audio_column to one of them"):
        open_folder(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"no column 'transcription'; it has sound, words; set text_column"):
        open_folder(tmp_path / "t.parquet", audio_column="sound")


def test_two_metadata_files_are_refused(tmp_path: Path, open_folder: Open) -> None:
    write_folder(tmp_path, 3)
    write_folder(tmp_path, 3, "metadata.jsonl")
    with pytest.raises(ValueError, match=r"holds both metadata.csv and metadata.jsonl; remove one"):
        open_folder(tmp_path)


@pytest.fixture
def parquet(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "speech.parquet"
    table(folder).to_parquet(path)
    return path


def stream_ids(loader: SpeechLoader, epoch: int, start: int = 0) -> list[list[str]]:
    return [batch.ids for batch in loader.epoch(epoch, start)]


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_streaming_gives_every_utterance_once(
    tmp_path: Path, folder: Path, open_folder: Open, parakeet: Any, kind: str
) -> None:
    place = tmp_path / ("t.parquet" if kind == "parquet" else "saved")
    getattr(table(folder), "to_parquet" if kind == "parquet" else "save_to_disk")(place)
    stream = open_folder(place, streaming=True, **COLUMNS)
    loader = SpeechLoader(stream, parakeet, BatchConfig(seconds=4, workers=0, buffer_utterances=10))
    ids = stream_ids(loader, 0)
    expected = {str(folder / "train" / name) for name in open_folder(folder).ids}
    assert {Path(name).name for batch in ids for name in batch} == {Path(name).name for name in expected}
    assert sum(map(len, ids)) == 24
    assert stream.streaming
    with pytest.raises(TypeError, match="a stream has no length"):
        loader.batches_per_epoch(0)
    with pytest.raises(ValueError, match="a stream has no entry 0"):
        stream[0]


def test_streaming_is_reproducible_with_ranks_workers_and_resumption(
    parquet: Path, open_folder: Open, parakeet: Any
) -> None:
    stream = open_folder(parquet, streaming=True, **COLUMNS)

    def loader(workers: int = 0, rank: int = 0, world_size: int = 1) -> SpeechLoader:
        batching = BatchConfig(seconds=3, workers=workers, buffer_utterances=10)
        return SpeechLoader(stream, parakeet, batching, seed=5, rank=rank, world_size=world_size)

    everything = stream_ids(loader(), 1)
    assert stream_ids(loader(workers=1), 1) == everything
    assert stream_ids(loader(), 1, start=3) == everything[3:]
    assert stream_ids(loader(), 2) != everything
    ranks = [stream_ids(loader(rank=rank, world_size=2), 1) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    seen = [name for rank in ranks for batch in rank for name in batch]
    assert len(seen) == len(set(seen)) == 24


def test_streams_report_problems(tmp_path: Path, folder: Path, open_folder: Open, parakeet: Any) -> None:
    rows = table(folder)
    words = ["" if number == 4 else text for number, text in enumerate(rows["words"])]
    rows.remove_columns("words").add_column("words", words).to_parquet(tmp_path / "t.parquet")
    stream = open_folder(tmp_path / "t.parquet", streaming=True, max_bad_fraction=0.1, **COLUMNS)
    loader = SpeechLoader(stream, parakeet, BatchConfig(seconds=4, workers=1))
    assert sum(len(batch.ids) for batch in loader.epoch(0)) == 23
    assert [problem.reason for problem in stream.problems] == ["no transcript"]
    strict = open_folder(tmp_path / "t.parquet", streaming=True, **COLUMNS)
    with pytest.raises(BadDataError, match=r"1 of 24 entries \(4.2%\) cannot be used"):
        list(SpeechLoader(strict, parakeet, BatchConfig(seconds=4, workers=0)).epoch(0))


def test_a_stream_numbers_repeated_paths_as_a_list_does(
    tmp_path: Path, folder: Path, open_folder: Open, parakeet: Any
) -> None:
    rows = table(folder, 2)
    datasets.concatenate_datasets([rows, rows, rows]).to_parquet(tmp_path / "t.parquet")
    listed, stream = (open_folder(tmp_path / "t.parquet", streaming=flag, **COLUMNS) for flag in (False, True))
    first = Path(listed.ids[0]).name
    assert [Path(name).name for name in listed.ids[::2]] == [first, f"{first}#2", f"{first}#3"]
    for shuffle in (False, True):
        loader = SpeechLoader(stream, parakeet, BatchConfig(seconds=4, workers=0), shuffle=shuffle)
        for epoch in (0, 1):
            assert sorted(name for ids in stream_ids(loader, epoch) for name in ids) == sorted(listed.ids)


def test_numbered_names_do_not_collide() -> None:
    assert unique(["a", "a", "a#2", "b"]) == ["a", "a#2", "a#2#2", "b"]


def test_streams_log_each_problem_once_and_before_the_batches_after_it(
    tmp_path: Path, folder: Path, open_folder: Open, parakeet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = table(folder)
    words = ["" if number in (4, 20) else text for number, text in enumerate(rows["words"])]
    rows.remove_columns("words").add_column("words", words).to_parquet(tmp_path / "t.parquet")
    stream = open_folder(tmp_path / "t.parquet", streaming=True, max_bad_fraction=0.1, **COLUMNS)
    batching = BatchConfig(seconds=4, workers=0, buffer_utterances=10)
    loader = SpeechLoader(stream, parakeet, batching, shuffle=False)

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if ".wav: no transcript" in record.getMessage()]

    with caplog.at_level(logging.WARNING, logger="compress.data.stream"):
        epoch = loader.epoch(0)
        next(epoch)
        assert len(told()) == 1
        assert told()[0].endswith("004.wav: no transcript")
        list(epoch)
        list(loader.epoch(1))
    lines = [record.getMessage() for record in caplog.records if record.name == "compress.data.stream"]
    assert [line.rsplit("/")[-1] for line in lines] == ["004.wav: no transcript", "020.wav: no transcript"]
    assert all(": skipped " in line for line in lines)


def test_a_stream_of_nothing_but_bad_rows_is_stopped_early(tmp_path: Path, open_folder: Open, parakeet: Any) -> None:
    cells = [{"bytes": None, "path": None}] * 1000
    datasets.Dataset.from_dict({"audio": cells, "transcription": ["stop"] * 1000}).to_parquet(tmp_path / "t.parquet")
    stream = open_folder(tmp_path / "t.parquet", streaming=True)
    with pytest.raises(BadDataError, match=r"200 of 200 entries \(100.0%\) cannot be used"):
        list(SpeechLoader(stream, parakeet, BatchConfig(workers=0)).epoch(0))


def test_jsonl_values_that_are_no_text_are_missing(tmp_path: Path, open_folder: Open) -> None:
    write_folder(tmp_path, 2)
    (tmp_path / "metadata.csv").unlink()
    rows = [
        {"file_name": "clips/000.wav", "transcription": None},
        {"file_name": "clips/001.wav", "transcription": "stop"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    dataset = open_folder(tmp_path, max_bad_fraction=0.5)
    assert dataset.problems == [Problem("clips/000.wav", "no transcript")]
