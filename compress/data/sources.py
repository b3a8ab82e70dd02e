"""What a data set is read from: its entries by number, or row by row; where it lies, and what identifies it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from compress.data.audio import Clip
from compress.data.columns import FurtherColumns
from compress.data.formats.entries import Remark

SEPARATORS = frozenset(";\t|")
"""What other programs write between columns."""

Payload = bytes | Path | Clip | None

"""A file's bytes, its path, a part of either, or `None` where a row holds neither."""


@dataclass(frozen=True)
class Origin:
    """What is read for a split.

    Attributes:
        files: metadata file, tables, or folder of audio without either, as resolved paths; empty for the Hub.
        whole: whether the source has no splits, so that all of it is read for any.
    """

    files: frozenset[Path] = frozenset()
    whole: bool = False

    @classmethod
    def of(cls, files: Iterable[Path], *, whole: bool) -> Origin:
        """Makes an origin that compares equal however its paths are written."""
        return cls(frozenset(file.resolve() for file in files), whole)


class Source(Protocol):
    """A data set that can be counted and read in any order.

    Attributes:
        name: for messages.
        origin: what is read.
        ids: of its entries.
        texts: their transcripts.
        columns: what else is known of them.
        faults: by number, why entries cannot even be looked for.
        remarks: what was noticed before anything was decoded.
        said_seconds: by number, how long entries are said to be.
    """

    name: str
    origin: Origin
    ids: list[str]
    texts: list[object]
    columns: FurtherColumns
    faults: dict[int, str]
    remarks: list[Remark]
    said_seconds: dict[int, float]

    def payload(self, index: int) -> Payload:
        """Returns the bytes or the path of one entry's audio."""

    def place(self, index: int) -> str | None:
        """Names the piece of audio of one entry alike in all sources; None where it is in a table."""

    def stamps(self) -> list[str]:
        """Identifies the audio's present content, see `stamp`, or by a fingerprint."""


class Row(NamedTuple):
    """One row of a stream.

    Attributes:
        id: unique among the rows that are read.
        file: its file name, or its number.
        text: the transcript, if it is text.
        payload: the audio.
    """

    id: str
    file: str
    text: object
    payload: Payload


def audio_payload(cell: object, roots: Sequence[Path]) -> Payload:
    """Returns the bytes of an audio cell if it has them, else its path (a relative one under one of the folders)."""
    if isinstance(cell, dict):
        return cell["bytes"] if cell.get("bytes") is not None else audio_payload(cell.get("path"), roots)
    if isinstance(cell, bytes):
        return cell
    return below(roots, cell) if isinstance(cell, str) else None


def below(roots: Sequence[Path], name: str) -> Path:
    """Returns where a file lies: under the first of the folders that holds it, or would."""
    places = [root / name for root in roots]
    return next((place for place in places if os.path.exists(place)), places[0])


def unique(names: Iterable[str]) -> list[str]:
    """Names with `#2`, `#3`, ... after the second, third, ... of a kind."""
    seen: Counter[str] = Counter()
    return [numbered(name, seen) for name in names]


def numbered(name: str, seen: Counter[str]) -> str:
    """Returns the name itself if `seen` does not hold it, else with a number; `seen` holds it afterwards."""
    seen[name] += 1
    return name if seen[name] == 1 else numbered(f"{name}#{seen[name]}", seen)


def require_column(column: str, row: dict[str, Any], where: str, key: str | None = None) -> None:
    """Refuses a row without a column; `key` is the setting that could name another one, if any could."""
    if column not in row:
        remedy = f"; set {key} to one of them" if key else f"; call the column {column} that holds what is wanted"
        if len(row) == 1 and not SEPARATORS.isdisjoint(next(iter(row))):
            remedy = "; separate columns by commas"
        raise ValueError(f"{where}: no column {column!r}; it has {', '.join(map(str, row))}{remedy}")


def stamp(root: Path, name: str) -> str:
    """Identifies a file's present content: by path, size, time of change and inode, or as missing.

    Args:
        root: a resolved folder.
        name: of the file in it.
    """
    path = root / name
    try:
        status = path.stat()
    except (OSError, ValueError):  # no such file, or none can have such a name
        return f"{name!r}|missing"
    return f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
