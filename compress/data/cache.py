"""One pass over every file: what is usable, how long it is, and its decoded audio in a memory-mapped file.

A cache is two files in a folder of its own: `<key>.i16` holds the audio, `<key>.json` the index. The index is written
last and both are moved into place, so an interrupted pass leaves nothing that could be mistaken for a cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from compress.data.audio import AudioLimits, Heard, Samples, UnusableAudio, listen
from compress.data.pool import in_order, process_pool, progress_bar
from compress.data.settings import SpeechConfig
from compress.data.sources import Source
from compress.files.reading import ReadError, read_object
from compress.files.writing import explained, write_text

logger = logging.getLogger(__name__)

FORMAT_VERSION = 3
BYTES_PER_SAMPLE = 2
BYTES_PER_GIB, BYTES_PER_MIB = 1 << 30, 1 << 20
FREE_DISK_SHARE = 0.9
CHUNK_ENTRIES = 16
POOL_FROM_ENTRIES = 64
NOT_CACHED = -1
INDEX_FORM = {"samples": list, "offsets": list, "reasons": list, "notes": list}


@dataclass
class Index:
    """What one pass over a data set found, entry by entry.

    Attributes:
        samples: usable audio's length in samples; 0 where it is unusable.
        offsets: its place in the audio file in samples; -1 where it is not kept there.
        reasons: why an entry is unusable; empty where it is usable.
        notes: what was noticed of it, as many texts as there are notes.
    """

    samples: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)

    def add(self, samples: int, offset: int, reason: str, notes: Sequence[str]) -> None:
        """Appends one entry."""
        self.samples.append(samples)
        self.offsets.append(offset)
        self.reasons.append(reason)
        self.notes.append(list(notes))


class AudioStore:
    """Decoded audio by entry: from the memory-mapped file where it is there, else decoded anew, with the same result.

    A copy in another process opens the file anew: pickled, a store carries the file's path and none of its audio.

    Args:
        source: the data set.
        limits: the wanted rate, and what is usable.
        index: what the pass over the data set found.
        path: the audio file, or `None` if nothing is kept.
    """

    def __init__(self, source: Source, limits: AudioLimits, index: Index, path: Path | None) -> None:
        self.source = source
        self.limits = limits
        self.index = index
        self.path = path
        self._audio = _open_audio(path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_audio": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._audio = _open_audio(self.path)

    def __getitem__(self, entry: int) -> Samples:
        """Returns one entry's audio, int16, `(samples,)`.

        Raises:
            ValueError: if a file that was usable in the pass over the data set no longer is.
        """
        offset = self.index.offsets[entry]
        if self._audio is not None and offset != NOT_CACHED:
            return self._audio[offset : offset + self.index.samples[entry]]
        try:
            return _decode_entry(self.source, entry, self.limits).samples
        except UnusableAudio as error:
            name = self.source.ids[entry]
            raise ValueError(f"{self.source.name}: {name} changed since the run began: {error}") from None


def cache_root(config: SpeechConfig) -> Path:
    """Returns the folder for decoded audio and the synthetic corpus."""
    if config.cache_dir:
        return Path(config.cache_dir).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "conformer-compress"


def scan(source: Source, limits: AudioLimits, config: SpeechConfig) -> AudioStore:
    """Decodes every entry once and keeps what fits, or finds that this has been done.

    Processes that ask at the same time on one machine wait for the first.

    Args:
        source: the data set.
        limits: the wanted rate, and what is usable.
        config: where the cache is and how large it may be.

    Raises:
        ValueError: if the cache folder cannot be written.
    """
    if config.cache_max_gib == 0:
        return AudioStore(source, limits, _scan(source, limits, None, 0), None)
    place = sorted(map(str, source.origin.files)) or source.name
    folder = cache_root(config) / "audio" / _digest(place, config.split, config.subset, config.limit, limits)
    _make(folder)
    content = source.stamps(), sorted(source.faults.items())
    stem = folder / _digest(FORMAT_VERSION, content, config.audio_column, config.cache_max_gib)
    audio, index = stem.with_suffix(".i16"), stem.with_suffix(".json")
    with FileLock(folder / "lock"):
        entries = _read_index(index, len(source.ids)) if audio.is_file() else None
        if entries is None:
            _build(source, limits, audio, index, config.cache_max_gib)
            entries = Index(**read_object(index, INDEX_FORM))
    return AudioStore(source, limits, entries, audio)


def _read_index(path: Path, entries: int) -> Index | None:
    """Reads what an earlier pass found; None if there is no index, or none that can be used."""
    try:
        index = Index(**read_object(path, INDEX_FORM))
    except (ReadError, TypeError):
        return None
    return index if {len(column) for column in asdict(index).values()} == {entries} else None


def _open_audio(path: Path | None) -> Samples | None:
    """Opens the memory-mapped file; `None` where there is none, or nothing in it."""
    if path is None or not path.is_file() or path.stat().st_size == 0:
        return None
    return np.memmap(str(path), dtype=np.int16, mode="r")


def _build(source: Source, limits: AudioLimits, audio: Path, index: Path, max_gib: float) -> None:
    free = shutil.disk_usage(audio.parent).free
    max_bytes = int(min(max_gib * BYTES_PER_GIB, free * FREE_DISK_SHARE))
    partial = audio.with_suffix(".partial")
    try:
        with explained(audio):
            with partial.open("wb") as file:
                entries = _scan(source, limits, file, max_bytes)
            _report_size(source, entries, partial.stat().st_size, max_gib)
            for stale in audio.parent.glob("*.i16"):
                stale.with_suffix(".json").unlink(missing_ok=True)
                stale.unlink()
            os.replace(partial, audio)
        write_text(index, json.dumps(asdict(entries)))
    finally:
        partial.unlink(missing_ok=True)


def _scan(source: Source, limits: AudioLimits, file: BinaryIO | None, max_bytes: int) -> Index:
    index, written = Index(), 0
    for samples, length, reason, notes in _decode_all(source, limits, keep=file is not None):
        size = length * BYTES_PER_SAMPLE
        if file is None or samples is None or written + size > max_bytes:
            index.add(length, NOT_CACHED, reason, notes)
            continue
        index.add(length, written // BYTES_PER_SAMPLE, reason, notes)
        written += file.write(samples.tobytes())
    return index


Decoded = tuple[Samples | None, int, str, tuple[str, ...]]
"""An entry's audio (`None` if unusable or not wanted), its length in samples, why it is unusable, what was noticed."""


def _decode_all(source: Source, limits: AudioLimits, *, keep: bool) -> Iterator[Decoded]:
    total = len(source.ids)
    chunks = [range(start, min(start + CHUNK_ENTRIES, total)) for start in range(0, total, CHUNK_ENTRIES)]
    if total < POOL_FROM_ENTRIES:
        for chunk in chunks:
            yield from _decode_chunk(source, limits, keep, chunk)
        return
    with (
        process_pool(initializer=_remember, initargs=(source, limits, keep)) as pool,
        progress_bar(f"Reading {source.name}", total) as advance,
    ):
        for results in in_order(pool, _decode_remembered, chunks):
            yield from results
            advance(len(results))


_REMEMBERED: list[tuple[Source, AudioLimits, bool]] = []
"""In a pool's process: what it decodes."""


def _remember(source: Source, limits: AudioLimits, keep: bool) -> None:
    _REMEMBERED[:] = [(source, limits, keep)]


def _decode_remembered(entries: range) -> list[Decoded]:
    source, limits, keep = _REMEMBERED[0]
    return _decode_chunk(source, limits, keep, entries)


def _decode_chunk(source: Source, limits: AudioLimits, keep: bool, entries: range) -> list[Decoded]:
    results: list[Decoded] = []
    for entry in entries:
        try:
            samples, notes = _decode_entry(source, entry, limits)
            results.append((samples if keep else None, len(samples), "", notes))
        except UnusableAudio as error:
            results.append((None, 0, str(error), ()))
    return results


def _decode_entry(source: Source, entry: int, limits: AudioLimits) -> Heard:
    if fault := source.faults.get(entry):
        raise UnusableAudio(fault)
    if (payload := source.payload(entry)) is None:
        raise UnusableAudio("no audio")
    return listen(payload, limits)


def _report_size(source: Source, index: Index, size: int, max_gib: float) -> None:
    left_out = sum(
        length > 0 and offset == NOT_CACHED for length, offset in zip(index.samples, index.offsets, strict=True)
    )
    amount = f"{size / BYTES_PER_MIB:,.1f} MiB of decoded audio kept"
    if left_out:
        remedy = "raise cache_max_gib to keep it"
        logger.warning(
            "%s: %s; %d entries beyond %g GiB are decoded in every epoch; %s",
            source.name,
            amount,
            left_out,
            max_gib,
            remedy,
        )
    else:
        logger.info("%s: %s", source.name, amount)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error}); set cache_dir, or cache_max_gib: 0") from error


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
