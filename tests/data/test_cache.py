"""Files are decoded once; later runs and epochs start at once, and a changed file is noticed."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.data import SpeechDataset, cache
from tests.helpers.formats import write_kaldi
from tests.helpers.samples import tone, write_audio, write_folder, write_metadata

Open = Callable[..., SpeechDataset]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collects what is decoded in this process."""
    calls: list[object] = []
    original = cache.listen

    def listen(payload: bytes | Path, limits: cache.AudioLimits) -> cache.Heard:
        calls.append(payload)
        return original(payload, limits)

    monkeypatch.setattr(cache, "listen", listen)
    return calls


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    write_folder(tmp_path / "tones", 6)
    return tmp_path / "tones"


def test_the_second_run_decodes_nothing(tones: Path, open_folder: Open, decoded: list[object]) -> None:
    first = open_folder(tones)
    assert len(decoded) == 6
    second = open_folder(tones)
    assert all(np.array_equal(first[index].samples, second[index].samples) for index in range(6))
    assert len(decoded) == 6


def test_a_changed_file_or_setting_is_noticed(tones: Path, open_folder: Open, decoded: list[object]) -> None:
    open_folder(tones)
    write_audio(tones / "clips/000.wav", tone(0.9))
    changed = open_folder(tones)
    assert len(decoded) == 12
    assert changed.seconds[0] == pytest.approx(0.9)
    path = tones / "clips/001.wav"
    os.utime(path, (1, 1))
    open_folder(tones)
    assert len(decoded) == 18
    open_folder(tones, max_seconds=10.0)
    assert len(decoded) == 24


def test_what_a_command_reads_is_noticed(tmp_path: Path, open_folder: Open) -> None:
    write_audio(tmp_path / "x.wav", tone(0.5))
    lines = f"a dd if={tmp_path / 'x.wav'} status=none |\nb head -c 99999 {tmp_path / 'x.wav'} |\n"
    write_kaldi(tmp_path / "data", wav_scp=lines, text="a stop\nb stop\n")
    assert open_folder(tmp_path / "data", allow_commands=True).seconds == [0.5, 0.5]
    write_audio(tmp_path / "x.wav", tone(0.9))
    assert open_folder(tmp_path / "data", allow_commands=True).seconds == [0.9, 0.9]


def test_stale_audio_is_removed(tones: Path, open_folder: Open, cache: str) -> None:
    open_folder(tones)
    write_audio(tones / "clips/000.wav", tone(0.9))
    open_folder(tones)
    assert len(list(Path(cache).rglob("*.i16"))) == len(list(Path(cache).rglob("*.json"))) == 1
    assert not list(Path(cache).rglob("*.partial"))


def test_audio_beyond_the_limit_is_decoded_when_needed(
    tones: Path, open_folder: Open, decoded: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    reference = open_folder(tones)
    expected = [reference[index].samples for index in range(6)]
    with caplog.at_level(logging.WARNING):
        limited = open_folder(tones, cache_max_gib=60_000 / (1 << 30))
    assert "entries beyond" in caplog.text
    assert "are decoded in every epoch; raise cache_max_gib to keep it" in caplog.text
    decoded.clear()
    assert all(np.array_equal(limited[index].samples, expected[index]) for index in range(6))
    assert 0 < len(decoded) < 6


def test_a_worker_process_gets_the_path_and_not_the_audio(
    tones: Path, open_folder: Open, decoded: list[object]
) -> None:
    dataset = open_folder(tones)
    decoded.clear()
    sent = pickle.dumps(dataset)
    assert len(sent) < 5_000 < 2 * sum(len(dataset[index].samples) for index in range(6))
    received = pickle.loads(sent)
    assert all(np.array_equal(received[index].samples, dataset[index].samples) for index in range(6))
    assert decoded == []


def test_a_worker_process_decodes_where_the_cache_is_gone(tones: Path, open_folder: Open, cache: str) -> None:
    dataset = open_folder(tones)
    sent = pickle.dumps(dataset)
    next(Path(cache).rglob("*.i16")).unlink()
    assert np.array_equal(pickle.loads(sent)[2].samples, dataset[2].samples)


def test_no_cache_writes_nothing(tones: Path, open_folder: Open, cache: str) -> None:
    dataset = open_folder(tones, cache_max_gib=0)
    assert len(dataset[0].samples)
    assert not Path(cache).exists()


def test_a_file_that_vanishes_later_is_named(tones: Path, open_folder: Open) -> None:
    dataset = open_folder(tones, cache_max_gib=0)
    (tones / "clips/002.wav").unlink()
    with pytest.raises(ValueError, match=r"clips/002.wav changed since the run began: file not found"):
        dataset[2]


def test_an_interrupted_pass_leaves_no_cache(
    tones: Path, open_folder: Open, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import compress.data.cache as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "_decode_chunk", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_folder(tones)
    assert not list(Path(cache).rglob("*.json"))
    assert len(open_folder(tones)) == 6


def test_many_files_are_decoded_by_a_pool(tmp_path: Path, open_folder: Open, decoded: list[object]) -> None:
    rows = write_folder(tmp_path / "many", 80)
    dataset = open_folder(tmp_path / "many")
    assert dataset.ids == [row["file_name"] for row in rows]
    assert decoded == []  # not in this process
    alone = open_folder(tmp_path / "many", cache_max_gib=0)
    decoded.clear()
    assert all(np.array_equal(dataset[index].samples, alone[index].samples) for index in (0, 41, 79))


def test_a_folder_that_cannot_be_written_is_named(tones: Path, tmp_path: Path, open_folder: Open) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .* set cache_dir, or cache_max_gib: 0"):
        open_folder(tones, cache_dir=str(tmp_path / "file"))


def test_the_default_place_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from compress.data import SpeechConfig

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root(SpeechConfig("x")) == tmp_path / "conformer-compress"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_root(SpeechConfig("x")) == tmp_path / ".cache/conformer-compress"


def test_equal_names_sizes_and_times_elsewhere_are_other_audio(
    tmp_path: Path, open_folder: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, hertz in (("one", 200.0), ("two", 800.0)):
        write_metadata(tmp_path / place / "data", [{"file_name": "x.wav", "transcription": "stop"}])
        audio = write_audio(tmp_path / place / "data/x.wav", tone(0.5, hertz=hertz))
        os.utime(audio, ns=(10**18, 10**18))
    heard = []
    for place in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / place)
        heard.append(open_folder("data")[0].samples.copy())
    assert np.array_equal(heard[0], heard[2])
    assert not np.array_equal(heard[0], heard[1])
