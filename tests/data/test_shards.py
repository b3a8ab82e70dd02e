"""Shards: an epoch goes on exactly where it stopped, whatever lies before, with equal steps on every rank."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pytest

from compress.data import (
    BadDataError,
    Batch,
    BatchConfig,
    Problem,
    SpeechDataset,
    SpeechLoader,
    SpeechStream,
    of_first_buffer,
    stream,
)
from compress.data.audio import decode
from compress.data.formats.entries import Region
from compress.data.formats.tar_streams import TarShard
from compress.data.stream import StreamReport
from compress.data.streams import ParquetShard, TableShard
from compress.evaluation.measured_skipping import speech_batches
from compress.evaluation.speed import SpeedConfig
from compress.training.loop.position import Position
from tests.helpers.formats import audio_bytes, write_tar

Open = Callable[..., SpeechDataset]
SIZES = (14, 14, 14, 2)
"""Utterances of three large shards and a small one."""

pytestmark = pytest.mark.usefixtures("without_features")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same speech as tars, and as parquet files with groups of five rows."""
    place, number = tmp_path_factory.mktemp("shards"), 0
    for shard, size in enumerate(SIZES):
        names = [f"u{number + offset:02d}" for offset in range(size)]
        audio = {name: audio_bytes(0.2 + (int(name[1:]) * 7 % 44) / 100) for name in names}
        texts = {f"{name}.txt": b"stop" for name in names}
        write_tar(place / f"tars/train-{shard}.tar", {f"{name}.wav": audio[name] for name in names} | texts)
        packed = gzip.compress((place / f"tars/train-{shard}.tar").read_bytes(), 1)
        (place / "packed").mkdir(exist_ok=True)
        (place / f"packed/train-{shard}.tar.gz").write_bytes(packed)
        cells = [{"bytes": audio[name], "path": f"{name}.wav"} for name in names]
        rows = datasets.Dataset.from_dict({"audio": cells, "transcription": ["stop"] * size})
        rows.to_parquet(place / f"parquet/train-{shard}.parquet", batch_size=5)
        number += size
    datasets.load_dataset("parquet", data_files=str(place / "parquet/*.parquet"), split="train",
                          cache_dir=str(place / "cache")).save_to_disk(place / "saved")  # fmt: skip
    return place


Loaders = Callable[..., SpeechLoader]


@pytest.fixture(params=["tars", "packed", "parquet", "saved"])
def loader_of(request: pytest.FixtureRequest, shards: Path, open_folder: Open, parakeet: Any) -> Loaders:
    """Makes loaders of the data set: of tars by their index, of tables as a stream."""
    dataset = open_folder(shards / request.param, streaming=request.param != "tars", cache_max_gib=0)

    def made(workers: int = 0, **options: Any) -> SpeechLoader:
        batching = BatchConfig(seconds=1.5, workers=workers, buffer_utterances=6)
        return SpeechLoader(dataset, parakeet, batching, **{"seed": 7, **options})

    return made


def names(batch: Batch) -> list[str]:
    """Utterances of a batch, whatever its file is called."""
    return [Path(name).stem for name in batch.ids]


def test_case_25_killed_and_resumed_twice_with_other_workers(loader_of: Loaders) -> None:
    everything = [names(batch) for epoch in (0, 1) for batch in loader_of().epoch(epoch)]
    assert len(everything) > 12
    got: list[list[str]] = []
    state: dict[str, Any] = Position().state_dict()
    for workers, steps in ((0, 4), (1, 5), (0, len(everything) - 9)):
        position = Position()
        position.load_state_dict(json.loads(json.dumps(state)))
        with position.reading(loader_of(workers)) as batches:
            got += [names(next(batches)) for _ in range(steps)]
        state = position.state_dict()
    assert got == everything


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collects what is read: members of tars, rows of tables, rows of groups in parquet files."""
    read: list[object] = []
    read_region = Region.read
    whole: dict[Any, Any] = {shard: shard.rows_from for shard in (ParquetShard, TableShard, TarShard)}

    def region(self: Region) -> bytes:
        read.append(self)
        return read_region(self)

    def rows_from(self: Any, start: int) -> Iterator[dict[str, Any]]:
        for row in whole[type(self)](self, start):
            read.append(row)
            yield row

    monkeypatch.setattr(Region, "read", region)
    for shard in whole:
        monkeypatch.setattr(shard, "rows_from", rows_from)
    return read


def test_case_25_the_last_batch_costs_no_more_than_the_first(
    loader_of: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list(loader_of().epoch(0))
    read = counted(monkeypatch)
    last = list(loader_of().epoch(0, len(batches) - 1, **({"place": batches[-2].place} if batches[-2].place else {})))
    assert [names(batch) for batch in last] == [names(batches[-1])]
    assert len(read) <= 2 * 6 + 6 < sum(SIZES) / 2


def test_case_25_going_on_decodes_what_comes_next_and_no_more(
    loader_of: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, heard = list(loader_of().epoch(0)), list[object]()
    monkeypatch.setattr(stream, "decode", lambda *given: heard.append(given) or decode(*given))
    within_a_buffer = 0
    for number, (before, expected) in enumerate(pairwise(batches), start=1):
        heard.clear()
        batch = next(loader_of().epoch(0, number, before.place))
        assert names(batch) == names(expected)
        if before.place and expected.place and before.place["batches"] == expected.place["batches"]:
            assert len(heard) == len(batch.ids)
            within_a_buffer += 1
    if last := batches[-1].place:
        assert last["seen"] + len(last["lengths"]) == sum(SIZES)
        assert within_a_buffer > len(batches) / 4


@pytest.mark.parametrize("world_size", [2, 3])
def test_case_27_unequal_shards(loader_of: Loaders, world_size: int) -> None:
    ranks = [list(loader_of(rank=rank, world_size=world_size).epoch(1)) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    assert sorted(name for batches in ranks for batch in batches for name in names(batch)) == [
        f"u{number:02d}" for number in range(sum(SIZES))
    ]


@pytest.mark.parametrize("world_size", [2, 3])
def test_unshuffled_streams_keep_every_utterance_and_single_ones_single(shards: Path, open_folder: Open, parakeet: Any,
                                                                        world_size: int) -> None:  # fmt: skip
    stream = open_folder(shards / "parquet", streaming=True, cache_max_gib=0)
    batching = BatchConfig(workers=0, max_utterances=1, buffer_utterances=1)
    ranks = [
        [names(batch) for batch in SpeechLoader(stream, parakeet, batching, shuffle=False, rank=rank,
                                                world_size=world_size).epoch(0)]
        for rank in range(world_size)
    ]  # fmt: skip
    read = [name for rank in ranks for batch in rank for name in batch]
    assert len(read) == len(set(read)) == sum(SIZES)
    assert {len(batch) for rank in ranks for batch in rank} == {1}


def test_a_buffer_has_an_utterance_for_each_process(shards: Path, open_folder: Open, parakeet: Any) -> None:
    stream = open_folder(shards / "parquet", streaming=True, cache_max_gib=0)
    batching = BatchConfig(workers=0, buffer_utterances=1)
    ranks = [list(SpeechLoader(stream, parakeet, batching, rank=rank, world_size=4).epoch(0)) for rank in range(4)]
    assert sum(len(batch.ids) for rank in ranks for batch in rank) >= sum(SIZES) - 3


def test_the_first_buffer_holds_the_first_utterances(shards: Path, open_folder: Open, parakeet: Any) -> None:
    stream = open_folder(shards / "parquet", streaming=True, cache_max_gib=0)
    batching = BatchConfig(seconds=1.5, workers=0, buffer_utterances=8)
    loader = SpeechLoader(stream, parakeet, batching, shuffle=False)
    heard = [name for batch in of_first_buffer(loader.epoch(0)) for name in names(batch)]
    assert sorted(heard) == [f"u{number:02d}" for number in range(8)]


def test_speed_on_a_stream_is_that_on_its_first_utterances(shards: Path, open_folder: Open, parakeet: Any) -> None:
    stream = open_folder(shards / "parquet", streaming=True, cache_max_gib=0)
    timed = speech_batches(stream, parakeet, SpeedConfig(batch=2), count=3)
    assert [len(batch.ids) for batch in timed] == [2, 2, 2]
    assert sorted(name for batch in timed for name in names(batch)) == [f"u{number:02d}" for number in range(6)]


@pytest.mark.parametrize(("bad", "stops"), [(15, True), (9, False)])
def test_a_resumed_stream_is_judged_by_all_that_it_has_read(
    shards: Path, open_folder: Open, bad: int, stops: bool
) -> None:
    stream = open_folder(shards / "parquet", streaming=True, cache_max_gib=0)
    assert isinstance(stream, SpeechStream)
    since = StreamReport(problems=[Problem("a.wav", "silent")], seen=1000, bad=bad, ended=True)
    with pytest.raises(BadDataError, match=r"15 of 1000 entries \(1.5%\)") if stops else nullcontext():
        since.record(stream)


def test_a_parquet_file_is_read_from_the_group_of_a_row(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    groups: list[int] = []
    read = pyarrow.parquet.ParquetFile.read_row_group

    def read_row_group(self: Any, group: int, **options: Any) -> Any:
        groups.append(group)
        return read(self, group, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", read_row_group)
    rows = ParquetShard(shards / "parquet/train-0.parquet", ("audio", "transcription")).rows_from(11)
    assert [row["audio"]["path"] for row in rows] == ["u11.wav", "u12.wav", "u13.wav"]
    assert groups == [2]
