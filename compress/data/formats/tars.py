"""Tars without reading them: every file in one by its name, place and size, so that any can be read at once."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from compress.data.formats.entries import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES, Region
from compress.data.formats.text_files import GZIP, first_bytes

MAGIC, MAGIC_PLACE = b"ustar", 257
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_IGNORED = (".", "__")
_NUMBER = re.compile(r"(\d+)$")


@dataclass
class TarIndex:
    """What is in a tar.

    Attributes:
        path: of the tar.
        members: its regular files by name, hidden ones left out, in their order.
        fault: why it is not whole; empty where it is.
    """

    path: Path
    members: dict[str, Region] = field(default_factory=dict)
    fault: str = ""

    def audio(self) -> dict[str, Region]:
        """Returns the members that are audio, by their names."""
        return {name: region for name, region in self.members.items() if is_audio_name(name)}


def is_audio_name(name: str) -> bool:
    """Says whether a file's name ends as that of an audio file, in letters of either case."""
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES + OTHER_AUDIO_SUFFIXES


def is_hidden(name: str) -> bool:
    """Says whether a file in a tar is one of those that systems leave there."""
    return PurePosixPath(name).name.startswith(_IGNORED)


def is_tar(path: Path) -> bool:
    """Says whether a file begins as a tar does."""
    return first_bytes(path, MAGIC_PLACE + len(MAGIC))[MAGIC_PLACE:] == MAGIC


def index_tar(path: Path) -> TarIndex:
    """Reads the headers of a tar, and nothing else of it.

    Raises:
        ValueError: if it is packed, or no tar at all.
    """
    if first_bytes(path, len(GZIP)) == GZIP:
        raise ValueError(
            f"{path}: a packed tar cannot be read at any place; unpack it first (gunzip), or, if it holds samples, set "
            "data.streaming to true"
        )
    index, size = TarIndex(path), path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("the last file in it is cut off")
                if member.isreg() and not is_hidden(member.name):
                    index.members[member.name] = Region(path, member.offset_data, member.size)
    except tarfile.ReadError as error:
        if not index.members:
            raise ValueError(f"{path}: {_nothing(size, error)}") from error
        index.fault = f"truncated tar: {error}; {len(index.members):,} files before it are used"
    return index


def shard_number(name: str) -> int | None:
    """Returns the number at the end of a shard's name, suffixes aside; None where there is none."""
    match = _NUMBER.search(name.split(".tar")[0].split(".json")[0])
    return int(match.group(1)) if match else None


def _nothing(size: int, error: Exception) -> str:
    return "an empty file, no tar" if size == 0 else f"no whole file in this tar: {error}"
