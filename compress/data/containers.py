"""What containers of audio say of their own length, to tell half a file from a whole one."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

TOLERATED_BYTES = 64
"""Writers that count headers in disagree with the file by less than this."""
UNKNOWN_FROM = 0x7FFF0000
"""Writers that cannot go back to the header declare a size from here on (sox, ffmpeg), or 0."""
FEWEST_BITS = 8
_PCM, _EXTENSIBLE = 1, 0xFFFE
_FORMAT_BYTES = 26
_LONG_SIZE = slice(8, 16)
"""Where a ds64 chunk of RF64 holds the size of the audio."""
MOST_CHUNKS = 1000
_SPHERE_BYTES = 1024
"""Of a SPHERE header, whose audio begins where its second line says."""
_OGG_HEADER_BYTES = 27
_OGG_CHECKSUM = slice(22, 26)
_OGG_END = 4
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in the other order."""
_NO_END = "truncated: the end of the Ogg stream is missing"


class _Layout(NamedTuple):
    """How the chunks of a container follow each other.

    Attributes:
        first: where the first one begins.
        header: of each, its name and its size, as `struct` writes it.
        aligned: every chunk begins at a multiple of so many bytes.
        inclusive: whether the size counts the header in.
    """

    first: int
    header: str
    aligned: int = 2
    inclusive: bool = False


_RIFF, _IFF = _Layout(12, "<4sI"), _Layout(12, ">4sI")
_W64, _CAF = _Layout(40, "<16sQ", 8, inclusive=True), _Layout(8, ">4sQ", 1)


class _Chunk(NamedTuple):
    """A chunk: its name, where its content begins, and the size that it declares."""

    name: bytes
    start: int
    size: int


def defect(file: BinaryIO) -> str | None:
    """Says why a file is not whole, or holds samples that nothing can read; None where nothing shows.

    Looked at are WAV (RIFF, RIFX, RF64), AIFF, AU, Ogg, Wave64, CAF and SPHERE.

    Args:
        file: readable and seekable, at its beginning.
    """
    head = file.read(12)
    length = file.seek(0, os.SEEK_END)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
        return _wav_defect(file, length, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _chunk_defect(file, length, _IFF, b"SSND")
    if head[:4] == b".snd":
        start, size = struct.unpack(">II", head[4:])
        return _shortage(start, size, length)
    if head[:4] == b"riff":
        return _chunk_defect(file, length, _W64, b"data")
    if head[:4] == b"caff":
        return _chunk_defect(file, length, _CAF, b"data")
    if head[:8] == b"NIST_1A\n":
        return _sphere_defect(file, length)
    return _ogg_defect(file, length) if head[:4] == b"OggS" else None


def _chunk_defect(file: BinaryIO, length: int, layout: _Layout, name: bytes) -> str | None:
    sound = next((chunk for chunk in _chunks(file, length, layout) if chunk.name.startswith(name)), None)
    return _shortage(sound.start, sound.size, length) if sound else None


def _sphere_defect(file: BinaryIO, length: int) -> str | None:
    """SPHERE, as corpora of the LDC have it: lines of names, types and values in front of the audio."""
    file.seek(0)
    lines = [line.split() for line in file.read(_SPHERE_BYTES).splitlines()]
    values = {line[0]: line[2] for line in lines if len(line) == 3}
    counts = [values.get(name, b"") for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    start = lines[1][0] if lines[1:] and lines[1] else b""
    if b"," in values.get(b"sample_coding", b"") or not all(number.isdigit() for number in (start, *counts)):
        return None  # compressed, or said in other words: nothing follows for the size
    return _shortage(int(start), math.prod(map(int, counts)), length)


def _wav_defect(file: BinaryIO, length: int, order: str) -> str | None:
    long_size = 0
    for chunk in _chunks(file, length, _IFF if order == ">" else _RIFF):
        file.seek(chunk.start)
        content = file.read(_FORMAT_BYTES)
        if chunk.name == b"ds64" and len(content) >= _LONG_SIZE.stop:
            long_size = int.from_bytes(content[_LONG_SIZE], "little")
        if chunk.name == b"fmt ":
            kind, bits = _format(content, order)
            if kind == _PCM and bits < FEWEST_BITS:
                return f"cannot be decoded: {bits} bits per sample"
        if chunk.name == b"data":
            return _shortage(chunk.start, chunk.size, length, long_size)
    return None


def _format(content: bytes, order: str) -> tuple[int, int]:
    """The kind of samples and the bits of each."""
    if len(content) < 16:
        return 0, 0
    kind, bits = struct.unpack(order + "H12xH", content[:16])
    if kind == _EXTENSIBLE and len(content) == _FORMAT_BYTES:
        kind = struct.unpack(order + "H", content[24:])[0]
    return kind, bits


def _chunks(file: BinaryIO, length: int, layout: _Layout) -> Iterator[_Chunk]:
    place, header = layout.first, struct.calcsize(layout.header)
    for _ in range(MOST_CHUNKS):
        if place + header > length:
            return
        file.seek(place)
        name, size = struct.unpack(layout.header, file.read(header))
        size = max(0, size - header) if layout.inclusive else size
        yield _Chunk(name, place + header, size)
        end = place + header + size
        place = end + -end % layout.aligned


def _shortage(start: int, size: int, length: int, long_size: int = 0) -> str | None:
    """Says that fewer bytes of audio are there than declared; `long_size` counts where `size` is left open."""
    size = size if 0 < size < UNKNOWN_FROM else long_size
    there = max(0, length - start)
    if there + TOLERATED_BYTES >= size:
        return None
    return f"truncated: {there} of {size} bytes of audio are there"


def _ogg_defect(file: BinaryIO, length: int) -> str | None:
    """Every page must be whole and have the checksum that it says, and the last one must say that the stream ends."""
    file.seek(0)
    content, start, ends = file.read(), 0, False
    while start + _OGG_HEADER_BYTES <= length and content.startswith(b"OggS", start):
        segments = start + _OGG_HEADER_BYTES
        end = segments + content[segments - 1] + sum(content[segments : segments + content[segments - 1]])
        if end > length:
            return _NO_END
        if _ogg_checksum(content[start:end]) != content[start + _OGG_CHECKSUM.start : start + _OGG_CHECKSUM.stop]:
            return f"damaged: the Ogg page at byte {start:,} does not have its checksum"
        ends = bool(content[start + 5] & _OGG_END)
        start = end
    if not ends:
        return _NO_END
    return f"damaged: byte {start:,} begins no Ogg page" if content.find(b"OggS", start) >= 0 else None


def _ogg_checksum(page: bytes) -> bytes:
    """The checksum of a page, whose own field counts as zeros: CRC-32 by bits from the highest, without inversions.

    `zlib` takes bits from the lowest and inverts, so they are mirrored, and its inversions undone.
    """
    zeros = bytes(_OGG_CHECKSUM.stop - _OGG_CHECKSUM.start)
    blank = page[: _OGG_CHECKSUM.start] + zeros + page[_OGG_CHECKSUM.stop :]
    inverted = zlib.crc32(blank.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return inverted.to_bytes(4, "big").translate(_MIRRORED)
