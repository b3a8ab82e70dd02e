"""Measures how long a run that is started again inside an epoch waits for its first batch, against reading the epoch.

    python -m tools.experiments.measure_resume --folder runs/resume --results RESULTS.md

Hours of noise lie in shards of each kind in turn. The epoch is read once as training reads it, with its features; then
reading goes on from several batches around its middle and near its end, each from a data set that is opened anew. The
longest of these times counts, and each first batch has to be the one that came next before.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

from compress.config import check_positive
from compress.data import BatchConfig, SpeechConfig, SpeechLoader, open_speech
from compress.training.loop.position import Position
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.results import EntryConfig, add, facts, grid

PLACES = {"the middle": (0.45, 0.5, 0.55), "the end": (0.9, 0.94, 0.98)}
"""Shares of an epoch behind which reading goes on, by what they are near to."""
HEAD = ("shards", "batches", "whole epoch, s", *(f"{word}, {unit}" for word in PLACES for unit in ("s", "share")))
RATE, SECONDS, LOUDNESS = 16_000, (5.0, 15.0), 0.01
DIFFERENT, GROUP = 64, 100
"""So many utterances differ, and so many rows are a group in parquet."""
SHARDS_PER_HOUR, FEWEST_SHARDS = 2, 4
NO_AUDIO_GIB = 1e-9
"""What is found out of a data set is kept for the next start, without any audio."""

Utterance = tuple[str, bytes]


@dataclass(frozen=True, kw_only=True)
class ResumeConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        folder: Where the speech is written, and deleted again; ten hours of it take a gigabyte.
        hours: Of speech.
        batch: How utterances are put together.
    """

    title: str = "Going on inside an epoch of shards"
    folder: str
    hours: float = 10.0
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(workers=0))

    def __post_init__(self) -> None:
        check_positive("hours", self.hours, "a number of hours")


def measure_resume(config: ResumeConfig) -> None:
    """Prints a row for each kind of shards, and appends them to a file of results."""
    Path(config.folder).mkdir(parents=True, exist_ok=True)
    lines = grid(HEAD, [row(config, kind) for kind in KINDS])
    print("\n".join(lines))
    data = f"{config.hours:g} hours of noise in FLAC, {shards_of(config)} shards"
    add(config, [*facts(typed(), data, config.note), *lines])


def row(config: ResumeConfig, kind: str) -> list[str]:
    """One line of the table: seconds of an epoch, and of going on in it, also as a share of the epoch's."""
    with TemporaryDirectory(dir=config.folder) as folder:
        for number, utterances in enumerate(shards(config)):
            KINDS[kind](Path(folder, "data", f"train-{number}"), utterances)
        first(folder, kind, config, Position())  # what is in tars is checked once, whoever reads them afterwards
        seconds, positions = read_whole(folder, kind, config)
        cells = [kind, str(len(positions)), f"{seconds:.1f}"]
        for shares in PLACES.values():
            longest = max(gone_on(folder, kind, config, positions, share) for share in shares)
            cells += [f"{longest:.2f}", f"{longest / seconds:.1%}"]
        return cells


def shards_of(config: ResumeConfig) -> int:
    """How many shards there are."""
    return max(FEWEST_SHARDS, round(SHARDS_PER_HOUR * config.hours))


def shards(config: ResumeConfig) -> Iterator[list[Utterance]]:
    """The utterances of each shard: noise, of which few pieces differ, under names of their own."""
    random = np.random.default_rng(0)
    lengths = np.linspace(*SECONDS, DIFFERENT)
    pieces = [as_flac(LOUDNESS * random.standard_normal(round(length * RATE))) for length in lengths]
    count = round(3600 * config.hours / float(lengths.mean()) / shards_of(config))
    for shard in range(shards_of(config)):
        chosen = random.integers(DIFFERENT, size=count)
        yield [(f"{shard:03d}-{number:05d}.flac", pieces[piece]) for number, piece in enumerate(chosen)]


def as_flac(samples: Any) -> bytes:
    """An audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue()


def write_tar(path: Path, utterances: Sequence[Utterance]) -> None:
    """Writes a shard as a tar."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        _fill(tar, utterances)


def write_packed(path: Path, utterances: Sequence[Utterance]) -> None:
    """Writes a shard as a tar that is packed."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path.with_suffix(".tar.gz"), "w:gz", compresslevel=1) as tar:
        _fill(tar, utterances)


def _fill(tar: tarfile.TarFile, utterances: Sequence[Utterance]) -> None:
    for name, content in utterances:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def write_parquet(path: Path, utterances: Sequence[Utterance]) -> None:
    """Writes a shard as a table."""
    path.parent.mkdir(exist_ok=True)
    cells = [{"bytes": content, "path": name} for name, content in utterances]
    pyarrow.parquet.write_table(pyarrow.table({"audio": cells}), path.with_suffix(".parquet"), row_group_size=GROUP)


TARS = "tars, which are indexed"
KINDS: Mapping[str, Callable[[Path, Sequence[Utterance]], None]] = {
    TARS: write_tar,
    "packed tars, as a stream": write_packed,
    "parquet, as a stream": write_parquet,
}
"""How a shard of each kind is written."""


def opened(folder: str, kind: str, config: ResumeConfig) -> SpeechLoader:
    """A loader of the shards, as a run makes it when it starts; audio is decoded whenever it is needed."""
    speech = SpeechConfig(
        str(Path(folder, "data")),
        streaming=kind != TARS,
        cache_dir=str(Path(folder, "cache")),
        cache_max_gib=NO_AUDIO_GIB,
    )
    processor = build_processor("parakeet", ["noise"], TokensConfig(), mel_bins=80)
    return SpeechLoader(open_speech(speech, sampling_rate=RATE, labels=False), processor, config.batch)


def first(folder: str, kind: str, config: ResumeConfig, position: Position) -> list[str]:
    """The utterances of the batch that comes behind a position."""
    loader = opened(folder, kind, config)
    return next(loader.epoch(0, position.batch, position.place)).ids


def read_whole(folder: str, kind: str, config: ResumeConfig) -> tuple[float, list[tuple[Position, list[str]]]]:
    """Seconds of a whole epoch; and of each batch the position behind it, and its utterances."""
    began = time.perf_counter()
    batches = enumerate(opened(folder, kind, config).epoch(0), start=1)
    positions = [(Position(0, number, batch.place), batch.ids) for number, batch in batches]
    return time.perf_counter() - began, positions


def gone_on(
    folder: str, kind: str, config: ResumeConfig, positions: Sequence[tuple[Position, list[str]]], share: float
) -> float:
    """Seconds until a run that is started again behind a share of the epoch has its first batch.

    Raises:
        ValueError: if that is another batch than before.
    """
    number = min(int(share * len(positions)), len(positions) - 2)
    began = time.perf_counter()
    ids = first(folder, kind, config, positions[number][0])
    seconds = time.perf_counter() - began
    if ids != positions[number + 1][1]:
        raise ValueError(f"{kind}: behind batch {number} comes {ids}, and it was {positions[number + 1][1]}.")
    return seconds


if __name__ == "__main__":
    main(measure_resume)
