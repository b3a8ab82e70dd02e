"""The quantities that people look for first: the model's, what it is against the baseline, and a bar for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.evaluation.report import ROLES, Report
from compress.reports import formats
from compress.reports.bars import Bar, Bars, Tile


def tiles(report: Report, whole: str = "") -> list[Tile]:
    """Six quantities of the model, and of the baseline if there is one.

    Args:
        report: of the evaluation.
        whole: words for how MACs and speed were measured, where that is not how the model is used.
    """
    shared = report.get("ratio")
    return [
        _tile(report, "Word error rate", ("wer",), lambda v: formats.percent(v, 2), _wer_change(report)),
        _tile(report, "Parameters", ("parameters", "total"), formats.count, _size_change(shared, "parameters")),
        _tile(
            report,
            f"MACs per second of audio{whole}",
            ("macs_per_second",),
            formats.count,
            _size_change(shared, "macs"),
        ),
        _tile(report, f"Real-time factor{whole}", ("rtf",), formats.significant, _speed_change(shared)),
        _tile(report, "On disk", ("bytes",), formats.size, _size_change(shared, "bytes")),
        _tile(report, "Peak memory", ("peak_memory_bytes",), formats.size, _size_change(shared, "memory")),
    ]


def _tile(
    report: Report,
    label: str,
    path: tuple[str, ...],
    written: Callable[[float], str],
    change: tuple[str, bool | None],
) -> Tile:
    values = {role: _at(report[role], path) for role in ROLES if role in report}
    longest = max(values.values()) or 1.0
    bars = Bars([Bar(role, value / longest, written(value), role) for role, value in values.items()])
    return Tile(label, written(values["model"]), *change, bars)


def _at(entry: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = entry
    for key in path:
        value = value[key]
    return float(value)


def _wer_change(report: Report) -> tuple[str, bool | None]:
    if "difference" not in report:
        return formats.interval(report["model"]["wer_ci95"]), None
    low, high = report["difference"]["wer_ci95"]
    better = True if high < 0 else False if low > 0 else None
    return f"{formats.points(report['difference']['wer'])} points", better


def _size_change(shared: dict[str, float] | None, key: str) -> tuple[str, bool | None]:
    if shared is None:
        return "", None
    return f"{formats.percent(shared[key])} of baseline", _verdict(1.0 - shared[key])


def _speed_change(shared: dict[str, float] | None) -> tuple[str, bool | None]:
    if shared is None:
        return "", None
    return f"{formats.times(shared['speed'])} as fast", _verdict(shared["speed"] - 1.0)


def _verdict(gain: float) -> bool | None:
    return None if gain == 0 else gain > 0
