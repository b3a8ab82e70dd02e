"""Audio in Kaldi's archives, by the place where it begins."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from compress.data.formats.entries import Inside

_AT = re.compile(r"^(.+):(\d+)$")
_FLAG_BYTES = 5
_RIFF_HEADER = 8
_PICKLE = "holds a pickle, which could run any code when read, and is not read"
_REWRITE = "write it anew: wav-copy scp:wav.scp ark,scp:out.ark,out.scp"


@dataclass(frozen=True)
class ArkRecord(Inside):
    """One record of an archive, which begins behind its key.

    Attributes:
        end: where the next one begins, or the archive ends.
    """

    end: int

    def read(self) -> bytes:
        """Returns the bytes of the audio file in it: wav, flac, or what kaldiio calls AUDIO.

        Raises:
            ValueError: if it holds a pickle, features, or something else.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            flag = file.read(_FLAG_BYTES)
            if flag == b"AUDIO":
                return file.read(_length(file))
            if flag[:4] in (b"RIFF", b"fLaC"):
                file.seek(self.offset)
                return file.read(self._size(file, flag))
        raise ValueError(f"{self.path.name}:{self.offset} {_what_else(flag)}")

    def _size(self, file: BinaryIO, flag: bytes) -> int:
        """A wav says its size, unless a program wrote it that did not know; a flac ends before the next record."""
        most = self.end - self.offset
        if flag[:4] != b"RIFF":
            return most
        said = struct.unpack("<I", file.read(_RIFF_HEADER)[4:])[0] + _RIFF_HEADER
        file.seek(self.offset)
        return min(most, int(said))


def place_in_ark(name: str) -> tuple[str, int] | None:
    """Returns archive and offset of `x.ark:57`; None for another name."""
    match = _AT.match(name)
    return (match.group(1), int(match.group(2))) if match else None


def records(places: Iterable[tuple[Path, int]]) -> Mapping[tuple[Path, int], ArkRecord]:
    """Makes the records of all places that are named, each of which ends where the next one in its archive begins."""
    offsets: dict[Path, set[int]] = defaultdict(set)
    for path, offset in places:
        offsets[path].add(offset)
    made = {}
    for path, inside in offsets.items():
        ordered = sorted(inside)
        for offset, end in zip(ordered, [*ordered[1:], max(path.stat().st_size, ordered[-1])], strict=True):
            made[path, offset] = ArkRecord(path, offset, end)
    return made


def _length(file: BinaryIO) -> int:
    """Kaldiio writes how many bytes a length has, then the length, the lowest byte first."""
    return int.from_bytes(file.read(file.read(1)[0]), "little")


def _what_else(flag: bytes) -> str:
    if flag[:3] == b"PKL":
        return f"{_PICKLE}; {_REWRITE}"
    if flag[:2] == b"\0B" or flag[:3] == b"NPY":
        return f"holds numbers such as features, no audio file; {_REWRITE}"
    return f"holds nothing that is known as audio (it begins with {flag!r})"
