"""Paths that stand for many files: `{0..9}`, `_OP_0..9_CL_`, `*`."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_OPENING, _CLOSING = "_OP_", "_CL_"
_WILD = "*"
MOST_FILES = 1_000_000


def is_pattern(name: str) -> bool:
    """Says whether a path stands for many files."""
    return _WILD in name or bool(_RANGE.search(_plain(name)))


def matching(name: str) -> list[Path]:
    """Lists the files that a pattern names, in order.

    Raises:
        ValueError: naming the first that is missing, and how many there should be; or if a range is empty or endless.
    """
    parts = _RANGE.split(_plain(str(Path(name).expanduser())))
    ends = list(zip(parts[1::3], parts[2::3], strict=True))
    _require_sane(name, [range(int(first), int(last) + 1) for first, last in ends])
    ranges = [_numbers(first, last) for first, last in ends]
    names = ["".join(_woven(parts[::3], chosen)) for chosen in product(*ranges)]
    if _WILD in name:
        paths = sorted(Path(path) for each in names for path in glob.glob(each))
        if not paths:
            raise ValueError(f"{name}: no file fits this pattern")
        return paths
    if missing := [each for each in names if not Path(each).exists()]:
        raise ValueError(f"{name}: {len(missing)} of {len(names)} files are missing, the first is {missing[0]}")
    return [Path(each) for each in names]


def _require_sane(name: str, ranges: Sequence[range]) -> None:
    if any(not numbers for numbers in ranges):
        raise ValueError(f"{name}: a range of this pattern holds no numbers; write the smaller one first")
    if (count := prod(map(len, ranges))) > MOST_FILES:
        raise ValueError(f"{name}: this pattern names {count:,} files, more than {MOST_FILES:,}; write a shorter range")


def _plain(name: str) -> str:
    return name.replace(_OPENING, "{").replace(_CLOSING, "}")


def _numbers(first: str, last: str) -> list[str]:
    """Numbers of a range, as wide as the first one is written."""
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _woven(texts: list[str], numbers: tuple[str, ...]) -> list[str]:
    return [part for pair in zip(texts, [*numbers, ""], strict=True) for part in pair]
