"""Numbers as people read them: percent, points, millions, mebibytes."""

from __future__ import annotations

_COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTE_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_DIGITS = 3
_SECONDS_PER_HOUR = 3600
_SECONDS_PER_MINUTE = 60
_TIMES = "\u00d7"
_MINUS = "\u2212"


WHOLE_SOURCE = "whole source"
"""What was read where a source has no splits."""


def split(name: str | None) -> str:
    """Names what was read: test -> "split test", None -> "whole source"."""
    return WHOLE_SOURCE if name is None else f"split {name}"


def percent(fraction: float, digits: int = 1) -> str:
    """0.0512 -> "5.1 %"."""
    return f"{100 * fraction:.{digits}f} %"


def points(fraction: float, digits: int = 2) -> str:
    """Difference of two error rates: 0.0091 -> "+0.91", with a true minus sign."""
    text = f"{100 * fraction:+.{digits}f}"
    return text.replace("-", _MINUS)


def interval(ends: list[float], digits: int = 1) -> str:
    """[0.041, 0.063] -> "4.1 to 6.3 %"; one digit from 100 % on."""
    digits = min(digits, 1) if ends[1] >= 1 else digits
    return f"{100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f} %"


def point_interval(ends: list[float]) -> str:
    """[-0.001, 0.012] -> "-0.10 to +1.20"."""
    return f"{points(ends[0])} to {points(ends[1])}"


def count(value: float) -> str:
    """4213456 -> "4.21 M"."""
    return _scaled(value, _COUNT_UNITS, "")


def counted(number: int, thing: str) -> str:
    """1, "error" -> "1 error"; 12000 -> "12,000 errors"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size(value: float) -> str:
    """Bytes: 4213456 -> "4.02 MiB"."""
    return _scaled(value, _BYTE_UNITS, "B")


def times(value: float) -> str:
    """1.4142 -> "1.41x" with a multiplication sign."""
    return f"{value:.2f}{_TIMES}"


def significant(value: float) -> str:
    """Three significant digits: 0.012345 -> "0.0123"."""
    return f"{value:.{_DIGITS}g}"


def duration(seconds: float | None) -> str:
    """9000 -> "2.5 h", 90 -> "1.5 min", 12 -> "12.0 s", None -> "length unknown"."""
    if seconds is None:
        return "length unknown"
    if seconds >= _SECONDS_PER_HOUR:
        return f"{seconds / _SECONDS_PER_HOUR:.1f} h"
    if seconds >= _SECONDS_PER_MINUTE:
        return f"{seconds / _SECONDS_PER_MINUTE:.1f} min"
    return f"{seconds:.1f} s"


def _scaled(value: float, units: tuple[tuple[float, str], ...], base: str) -> str:
    for step, name in units:
        if abs(value) >= step:
            return f"{_fixed(value / step)} {name}"
    return f"{value:.0f} {base}".strip()


def _fixed(value: float) -> str:
    """Three significant digits without an exponent: 4.21, 42.1, 421."""
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, _DIGITS - whole)}f}"
