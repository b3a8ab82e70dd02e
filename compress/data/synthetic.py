"""The synthetic corpus: sentences from a grammar, spoken by espeak-ng in many voices, with background noise.

It is an audiofolder (`train/`, `dev/`, `test/`, each with `metadata.csv` and 16-bit FLAC files). Dev and test have
voices and sentences that train does not. It is made in chunks by a process pool: an interrupted run goes on with the
chunks that are missing, and the finished folder appears at once under its name.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from filelock import FileLock
from numpy.typing import NDArray

from compress.data.audio import resample, to_float, to_int16
from compress.data.grammar import GRAMMARS, SPLITS
from compress.data.pool import in_order, process_pool, progress_bar
from compress.data.settings import SyntheticConfig
from compress.files.reading import ReadError, read_json, read_object

logger = logging.getLogger(__name__)

CORPUS_VERSION = 2
DESCRIPTION_NAME = "corpus.json"
COLUMNS = ("file_name", "transcription", "speaker", "seconds")
DEFAULT_SAMPLING_RATE = 16_000
SECONDS_PER_HOUR = 3600.0
CHUNK_UTTERANCES = 25

ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland")
# Variants of espeak-ng with breath or echo noise are left out: they seed it with the time of day.
VARIANTS = {
    "train": (
        *("f1", "m1", "m2", "m3", "m4", "m6", "m7", "Alex", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene"),
        *("Hugo", "Jacky", "Lee", "Marco", "Mike", "Nguyen", "adam", "anika", "announcer", "aunty", "belinda"),
        *("benjamin", "boris", "david", "ed", "edward", "grandma", "gustave", "ian", "iven", "iven3", "john"),
        *("klatt", "klatt3", "marcelo", "max", "michel", "norbert", "pablo", "paul", "quincy", "rob", "shelby"),
        *("steph", "travis", "kaukovalta", "zac"),
    ),
    "dev": ("Michael", "antonio", "grandpa", "klatt4", "mike2", "steph3"),
    "test": (
        *("f4", "m5", "m8", "Henrique", "Mario", "edward2", "iven2", "klatt2", "linda", "miguel", "robert"),
        "steph2",
    ),
}
WORDS_PER_MINUTE = (140, 200)
PITCHES = (30, 75)
SILENCE_SECONDS = (0.1, 0.4)
PEAK_DBFS = (-15.0, -3.0)
NOISES = ("white", "pink")


@dataclass(frozen=True)
class Spoken:
    """One utterance before it is spoken: everything that was drawn for it.

    Attributes:
        file_name: where it is written, relative to its split.
        text: what is said.
        speaker: espeak-ng's voice and variant.
        words_per_minute: speaking rate.
        pitch: 0 to 100.
        pauses: silence before and after, in seconds.
        peak_dbfs: peak level.
        snr_db: speech level over noise level.
        noise: `white` or `pink`.
        noise_seed: of the noise's samples.
    """

    file_name: str
    text: str
    speaker: str
    words_per_minute: int
    pitch: int
    pauses: tuple[float, float]
    peak_dbfs: float
    snr_db: float
    noise: str
    noise_seed: int


def make_corpus(
    out_dir: str | Path,
    *,
    hours: float = 2.0,
    seed: int = 0,
    dev_utterances: int = 200,
    test_utterances: int = 400,
    sampling_rate: int = DEFAULT_SAMPLING_RATE,
    **options: Any,
) -> Path:
    """Makes the corpus in `out_dir`, or finds that it is there.

    Args:
        out_dir: the audiofolder to make.
        hours: hours of training speech.
        seed: everything random follows from it.
        dev_utterances: utterances in the dev split.
        test_utterances: utterances in the test split.
        sampling_rate: of the files, in Hz.
        **options: further fields of `SyntheticConfig`.

    Returns:
        `out_dir`.

    Raises:
        ValueError: if `out_dir` holds something else, or a corpus with other options.
    """
    config = SyntheticConfig(
        hours=hours, seed=seed, dev_utterances=dev_utterances, test_utterances=test_utterances, **options
    )
    folder = Path(out_dir).expanduser()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _is_made(folder, _description(config, sampling_rate)):
            _make(folder, config, sampling_rate)
    return folder


def ensure_corpus(cache: Path, config: SyntheticConfig, sampling_rate: int) -> Path:
    """Returns the folder of the corpus that `config` describes, which is made on first use under `cache`."""
    described = json.dumps(_description(config, sampling_rate), sort_keys=True)
    name = f"{config.grammar}-{hashlib.sha256(described.encode()).hexdigest()[:16]}"
    return make_corpus(cache / "synthetic" / name, sampling_rate=sampling_rate, **asdict(config))


def draw(config: SyntheticConfig, split: str, number: int) -> Spoken:
    """Draws what the `number`-th utterance of a split is; it follows from the seed alone."""
    random = np.random.default_rng([config.seed, SPLITS.index(split), number])
    variant = str(random.choice(VARIANTS[split]))
    return Spoken(
        file_name=f"{variant}/{number:06d}.flac",
        text=GRAMMARS[config.grammar].sentence_of(split, random),
        speaker=f"{random.choice(ACCENTS)}+{variant}",
        words_per_minute=int(random.integers(*WORDS_PER_MINUTE)),
        pitch=int(random.integers(*PITCHES)),
        pauses=(float(random.uniform(*SILENCE_SECONDS)), float(random.uniform(*SILENCE_SECONDS))),
        peak_dbfs=float(random.uniform(*PEAK_DBFS)),
        snr_db=float(random.uniform(config.min_snr_db, config.max_snr_db)),
        noise=str(random.choice(NOISES)),
        noise_seed=int(random.integers(1 << 32)),
    )


def render(spoken: Spoken, sampling_rate: int) -> NDArray[np.float32]:
    """Speaks an utterance: voice, pauses, level, noise; float32 `(samples,)`."""
    from compress.data.espeak import Voice

    voice = Voice()
    said = voice.speak(spoken.text, spoken.speaker, words_per_minute=spoken.words_per_minute, pitch=spoken.pitch)
    speech = resample(to_float(said), voice.sampling_rate, sampling_rate)
    speech = speech * np.float32(_gain(spoken.peak_dbfs) / np.abs(speech).max())
    noise_level = float(np.sqrt(np.mean(speech**2))) / _gain(spoken.snr_db)
    before, after = (round(seconds * sampling_rate) for seconds in spoken.pauses)
    padded = np.pad(speech, (before, after))
    random = np.random.default_rng(spoken.noise_seed)
    return np.asarray(padded + noise_level * make_noise(spoken.noise, len(padded), random), dtype=np.float32)


def make_noise(colour: str, length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Makes white or pink (power falling with frequency) noise of unit power, `(length,)`."""
    white = random.standard_normal(length)
    if colour == "white":
        return white
    size = 1 << (length - 1).bit_length()  # a power of two: Fourier transforms of prime lengths are slow
    spectrum = np.fft.rfft(white, size)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    pink = np.fft.irfft(spectrum, size)[:length]
    return np.asarray(pink / np.sqrt(np.mean(pink**2)))


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _description(config: SyntheticConfig, sampling_rate: int) -> dict[str, Any]:
    return {"version": CORPUS_VERSION, "sampling_rate": sampling_rate, **asdict(config)}


def _is_made(folder: Path, description: dict[str, Any]) -> bool:
    if not folder.exists():
        return False
    try:
        present = read_object(folder / DESCRIPTION_NAME)
    except ReadError:
        raise ValueError(f"{folder}: exists and is no synthetic corpus; choose another folder, or remove it") from None
    differing = [key for key in description if present.get(key) != description[key]]
    if differing:
        changes = ", ".join(f"{key} {present.get(key)} (asked for {description[key]})" for key in differing)
        raise ValueError(f"{folder}: holds a synthetic corpus with {changes}; choose another folder, or remove it")
    return True


def _make(folder: Path, config: SyntheticConfig, sampling_rate: int) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    description = json.dumps(_description(config, sampling_rate), indent=2)
    if partial.exists() and _text_of(partial / DESCRIPTION_NAME) != description:
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    logger.info("%s: the synthetic corpus is made, once; --data names your own speech instead", folder)
    (partial / DESCRIPTION_NAME).write_text(description)
    for split in SPLITS:
        _make_split(partial, config, split, sampling_rate)
    os.replace(partial, folder)
    logger.info("%s: synthetic corpus made", folder)


def _text_of(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def _make_split(root: Path, config: SyntheticConfig, split: str, sampling_rate: int) -> None:
    folder = root / split
    if (folder / "metadata.csv").is_file():
        return
    folder.mkdir(exist_ok=True)
    wanted, reached = _wanted(config, split), 0.0
    rows: list[dict[str, Any]] = []
    with (
        progress_bar(f"Speaking {split}", wanted) as advance,
        closing(_rows(folder, config, split, sampling_rate)) as spoken,
    ):
        while reached < wanted:
            rows.append(next(spoken))
            amount = float(rows[-1]["seconds"]) if split == "train" else 1.0
            reached += amount
            advance(amount)
    _finish(folder, rows)


def _wanted(config: SyntheticConfig, split: str) -> float:
    """Seconds of training speech; utterances of the other splits."""
    counts = {"dev": config.dev_utterances, "test": config.test_utterances}
    return float(counts.get(split, config.hours * SECONDS_PER_HOUR))


def _rows(
    folder: Path, config: SyntheticConfig, split: str, sampling_rate: int
) -> Generator[dict[str, Any], None, None]:
    """Yields the metadata of one utterance after another, spoken and written in chunks, without end."""
    with process_pool() as pool:
        jobs = ((folder, config, split, sampling_rate, number) for number in count())
        for chunk in in_order(pool, _make_chunk, jobs):
            yield from chunk


def _make_chunk(job: tuple[Path, SyntheticConfig, str, int, int]) -> list[dict[str, Any]]:
    folder, config, split, sampling_rate, number = job
    done = folder / f"chunk-{number:05d}.json"
    if done.is_file():
        return list(read_json(done))
    start = number * CHUNK_UTTERANCES
    numbers = range(start, start + CHUNK_UTTERANCES)
    rows = [_write(folder, draw(config, split, utterance), sampling_rate) for utterance in numbers]
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(rows))
    os.replace(partial, done)
    return rows


def _write(folder: Path, spoken: Spoken, sampling_rate: int) -> dict[str, Any]:
    path = folder / spoken.file_name
    path.parent.mkdir(exist_ok=True)
    samples = to_int16(render(spoken, sampling_rate))
    soundfile.write(path, samples, sampling_rate, subtype="PCM_16")
    values = (spoken.file_name, spoken.text, spoken.speaker, round(len(samples) / sampling_rate, 3))
    return dict(zip(COLUMNS, values, strict=True))


def _finish(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Removes what was spoken beyond the wanted amount, and writes the metadata last."""
    used = {row["file_name"] for row in rows}
    for path in folder.rglob("*.flac"):
        if path.relative_to(folder).as_posix() not in used:
            path.unlink()
    for path in folder.glob("chunk-*"):
        path.unlink()
    partial = folder / "metadata.partial"
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, folder / "metadata.csv")
