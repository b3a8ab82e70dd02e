"""What a format gives: entries, each a piece of an audio file with its transcript, and what was noticed on the way."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga")
OTHER_AUDIO_SUFFIXES = (".sph", ".aiff", ".aif", ".au", ".m4a", ".aac", ".wma", ".webm")
"""Audio, too: libsndfile reads the first four kinds."""
MOST = 1e12
"""Seconds, channels and the like are below it."""
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Stored(Protocol):
    """Audio that is no file of its own."""

    @property
    def place(self) -> tuple[Path, int] | None:
        """The file in which it lies, and the byte at which it begins; None where a program makes it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on which it depends."""

    def read(self) -> bytes:
        """Returns the bytes of an audio file.

        Raises:
            OSError: if there is nothing to read.
            ValueError: with the reason, if it is no audio.
        """


@dataclass(frozen=True)
class Inside:
    """Something inside a larger file.

    Attributes:
        path: the larger file.
        offset: where it begins, in bytes.
    """

    path: Path
    offset: int

    @property
    def place(self) -> tuple[Path, int]:
        """Where it lies."""
        return self.path, self.offset

    @property
    def files(self) -> tuple[Path, ...]:
        """The larger file."""
        return (self.path,)


@dataclass(frozen=True)
class Region(Inside):
    """An audio file inside a larger file.

    Attributes:
        size: in bytes.
    """

    size: int

    def read(self) -> bytes:
        """Returns the bytes of the audio file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Entry:
    """One utterance as a format describes it.

    Attributes:
        id: its name, for messages and transcripts.
        audio: where the audio is; None where it is nowhere.
        text: the transcript, if it is text.
        channel: the one that is meant, from 0; None leaves that open.
        start: where the utterance begins in the audio, in seconds.
        seconds: its length; None: to the end.
        said_seconds: how long the whole audio is said to be.
        fault: why the entry cannot be used; empty where it can.
        columns: what else is known of it.
    """

    id: str
    audio: Path | Stored | None
    text: object = None
    channel: int | None = None
    start: float = 0.0
    seconds: float | None = None
    said_seconds: float | None = None
    fault: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_clip(self) -> bool:
        """Whether a part of the audio is meant."""
        return self.channel is not None or self.start > 0 or self.seconds is not None


class Remark(NamedTuple):
    """Something about a file or entry that a person may want to know, and that stops nothing.

    Attributes:
        name: of the entry or the file.
        reason: what was noticed; what stands before a colon is its kind.
    """

    name: str
    reason: str


@dataclass
class Listed:
    """What was read of a format.

    Attributes:
        entries: every utterance.
        files: that say which there are.
        remarks: what was noticed.
        text_from: where transcripts were taken from; empty where there are none.
    """

    entries: list[Entry] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    text_from: str = ""

    def add(self, other: Listed) -> None:
        """Appends what another listing holds."""
        self.entries += other.entries
        self.files += other.files
        self.remarks += other.remarks
        self.text_from = self.text_from or other.text_from


@dataclass(frozen=True)
class Wanted:
    """What a reader of formats is asked for.

    Attributes:
        text_column: the transcript's name, where there is one of that name.
        labels: whether transcripts are needed.
        allow_commands: whether commands in data may be run.
        channel: of audio that is spread over several files, the one to take.
    """

    text_column: str
    labels: bool = True
    allow_commands: bool = False
    channel: int | None = None


def text_key(named: Iterable[str], candidates: Sequence[str], wanted: Wanted, where: str) -> str:
    """Chooses where transcripts stand: under the wanted name, else under the first usual one that is there.

    Args:
        named: every name that is there.
        candidates: usual names.
        wanted: its `text_column`, and whether transcripts are needed.
        where: the source, for the message.

    Returns:
        The name; empty where there is none, and none is needed.

    Raises:
        ValueError: naming what is there.
    """
    there = dict.fromkeys(named)
    key = next((name for name in (wanted.text_column, *candidates) if name in there), "")
    if key or not wanted.labels:
        return key
    looked_for = ", ".join(dict.fromkeys((wanted.text_column, *candidates)))
    raise ValueError(
        f"{where}: no transcripts; looked for {looked_for}, it has {', '.join(there)}; set text_column to one of them"
    )


def number_of(value: object) -> float | None:
    """Returns a number of a size that can be meant, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < MOST else None


def span(name: str, start: float, seconds: float | None) -> str:
    """Names a part of a file: `a.wav:5-9.5`."""
    return f"{name}:{start:g}-{'' if seconds is None else format(start + seconds, 'g')}"


def is_address(name: str) -> bool:
    """Says whether a name is an address such as `s3://...` rather than a path."""
    return bool(_ADDRESS.match(name))


def located(name: str, roots: Sequence[Path]) -> tuple[Path | None, str]:
    """Looks for a file.

    Args:
        name: a path; `~` is the home, and a relative one is looked for in each of the folders.
        roots: the folders, in order.

    Returns:
        The path, or None and the reason, which names every place.
    """
    if is_address(name):
        return None, f"not on this machine: {name}; download it, and write its path instead"
    if "\0" in name:
        return None, f"no file can be called {name!r}"
    path = Path(name).expanduser()
    places = [path] if path.is_absolute() else list(dict.fromkeys(root.absolute() / path for root in roots))
    found = next((place for place in places if os.path.exists(place)), None)
    return found, "" if found else f"file not found: tried {' and '.join(map(str, places))}"
