"""Makes connected digits, utterances of several digits by one speaker, from the Free Spoken Digit Dataset.

    python tools/make_digits.py PATH_TO/recordings OUT

The recordings are those of a checkout of https://github.com/Jakobovski/free-spoken-digit-dataset: one digit each, named
DIGIT_SPEAKER_TAKE.wav. OUT gets train, dev and test, each with a metadata.csv and a folder of FLAC files (16 kHz) for
every speaker. Speakers are the same in all splits, recordings are not: takes 0 to 4 of each digit are for test, 5 to 9
for dev, the others for train. Of one seed and one set of recordings the corpus is always the same.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from compress.config import fail, parse
from compress.files.writing import replaced_folder

RATE = 16000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "yweweler")
RECORDING = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.(wav|flac)")
TAKES = {"train": range(10, 10**6), "dev": range(5, 10), "test": range(5)}
DIGITS = (1, 7)
LEAD_IN_SECONDS = (0.05, 0.2)
GAP_SECONDS = (0.0, 0.15)
SPEED = (19 / 20, 21 / 20)
GAIN = (0.6, 1.2)
NOISE_DB = (10.0, 35.0)
LEVEL = 0.5
"""The peak of every recording before its gain: speakers were recorded at different levels."""
ABOUT = """\
# Connected digits

Made by tools/make_digits.py from the Free Spoken Digit Dataset by Zohar Jackson and contributors
(https://github.com/Jakobovski/free-spoken-digit-dataset), seed {seed}: 1 to 7 digits of one speaker, joined with gaps,
gain, speed and noise varied. Recordings and this corpus are licensed under CC BY-SA 4.0.
"""
Samples = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """What is made of what.

    Attributes:
        recordings: Folder of the recordings, at any depth.
        out: Folder of the corpus, which must not exist.
        train: Utterances for training.
        dev: Utterances for choosing and calibrating.
        test: Utterances for reporting.
        seed: Of everything that is drawn.
    """

    recordings: str
    out: str
    train: int = 3000
    dev: int = 400
    test: int = 600
    seed: int = 0


class Digit(NamedTuple):
    """One digit of an utterance, and what is done to its recording."""

    word: str
    recording: Path
    speed: float
    gain: float
    gap_seconds: float


@dataclass(frozen=True)
class Utterance:
    """What one file says and how.

    Attributes:
        speaker: Who speaks.
        digits: What is said, a recording each.
        lead_in_seconds: Before the first digit.
        noise_db: How much louder speech is than noise.
    """

    speaker: str
    digits: tuple[Digit, ...]
    lead_in_seconds: float
    noise_db: float

    @property
    def transcription(self) -> str:
        """The words."""
        return " ".join(digit.word for digit in self.digits)


Takes = Mapping[str, Sequence[Sequence[Path]]]
"""Of every speaker, the recordings of each digit."""


def make_digits(config: DigitsConfig) -> None:
    """Writes the corpus.

    Raises:
        ValueError: if the folder of the corpus exists, or the recordings are not what they should be.
    """
    if Path(config.out).exists():
        raise ValueError(f"{config.out} exists: give a new folder, or remove it.")
    recordings = find_recordings(Path(config.recordings))
    with replaced_folder(config.out) as folder:
        for number, split in enumerate(TAKES):
            random = np.random.default_rng([config.seed, number])
            takes = takes_of(recordings, split)
            utterances = [draw(takes, random) for _ in range(getattr(config, split))]
            write_split(folder / split, utterances, random)
        (folder / "README.md").write_text(ABOUT.format(seed=config.seed), encoding="utf-8")


def find_recordings(folder: Path) -> dict[tuple[str, int, int], Path]:
    """The recordings of the five speakers, by speaker, digit and take, in this order.

    Raises:
        ValueError: if there are none of a speaker.
    """
    recordings = {}
    for path in folder.rglob("*"):
        if match := RECORDING.fullmatch(path.name):
            recordings[match["speaker"], int(match["digit"]), int(match["take"])] = path
    if missing := [speaker for speaker in SPEAKERS if not any(key[0] == speaker for key in recordings)]:
        raise ValueError(
            f"{folder} holds no recordings of {', '.join(missing)} (files such as 7_{missing[0]}_12.wav). Give the "
            "folder `recordings` of a checkout of https://github.com/Jakobovski/free-spoken-digit-dataset."
        )
    return {key: recordings[key] for key in sorted(recordings) if key[0] in SPEAKERS}


def takes_of(recordings: Mapping[tuple[str, int, int], Path], split: str) -> Takes:
    """The recordings that a split is made of.

    Raises:
        ValueError: if there is none of a speaker and a digit.
    """
    takes: dict[str, list[list[Path]]] = defaultdict(lambda: [[] for _ in WORDS])
    for (speaker, digit, take), path in recordings.items():
        if take in TAKES[split]:
            takes[speaker][digit].append(path)
    for speaker in SPEAKERS:
        for digit, paths in enumerate(takes[speaker]):
            if not paths:
                first = TAKES[split].start
                raise ValueError(f"There is no take of {speaker}'s '{WORDS[digit]}' from {first} on for {split}.")
    return takes


def draw(takes: Takes, random: np.random.Generator) -> Utterance:
    """Draws an utterance."""
    speaker = str(random.choice(SPEAKERS))
    digits, count = [], int(random.integers(*DIGITS, endpoint=True))
    for digit in map(int, random.integers(len(WORDS), size=count)):
        recordings = takes[speaker][digit]
        recording = recordings[int(random.integers(len(recordings)))]
        varied = (float(random.uniform(*span)) for span in (SPEED, GAIN, GAP_SECONDS))
        digits.append(Digit(WORDS[digit], recording, *varied))
    lead_in, noise = (float(random.uniform(*span)) for span in (LEAD_IN_SECONDS, NOISE_DB))
    return Utterance(speaker, tuple(digits), lead_in, noise)


def write_split(folder: Path, utterances: Sequence[Utterance], random: np.random.Generator) -> None:
    """Writes the files of a split and their metadata.csv."""
    for speaker in SPEAKERS:
        (folder / speaker).mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file_name", "transcription", "speaker", "seconds"])
        for number, utterance in enumerate(utterances):
            samples = spoken(utterance, random)
            name = f"{utterance.speaker}/{utterance.speaker}-{number:05}.flac"
            soundfile.write(folder / name, samples, RATE, subtype="PCM_16")
            rows.writerow([name, utterance.transcription, utterance.speaker, f"{len(samples) / RATE:.3f}"])


def spoken(utterance: Utterance, random: np.random.Generator) -> Samples:
    """The sound of an utterance, noise included."""
    parts = [_silence(utterance.lead_in_seconds)]
    for digit in utterance.digits:
        parts += [digit.gain * recorded(digit.recording, digit.speed), _silence(digit.gap_seconds)]
    speech = np.concatenate(parts)
    ratio = 10 ** (utterance.noise_db / 20)
    noisy = speech + random.standard_normal(len(speech)) * np.sqrt(np.mean(speech**2)) / ratio
    samples: Samples = noisy / max(1.0, float(np.abs(noisy).max()))
    return samples


def recorded(path: Path, speed: float) -> Samples:
    """A recording at our rate and level, spoken so many times as fast."""
    samples, rate = soundfile.read(path, dtype="float64")
    samples = samples if samples.ndim == 1 else samples.mean(1)
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        raise ValueError(f"{path} is silent.")
    resampled: Samples = soxr.resample(LEVEL / peak * samples, rate * speed, RATE)
    return resampled


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE))


if __name__ == "__main__":
    PROGRAM = "python tools/make_digits.py"
    try:
        make_digits(parse(DigitsConfig, prog=PROGRAM, description=__doc__ or "", positional=("recordings", "out")))
    except (ValueError, OSError) as error:
        fail(PROGRAM, error)
