"""What a training run makes of its two data sets: told apart, and every unusable entry on file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from compress.data import BadDataError, SpeechConfig
from compress.training import run
from compress.training.run import RunConfig, open_data
from tests.helpers import tiny
from tests.helpers.samples import write_folder, write_metadata


def with_one_missing(folder: Path, missing: str) -> None:
    rows = write_folder(folder, 4)
    write_metadata(folder, [*rows, {"file_name": missing, "transcription": "stop", "speaker": "tone"}])


def config_of(tmp_path: Path, cache: str, max_bad_fraction: float) -> RunConfig:
    data = SpeechConfig(str(tmp_path / "speech"), cache_dir=cache, max_bad_fraction=max_bad_fraction)
    return RunConfig(output=str(tmp_path / "run"), data=data)


@pytest.fixture
def skipped(tmp_path: Path) -> Path:
    return tmp_path / "run/skipped.jsonl"


@pytest.mark.parametrize("max_bad_fraction", [0.5, 0.0])
def test_unusable_entries_are_on_file_whether_skipped_or_fatal(
    tmp_path: Path, cache: str, parakeet: Any, skipped: Path, max_bad_fraction: float
) -> None:
    with_one_missing(tmp_path / "speech/train", "first.wav")
    with_one_missing(tmp_path / "speech/dev", "second.wav")
    config = config_of(tmp_path, cache, max_bad_fraction)
    if max_bad_fraction:
        open_data(config, parakeet, Accelerator(cpu=True))
    else:
        with pytest.raises(BadDataError):
            open_data(config, parakeet, Accelerator(cpu=True))
    names = [json.loads(line) for line in skipped.read_text().splitlines()]
    expected = ["first.wav", "second.wav"] if max_bad_fraction else ["first.wav"]
    assert names == [{"file": name, "reason": "file not found"} for name in expected]


def test_without_problems_there_is_no_file(tmp_path: Path, cache: str, parakeet: Any, skipped: Path) -> None:
    for split in ("train", "dev"):
        write_folder(tmp_path / "speech" / split, 4)
    train, dev = open_data(config_of(tmp_path, cache, 0.0), parakeet, Accelerator(cpu=True))
    assert len(train) == 4
    assert dev is not None
    assert not skipped.exists()


def test_training_and_dev_set_are_not_the_same_files(tmp_path: Path, cache: str, parakeet: Any) -> None:
    write_folder(tmp_path / "speech", 4)
    with pytest.raises(ValueError, match=r"metadata.csv, which is not divided into splits; name another source"):
        open_data(config_of(tmp_path, cache, 0.0), parakeet, Accelerator(cpu=True))


def test_a_model_that_padding_disturbs_writes_the_dev_set_one_by_one(
    tmp_path: Path, cache: str, parakeet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "dev"):
        write_folder(tmp_path / "speech" / split, 4)
    _, dev = open_data(config_of(tmp_path, cache, 0.0), parakeet, Accelerator(cpu=True))
    assert dev is not None
    sizes: list[list[int]] = []

    def read(model: Any, loader: Any, *_: Any, **__: Any) -> tuple[list[str], ...]:
        batches = list(loader.epoch(0))
        sizes.append([len(batch.ids) for batch in batches])
        return [name for batch in batches for name in batch.ids], ["stop"] * 4, ["stop"] * 4

    monkeypatch.setattr(run, "transcribe", read)
    for model in (tiny.wav2vec2_conformer("relative"), tiny.parakeet()):
        assert dev.error_rates(model).wer == 0.0
    assert sizes == [[1] * 4, [4]]


def test_a_dev_set_smaller_than_the_processes_is_refused_by_its_name(
    tmp_path: Path, cache: str, parakeet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "speech/train", 4)
    write_folder(tmp_path / "speech/dev", 2)
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(ValueError, match=r"^dev: .*speech/dev has 2 utterances for 3 processes"):
        open_data(config_of(tmp_path, cache, 0.0), parakeet, accelerator)
