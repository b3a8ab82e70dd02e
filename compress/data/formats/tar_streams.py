"""Tars of samples read from their beginning, packed ones as well: nothing is indexed, and little is held."""

from __future__ import annotations

import gzip
import json
import logging
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from tarfile import (  # type: ignore[attr-defined]
    EmptyHeaderError,
    InvalidHeaderError,
    ReadError,
    TarFile,
    TruncatedHeaderError,
)
from typing import IO, Any, cast

from compress.data.formats.entries import Wanted, text_key
from compress.data.formats.tars import LOOKED_BEHIND, is_audio_name, is_hidden, plain_name
from compress.data.formats.text_files import GZIP, first_bytes
from compress.data.formats.webdataset import JSON, TEXT_FIELDS

logger = logging.getLogger(__name__)

MOST_FILE_BYTES = 1 << 30
"""Of a file in a tar, which is held as a whole."""
MOST_WAITING_BYTES = 1 << 29
"""Of audio that waits for transcripts; beyond it, what has waited longest has none."""
_FIRST_FILES = 40
"""So many files of the first tar are looked at to find the transcripts."""


@dataclass(frozen=True)
class TarShard:
    """A tar of samples, packed or not, as a shard of a stream.

    An audio file waits for its transcript, or the other way round, wherever the two stand in the tar.

    Attributes:
        path: of the tar.
        audio: what the audio is called in a row.
        text: what the transcript is called in a row.
        key: where transcripts stand: `txt`, `json.text`, ...; empty where none are needed.
    """

    path: Path
    audio: str
    text: str
    key: str

    def rows_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Yields rows; those before the first that is wanted are unpacked, and not decoded."""
        return islice(self._rows(), start, None)

    def _rows(self) -> Iterator[dict[str, Any]]:
        heard: dict[str, tuple[str, bytes]] = {}
        said: dict[str, object] = {}
        inner = self.key.removeprefix(f"{JSON}.") if self.key.startswith(f"{JSON}.") else ""
        field = JSON if inner else self.key
        for name, content in files_in(self.path):
            if is_audio_name(name):
                stem = str(PurePosixPath(name).with_suffix(""))
                heard[stem] = (name, content)
            elif field and name.endswith(f".{field}"):
                stem = name.removesuffix(f".{field}")
                said[stem] = _text(content, inner)
            else:
                continue
            if stem in heard and (stem in said or not field):
                yield self._row(*heard.pop(stem), said.pop(stem, None))
            if sum(len(content) for _, content in heard.values()) > MOST_WAITING_BYTES:
                yield self._row(*heard.pop(next(iter(heard))), None)
        for name, content in heard.values():
            yield self._row(name, content, None)

    def _row(self, name: str, content: bytes, text: object) -> dict[str, Any]:
        return {self.audio: {"bytes": content, "path": f"{self.path.name}/{name}"}, self.text: text}


def tar_shards(tars: Sequence[Path], audio: str, wanted: Wanted) -> list[TarShard]:
    """Makes shards of tars, all with their transcripts where the first sample has them.

    Args:
        tars: their paths.
        audio: what the audio is called in a row.
        wanted: what is asked for; its `text_column` is what the transcript is called in a row.

    Raises:
        ValueError: if the first tar has no audio, or no transcripts beside it though they are needed.
    """
    key = _key_of_texts(tars[0], wanted)
    return [TarShard(tar, audio, wanted.text_column, key) for tar in tars]


def files_in(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the files in a tar, hidden ones left out; one that is cut off or damaged ends early, with a warning."""
    try:
        with (
            _unpacked(path) as file,
            tarfile.open(fileobj=file, mode="r|*", bufsize=tarfile.BLOCKSIZE, tarinfo=_StrictHeader) as tar,
        ):
            for member in tar:
                if member.isreg() and not is_hidden(member.name):
                    if member.size > MOST_FILE_BYTES:
                        raise tarfile.ReadError(f"{member.name} is said to have {member.size:,} bytes")
                    content = tar.extractfile(member)
                    assert content is not None
                    yield plain_name(member.name), content.read()
            assert tar.fileobj is not None
            if tar.offset == 0 or any(tar.fileobj.read(LOOKED_BEHIND)):
                raise tarfile.ReadError("the end of a tar, and more behind it" if tar.offset else "no file begins it")
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, ArithmeticError, LookupError) as error:
        logger.warning("%s: truncated or damaged tar, or none: %s; the files before it are used", path, error)
    except OSError as error:
        if error.errno is not None:
            raise
        logger.warning("%s: damaged tar, or none: %s; the files before it are used", path, error)


def _unpacked(path: Path) -> IO[bytes]:
    """A file, or what gzip has packed in it: `tarfile` compares no checksum, and reads the first of joined parts."""
    return cast("IO[bytes]", gzip.open(path)) if first_bytes(path, len(GZIP)) == GZIP else path.open("rb")


class _StrictHeader(tarfile.TarInfo):
    """A header that is an error where it is none: `tarfile` takes such a place for the end, and says nothing."""

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except (InvalidHeaderError, TruncatedHeaderError) as error:
            raise ReadError(f"byte {tarfile.offset:,} begins no file") from error
        except EmptyHeaderError as error:
            raise ReadError("its end is missing") from error


def _key_of_texts(tar: Path, wanted: Wanted) -> str:
    files = dict(islice(files_in(tar), _FIRST_FILES))
    stems = [str(PurePosixPath(name).with_suffix("")) for name in files if is_audio_name(name)]
    if not stems:
        raise ValueError(f"{tar}: no audio among the first {_FIRST_FILES} files in it")
    fields: dict[str, None] = {}
    for name, content in files.items():
        for stem in stems:
            if name.startswith(f"{stem}.") and not is_audio_name(name):
                field = name.removeprefix(f"{stem}.")
                fields |= dict.fromkeys((field, *(f"{JSON}.{key}" for key in _object(content, field))))
    return text_key(fields, (f"{JSON}.{wanted.text_column}", *TEXT_FIELDS), wanted, str(tar))


def _object(content: bytes, field: str) -> dict[str, Any]:
    """What a `json` says; nothing of other fields."""
    try:
        value = json.loads(content.decode("utf-8-sig")) if field == JSON else {}
    except (ValueError, RecursionError):
        value = {}
    return value if isinstance(value, dict) else {}


def _text(content: bytes, inner: str) -> object:
    """A transcript; None where it cannot be read."""
    if inner:
        return _object(content, JSON).get(inner)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
