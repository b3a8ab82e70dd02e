"""Which files of a data set belong to a split, and which to a subset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from compress.data import BatchConfig, SpeechDataset, SpeechLoader, SpeechStream
from tests.helpers.samples import COLUMNS, table, tone, write_audio, write_folder

Open = Callable[..., SpeechDataset]


@pytest.mark.parametrize("streaming", [False, True])
def test_tables_of_other_splits_are_refused(tmp_path: Path, folder: Path, open_folder: Open, streaming: bool) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "train_other-0", "validation-00000-of-00001"):
        table(folder, 3).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"no split 'test'; it has train, train_other, validation. Set split to one"):
        open_folder(tmp_path, split="test", streaming=streaming, **COLUMNS)
    train = open_folder(tmp_path, split="train", streaming=streaming, **COLUMNS)
    assert (train.split, {file.name[:7] for file in train.origin.files}) == ("train", {"train-0"})
    assert len(train.origin.files) == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_may_be_called_like_patterns(tmp_path: Path, folder: Path, open_folder: Open, streaming: bool) -> None:
    table(folder, 3).to_parquet(tmp_path / "x [v2] {a,b}" / "test-0.parquet")
    dataset = open_folder(tmp_path / "x [v2] {a,b}", split="test", streaming=streaming, **COLUMNS)
    assert dataset.split == "test"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_relative_paths_begin_at_the_table_or_at_the_source(
    tmp_path: Path, open_folder: Open, parakeet: Any, streaming: bool, whole: bool
) -> None:
    write_audio(tmp_path / ("clips/a.wav" if whole else "data/clips/a.wav"), tone(0.5))
    for number, cell in enumerate(("clips/a.wav", {"bytes": None, "path": "clips/a.wav"})):
        typed = datasets.Dataset.from_dict({"audio": [cell], "transcription": ["stop"]})
        typed.to_parquet(tmp_path / "data" / f"test-{number}.parquet")
        dataset = open_folder(tmp_path, split="test", streaming=streaming, max_bad_fraction=1.0)
        loader = SpeechLoader(dataset, parakeet, BatchConfig(workers=0), shuffle=False)
        assert [batch.texts[0] for batch in loader.epoch(0)] == ["stop"]
        (tmp_path / "data" / f"test-{number}.parquet").unlink()


@pytest.mark.parametrize("names", [("part-00000", "part-00001"), ("speech",), ("0000", "0001")])
def test_tables_named_after_no_split_are_read_whole(
    tmp_path: Path, folder: Path, open_folder: Open, names: tuple[str, ...]
) -> None:
    for name in names:
        table(folder, 3).to_parquet(tmp_path / f"{name}.parquet")
    dataset = open_folder(tmp_path, split="test", **COLUMNS)
    assert (len(dataset), dataset.split) == (3 * len(names), None)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_pattern_of_tables_is_read_whole(tmp_path: Path, folder: Path, open_folder: Open, streaming: bool) -> None:
    for number, rows in enumerate((2, 3, 4)):
        table(folder, rows).to_parquet(tmp_path / f"s{number}.parquet")
    dataset = open_folder(f"{tmp_path}/s{{0..1}}.parquet", streaming=streaming, **COLUMNS)
    blocks = dataset.source.read(10, 1, shuffle=False, seed=0, epoch=0) if isinstance(dataset, SpeechStream) else []
    assert (sum(len(block.rows) for block in blocks) if streaming else len(dataset)) == 5
    assert dataset.split is None


def test_a_pattern_of_metadata_files_says_what_to_name(tmp_path: Path, open_folder: Open) -> None:
    for part in "ab":
        write_folder(tmp_path / part, 2)
    with pytest.raises(ValueError, match=r"a pattern of metadata files; name the folder of one, or several with data"):
        open_folder(f"{tmp_path}/*/metadata.csv")


def test_tables_beside_metadata_are_read_where_asked_for(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    write_folder(tmp_path, 2)
    table(folder, 3).to_parquet(tmp_path / "train.parquet")
    assert len(open_folder(tmp_path, format="table", **COLUMNS)) == 3


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_split_may_have_folders_in_folders(tmp_path: Path, folder: Path, open_folder: Open, split: str) -> None:
    table(folder, 3).to_parquet(tmp_path / "train/clean/part/a.parquet")
    table(folder, 4).to_parquet(tmp_path / "test/clean/part/a.parquet")
    if split == "train":
        assert len(open_folder(tmp_path, split=split, **COLUMNS)) == 3
    else:
        with pytest.raises(ValueError, match="no split 'dev'; it has test, train"):
            open_folder(tmp_path, split=split, **COLUMNS)


def test_a_subset_is_a_folder_or_refused(tmp_path: Path, folder: Path, open_folder: Open) -> None:
    table(folder, 3).to_parquet(tmp_path / "clean/test/0000.parquet")
    table(folder, 4).to_parquet(tmp_path / "noisy/test/0000.parquet")
    write_folder(tmp_path / "folders/clean", 2)
    assert len(open_folder(tmp_path, subset="noisy", split="test", **COLUMNS)) == 4
    assert len(open_folder(tmp_path / "folders", subset="clean")) == 2
    with pytest.raises(
        ValueError, match=r"no folder 'other' for the subset; it holds cache, clean, folders, noisy. Set subset"
    ):
        open_folder(tmp_path, subset="other", split="test", **COLUMNS)
