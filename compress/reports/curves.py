"""Geometry of curves with intervals: an error rate over a size, a cost or a speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from compress.reports.plots import Tick, nice_ticks, padded_span, tick_label

_WIDTH, _HEIGHT = 520.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 18.0, 18.0, 44.0


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve in pixels, with its interval; `kind` names its colour, `title` is shown at the pointer."""

    x: float
    y: float
    low: float
    high: float
    kind: str
    label: str
    title: str


@dataclass(frozen=True)
class CurveFigure:
    """A curve: `line` as SVG takes it, `level` the height of what it is compared with."""

    macro: ClassVar[str] = "curve_plot"
    width: float
    height: float
    points: list[CurvePoint]
    line: str
    level: float
    columns: list[Tick]
    rows: list[Tick]
    axis_x: float
    axis_y: float
    right: float
    unit: str


def curve_figure(
    points: Sequence[tuple[str, str, float, float, Sequence[float]]], baseline: float, unit: str
) -> CurveFigure:
    """Error rates over something, in order.

    Args:
        points: of each its label, its kind (`model`, `baseline` or `chosen`), its place, its error rate as a fraction,
            and the two ends of that one's interval.
        baseline: the error rate that others are compared with.
        unit: what the places are.
    """
    rates = [end for *_, rate, interval in points for end in (rate, *interval)]
    low, high = padded_span(min(rates), max(rates), signed=False)
    first, last = padded_span(min(point[2] for point in points), max(point[2] for point in points), signed=False)

    def across(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - first) / (last - first)

    def up(rate: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (rate - low) / (high - low)

    drawn = [
        CurvePoint(across(place), up(rate), up(ends[0]), up(ends[1]), kind, label, f"{label}: {tick_label(rate)} %")
        for label, kind, place, rate, ends in points
    ]
    return CurveFigure(
        _WIDTH, _HEIGHT, drawn, " ".join(f"{p.x:.1f},{p.y:.1f}" for p in drawn), up(baseline),
        [Tick(across(value), f"{value:g}") for value in nice_ticks(first, last)],
        [Tick(up(value), tick_label(value)) for value in nice_ticks(low, high)],
        _LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, unit,
    )  # fmt: skip
