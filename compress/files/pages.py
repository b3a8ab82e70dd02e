"""Memory that is a file's: giving its pages back to the system once the tensor that lay in them is gone."""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")
_PAGE_OUT = 21  # MADV_PAGEOUT of Linux 5.4: a hint that changes no content; what is read again comes from the file


def give_back_when_gone(tensors: Iterable[Tensor]) -> None:
    """Has the pages of those tensors that lie in mapped files given back when a tensor is deleted.

    A checkpoint that is loaded from safetensors is mapped, and the mapping of a file ends with the last of its tensors:
    until then every page that was read counts as this process's memory. Does nothing where the system is not Linux.
    """
    files = _mapped_files()
    for tensor in tensors:
        if address := _mapped_address(tensor, files):
            weakref.finalize(tensor, _give_back, address, tensor.nbytes).atexit = False


def read_in_turn(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor by its name, for somebody who reads all of its values once.

    The pages of one that lies in a mapped file are given back before the next one is read.
    """
    files = _mapped_files()
    for name, tensor in tensors.items():
        yield name, tensor
        if address := _mapped_address(tensor, files):
            _give_back(address, tensor.nbytes)


def _mapped_address(tensor: Tensor, files: Sequence[tuple[int, int]]) -> int:
    """Returns where a tensor lies, if that is in one of the mapped files; else 0."""
    address = tensor.data_ptr() if tensor.device.type == "cpu" else 0
    place = bisect_right(files, (address, sys.maxsize)) - 1
    return address if place >= 0 and address < files[place][1] else 0


def _mapped_files() -> list[tuple[int, int]]:
    """Returns `(start, end)` of every mapping of a file, in order of address."""
    if not _MAPS.exists():
        return []
    mappings = []
    for line in _MAPS.read_text().splitlines():
        places, _, _, _, inode, *_ = line.split()
        if inode != "0":
            start, end = (int(place, 16) for place in places.split("-"))
            mappings.append((start, end))
    return sorted(mappings)


def _give_back(address: int, length: int) -> None:
    """Advises on the pages that lie in the range entirely; a system that cannot take the advice ignores it."""
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (address + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _PAGE_OUT)
