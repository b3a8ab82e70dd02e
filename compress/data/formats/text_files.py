"""Text files as people have them: packed or not, with a mark at the beginning, ends of lines of any system."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

ENCODING = "utf-8-sig"
GZIP = b"\x1f\x8b"
_WHITE = " \t\r\n\f\v"
_SPACES = re.compile(r"[ \t\r\n\f\v]+")


def first_bytes(path: Path, count: int) -> bytes:
    """Returns how a file begins."""
    with _named(path), path.open("rb") as file:
        return file.read(count)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file in an error of its disk, which does not say where it happened."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Opens a text file, packed by gzip or not.

    Args:
        path: of the file; what is in it tells whether it is packed.
        newline: as `open` takes it.

    Raises:
        ValueError: naming the file, if it is no UTF-8, or damaged.
    """
    packed = first_bytes(path, len(GZIP)) == GZIP
    try:
        with _named(path), (gzip.open if packed else open)(path, "rt", encoding=ENCODING, newline=newline) as file:
            yield cast(TextIO, file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_undecodable(path)} is no UTF-8; save the file as UTF-8") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unpacked: {error}") from error


def is_text(text: str) -> bool:
    """Says whether a string can be written as UTF-8, which lone halves of surrogate pairs cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _undecodable(path: Path) -> str:
    """Names the line that cannot be decoded; the error of a file that is read in pieces does not know it."""
    packed = first_bytes(path, len(GZIP)) == GZIP
    with (gzip.open if packed else open)(path, "rt", encoding=ENCODING, errors="surrogateescape") as file:
        lines = (number for number, line in enumerate(cast(TextIO, file), start=1) if not is_text(line))
        return f"line {next(lines, 1)}"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields every line that is not blank, with its number from 1, without white space around it."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if stripped := line.strip(_WHITE):
                yield number, stripped


def split_line(line: str, most: int = 0) -> list[str]:
    """Splits at ASCII white space; `most` times, if it is not 0."""
    return _SPACES.split(line, maxsplit=most)
