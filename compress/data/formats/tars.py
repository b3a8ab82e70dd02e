"""Tars without reading them: every file in one by its name, place and size, so that any can be read at once."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from compress.data.formats.entries import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES, Region, Remark
from compress.data.formats.text_files import GZIP, first_bytes

MAGIC, MAGIC_PLACE = b"ustar", 257
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
PACKED = (
    "a packed tar cannot be read at any place; unpack it first (gunzip), or, if it holds samples (WebDataset), set "
    "data.streaming to true"
)
_IGNORED = (".", "__")
LOOKED_BEHIND = 1 << 16
"""So many bytes behind the end of a tar are looked at; programs fill up to 10,240."""
_NUMBER = re.compile(r"(\d+)$")


@dataclass
class TarIndex:
    """What is in a tar.

    Attributes:
        path: of the tar.
        members: its regular files by name, hidden ones left out, in their order.
        remarks: why it is not whole, and names that it has twice.
    """

    path: Path
    members: dict[str, Region] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def audio(self) -> dict[str, Region]:
        """Returns the members that are audio, by their names."""
        return {name: region for name, region in self.members.items() if is_audio_name(name)}


def is_audio_name(name: str) -> bool:
    """Says whether a file's name ends as that of an audio file, in letters of either case."""
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES + OTHER_AUDIO_SUFFIXES


def plain_name(name: str) -> str:
    """A file's name without what says nothing: `tar cf x.tar .` calls `a/b.wav` `./a/b.wav`."""
    return str(PurePosixPath(name))


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
        raise ValueError(f"{path}: {PACKED}")
    index = TarIndex(path)
    with _Bounded(path) as file:
        problem = _read_headers(file, index)
    if problem and not index.members:
        raise ValueError(f"{path}: {f'no whole file in this tar: {problem}' if file.size else 'an empty file, no tar'}")
    if problem:
        index.remarks.append(Remark(path.name, f"{problem}; {len(index.members):,} files before it are used"))
    return index


def refuse_packed(folder: Path, begin: str = "") -> None:
    """Refuses a folder in which a tar is packed; call it where tars are missing.

    Args:
        folder: to look in.
        begin: how the names of the tars begin.

    Raises:
        ValueError: naming the tar, and the remedy.
    """
    packed = (path for path in sorted(folder.glob(f"{begin}*gz")) if path.name.endswith(TAR_ENDINGS))
    if path := next(packed, None):
        raise ValueError(f"{path}: {PACKED}")


class _Bounded(io.FileIO):
    """A file of which no more is asked than there is: headers can claim any size, for which memory would be taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(0, self.size - self.tell())
        return super().read(rest if size is None or size < 0 else min(size, rest))


def _read_headers(file: _Bounded, index: TarIndex) -> str:
    """Adds every member to an index; says why the tar is not whole, if it is not."""
    last = -1
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.offset <= last or member.offset_data + max(0, member.size) > file.size:
                    return "truncated tar: the last file in it is cut off"
                last = member.offset
                if member.isreg() and not is_hidden(member.name):
                    _add(index, member)
            return _behind(file, tar.offset)
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, OSError) as error:  # of headers that lie
        return f"damaged tar: {error or type(error).__name__}"


def _add(index: TarIndex, member: tarfile.TarInfo) -> None:
    name = plain_name(member.name)
    if name in index.members:
        index.remarks.append(Remark(f"{index.path.name}/{name}", "two files of this name: the last is used"))
    index.members[name] = Region(index.path, member.offset_data, member.size)


def _behind(file: _Bounded, place: int) -> str:
    """Says what stands where the reading of headers has ended, if it is not the end of a tar."""
    file.seek(place)
    block, rest = file.read(tarfile.BLOCKSIZE), file.read(LOOKED_BEHIND)
    if not block:
        return "truncated tar: its end is missing"
    if any(block):
        return f"damaged tar: byte {place:,} begins no file"
    return (
        f"more behind the end of a tar: from byte {place:,} (tars are joined by tar -A, not by cat)"
        if any(rest)
        else ""
    )


def shard_number(name: str) -> int | None:
    """Returns the number at the end of a shard's name, suffixes aside; None where there is none."""
    match = _NUMBER.search(name.split(".tar")[0].split(".json")[0])
    return int(match.group(1)) if match else None
