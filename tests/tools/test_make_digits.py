"""tools/make_digits.py, on short tones for recordings: what is drawn, what is written, and what is refused."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.launching import REPOSITORY
from tools import make_digits as tool

COUNTS = {"train": 12, "dev": 4, "test": 6}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve takes of each digit of each speaker, 8 kHz, no two alike; and of somebody else, who is left out."""
    folder = tmp_path_factory.mktemp("checkout") / "recordings"
    folder.mkdir()
    for who, speaker in enumerate([*tool.SPEAKERS, "theo"]):
        for digit in range(10):
            for take in range(12):
                tone = 0.1 * (1 + who) * np.sin(np.arange(400 + 10 * digit + take) * (0.1 + 0.05 * digit))
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", tone, 8000)
    return folder


def made(recordings: Path, out: Path, seed: int = 0) -> Path:
    tool.make_digits(tool.DigitsConfig(recordings=str(recordings), out=str(out), seed=seed, **COUNTS))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def drawn(recordings: Path, split: str, count: int = 300) -> list[tool.Utterance]:
    random = np.random.default_rng(0)
    takes = tool.takes_of(tool.find_recordings(recordings), split)
    return [tool.draw(takes, random) for _ in range(count)]


def test_the_corpus_is_the_same_every_time(recordings: Path, tmp_path: Path) -> None:
    first, again = contents(made(recordings, tmp_path / "first")), contents(made(recordings, tmp_path / "again"))
    assert first == again
    assert first != contents(made(recordings, tmp_path / "other", seed=1))


def test_every_split_has_its_utterances_and_says_what_they_are(recordings: Path, tmp_path: Path) -> None:
    out = made(recordings, tmp_path / "out")
    for split, count in COUNTS.items():
        assert len(rows(out / split)) == count
        for row in rows(out / split):
            info = soundfile.info(out / split / row["file_name"])
            assert (info.samplerate, info.channels) == (16000, 1)
            assert float(row["seconds"]) == pytest.approx(info.duration, abs=1e-3)
            assert row["file_name"].startswith(f"{row['speaker']}/{row['speaker']}-")
            assert 1 <= len(row["transcription"].split()) <= 7
            assert set(row["transcription"].split()) <= set(tool.WORDS)
    assert "CC BY-SA 4.0" in (out / "README.md").read_text()


def test_no_take_is_in_two_splits(recordings: Path) -> None:
    used = {
        split: {digit.recording for utterance in drawn(recordings, split) for digit in utterance.digits}
        for split in COUNTS
    }
    assert not used["train"] & used["dev"]
    assert not (used["train"] | used["dev"]) & used["test"]
    assert {path.stem.split("_")[2] for path in used["test"]} == set("01234")


def test_what_is_drawn_fills_its_range(recordings: Path) -> None:
    utterances = drawn(recordings, "train")
    digits = [digit for utterance in utterances for digit in utterance.digits]
    ranges = {
        tool.LEAD_IN_SECONDS: [utterance.lead_in_seconds for utterance in utterances],
        tool.NOISE_DB: [utterance.noise_db for utterance in utterances],
        tool.GAP_SECONDS: [digit.gap_seconds for digit in digits],
        tool.SPEED: [digit.speed for digit in digits],
        tool.GAIN: [digit.gain for digit in digits],
    }
    for (low, high), values in ranges.items():
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high >= max(values) > high - 0.1 * (high - low)
    assert {len(utterance.digits) for utterance in utterances} == set(range(1, 8))
    assert {utterance.speaker for utterance in utterances} == set(tool.SPEAKERS)
    for utterance in utterances:
        assert {digit.recording.stem.split("_")[1] for digit in utterance.digits} == {utterance.speaker}
    assert all(tool.WORDS[int(digit.recording.stem[0])] == digit.word for digit in digits)


def test_speed_gain_gaps_and_noise_are_heard(recordings: Path) -> None:
    path = recordings / "3_lucas_0.wav"
    quiet, random = 200.0, np.random.default_rng(0)
    slow = tool.Utterance("lucas", (tool.Digit("three", path, 0.95, 1.2, 0.1),), 0.05, quiet)
    fast = tool.Utterance("lucas", (tool.Digit("three", path, 1.05, 0.6, 0.0),), 0.05, quiet)
    assert len(tool.spoken(slow, random)) == pytest.approx(16000 * (430 / 8000 / 0.95 + 0.15), abs=2)
    assert len(tool.spoken(fast, random)) == pytest.approx(16000 * (430 / 8000 / 1.05 + 0.05), abs=2)
    assert np.abs(tool.spoken(slow, random)).max() == pytest.approx(0.6, rel=0.05)
    assert np.abs(tool.spoken(fast, random)).max() == pytest.approx(0.3, rel=0.05)
    lead_in = slice(0, round(0.05 * 16000))
    assert np.abs(tool.spoken(slow, random)[lead_in]).max() < 1e-6
    noisy = tool.spoken(tool.Utterance("lucas", slow.digits, 0.05, 10.0), random)
    power = np.mean(tool.spoken(slow, random) ** 2)
    assert np.mean(noisy[lead_in] ** 2) == pytest.approx(power / 10, rel=0.2)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "tools/make_digits.py", str(tmp_path / "empty"), str(tmp_path / "out")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{tmp_path / 'empty'} holds no recordings of george" in done.stderr
    assert "free-spoken-digit-dataset" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_digit_without_takes_and_a_folder_that_exists_are_refused(recordings: Path, tmp_path: Path) -> None:
    most = {key: path for key, path in tool.find_recordings(recordings).items() if key != ("lucas", 4, 7)}
    assert tool.takes_of(most, "dev")["lucas"][4]
    few = {key: path for key, path in most.items() if not (key[0] == "lucas" and key[1] == 4 and key[2] >= 5)}
    with pytest.raises(ValueError, match="no take of lucas's 'four' from 5 on for dev"):
        tool.takes_of(few, "dev")
    with pytest.raises(ValueError, match="exists"):
        made(recordings, tmp_path)
