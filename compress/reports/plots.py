"""Geometry of the report's figures, in pixels of their view box; the templates turn it into inline SVG."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from compress.reports import formats

FIGURE_WIDTH = 1040.0
GUTTER = 92.0  # left of the blocks, for names and the axis
TOP = 14.0
LABEL_ROOM = 18.0
AXIS_STEPS = 5
_INTERVAL_WIDTH = 520.0
_INTERVAL_LEFT = 96.0
_INTERVAL_RIGHT = 24.0
_SPANS_RIGHT = 24.0
_INTERVAL_ROW = 46.0
_INTERVAL_TOP = 18.0
_AXIS_ROOM = 34.0
_PADDING_SHARE = 0.12
_SMALLEST_SPAN = 0.002  # 0.2 points of WER, so that equal models still get an axis
_HEAT_SIDE = 560.0
_HEAT_MARGIN = 34.0
_FAINTEST = 0.06
_SPANS_HEIGHT = 560.0
_THICKEST_SPAN = 12.0
_ROUNDING = 1e-9
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Rect:
    """A filled rectangle; `kind` names its colour, `title` is shown when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True)
class Whisker:
    """A point estimate with its 95 % interval."""

    label: str
    kind: str
    y: float
    low: float
    at: float
    high: float
    text: str


@dataclass(frozen=True)
class IntervalFigure:
    """Error rates, or their difference, on one axis."""

    macro: ClassVar[str] = "interval_plot"
    width: float
    height: float
    ticks: list[Tick]
    whiskers: list[Whisker]
    axis_y: float
    zero: float | None
    unit: str


@dataclass(frozen=True)
class Shade:
    """One value of a matrix: a square whose opacity is its place between the lowest and the highest value."""

    x: float
    y: float
    size: float
    opacity: float
    title: str
    marked: bool


@dataclass(frozen=True)
class HeatMap:
    """Correlation of block inputs (rows) with block outputs (columns); `low` and `high` are the ends of the scale."""

    macro: ClassVar[str] = "heat_plot"
    width: float
    height: float
    shades: list[Shade]
    rows: list[Tick]
    columns: list[Tick]
    low: float
    high: float


def heat_map(matrix: Sequence[Sequence[float]], outlined: Collection[tuple[int, int]] = ()) -> HeatMap:
    """A square matrix between boundaries of blocks, the diagonal left out of the scale.

    Args:
        matrix: `(blocks + 1, blocks + 1)`.
        outlined: row and column of each value that is outlined.
    """
    count = len(matrix)
    step = _HEAT_SIDE / count
    others = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
    low, high = min(others), max(others)

    def shade(i: int, j: int) -> Shade:
        share = min(1.0, (matrix[i][j] - low) / (high - low)) if high > low else 1.0
        title = f"boundaries {i} and {j}: {matrix[i][j]:.4f}"
        opacity = _FAINTEST + (1 - _FAINTEST) * share
        return Shade(_HEAT_MARGIN + j * step, _HEAT_MARGIN + i * step, step - 1, opacity, title, (i, j) in outlined)

    every = math.ceil(LABEL_ROOM / step)
    ticks = [Tick(_HEAT_MARGIN + (i + 0.5) * step, str(i)) for i in range(0, count, every)]
    side = _HEAT_MARGIN + _HEAT_SIDE
    shades = [shade(i, j) for i in range(count) for j in range(count)]
    return HeatMap(side, side, shades, ticks, ticks, low, high)


@dataclass(frozen=True)
class SpansFigure:
    """From which to which step each part of a model was kept; `rows` are the blocks, `ticks` the steps."""

    macro: ClassVar[str] = "spans_plot"
    width: float
    height: float
    bars: list[Rect]
    rows: list[Tick]
    ticks: list[Tick]
    axis_left: float
    axis_y: float


def spans_figure(parts: Sequence[tuple[int, str, str, Sequence[tuple[int, int]]]], steps: int) -> SpansFigure:
    """How parts left over the steps of a selection.

    Args:
        parts: of each, in running order, its block, its module, its name, and first and last step of each time in which
            it was kept.
        steps: of the selection.
    """
    thick = min(_THICKEST_SPAN, _SPANS_HEIGHT / max(1, len(parts)))
    room = FIGURE_WIDTH - GUTTER - _SPANS_RIGHT
    bars, middles = [], dict[int, list[float]]()
    for row, (block, module, name, spans) in enumerate(parts):
        y = TOP + row * thick
        middles.setdefault(block, []).append(y + thick / 2)
        for start, end in spans:
            x, width = GUTTER + room * start / steps, room * (end - start) / steps
            title = f"{name}: kept in steps {start} to {end}"
            bars.append(Rect(x, y, width, thick * (1 - _PADDING_SHARE), module, title))
    axis_y = TOP + len(parts) * thick
    rows = [Tick(sum(ys) / len(ys), f"block {block}") for block, ys in middles.items()]
    ticks = [Tick(GUTTER + room * value / steps, f"{value:g}") for value in nice_ticks(0, steps)]
    return SpansFigure(FIGURE_WIDTH, axis_y + _AXIS_ROOM, bars, rows, ticks, GUTTER, axis_y)


def named_rates_figure(rates: Sequence[tuple[str, str, float, Sequence[float]]]) -> IntervalFigure:
    """Error rates on one axis, in percent.

    Args:
        rates: of each its label, its kind (`model` or `baseline`, which say how it is drawn), the rate as a fraction,
            and the two ends of its interval.
    """
    given = [(label, kind, interval[0], rate, interval[1]) for label, kind, rate, interval in rates]
    return intervals_figure(given, [formats.percent(row[2], 2) for row in rates], with_zero=False, unit="WER, %")


def intervals_figure(
    given: Sequence[tuple[str, str, float, float, float]],
    texts: Sequence[str],
    *,
    with_zero: bool,
    unit: str,
) -> IntervalFigure:
    """Point estimates with their intervals on one axis.

    Args:
        given: of each its label, its kind (which says how it is drawn), and the low end, the value and the high end.
        texts: what is written beside each.
        with_zero: the axis holds zero, and its labels have signs.
        unit: what the axis shows.
    """
    marks = [end for row in given for end in row[2:]] + ([0.0] if with_zero else [])
    low, high = padded_span(min(marks), max(marks), signed=with_zero)
    room = _INTERVAL_WIDTH - _INTERVAL_LEFT - _INTERVAL_RIGHT

    def place(value: float) -> float:
        return _INTERVAL_LEFT + room * (value - low) / (high - low)

    axis_y = _INTERVAL_TOP + len(given) * _INTERVAL_ROW
    whiskers = [
        Whisker(label, kind, _INTERVAL_TOP + (row + 0.5) * _INTERVAL_ROW, place(a), place(b), place(c), texts[row])
        for row, (label, kind, a, b, c) in enumerate(given)
    ]
    ticks = [Tick(place(value), tick_label(value, signed=with_zero)) for value in nice_ticks(low, high)]
    zero = place(0.0) if with_zero else None
    return IntervalFigure(_INTERVAL_WIDTH, axis_y + _AXIS_ROOM, ticks, whiskers, axis_y, zero, unit)


def padded_span(low: float, high: float, *, signed: bool) -> tuple[float, float]:
    """The ends of an axis with some room beside what it shows; without signs it does not reach below zero."""
    room = max(high - low, _SMALLEST_SPAN)
    start = low - _PADDING_SHARE * room
    return (start if signed else max(0.0, start)), high + _PADDING_SHARE * room


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends of an axis."""
    step = nice_step((high - low) / AXIS_STEPS)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in _NICE if power * nice >= rough * (1 - _ROUNDING))


def tick_label(fraction: float, *, signed: bool = False) -> str:
    """A fraction in percent: 0.025 -> "2.5"; with signs "+2.5"."""
    text = f"{round(100 * fraction, 6):g}"
    return text.replace("-", "\u2212") if not signed or fraction <= 0 else f"+{text}"
