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
_HEAT_HEIGHT = 560.0
_HEAT_MARGIN = 34.0
_SCALE_ROOM = 150.0  # right of a heat map, for its scale
_SCALE_WIDTH, _SCALE_STEPS = 22.0, 28
_WIDE_ROW = 34.0
_LETTER = 7.2  # the widest that names are on average, at 13 px
_LONGEST_NAME = 40
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
    """One value of a matrix: a cell whose opacity is its place between the lowest and the highest value."""

    x: float
    y: float
    width: float
    height: float
    opacity: float
    title: str
    marked: bool


@dataclass(frozen=True)
class HeatMap:
    """Correlation of block inputs (rows) with block outputs (columns); `low` and `high` are the ends of the scale.

    `scale` are the shades between them, one above another, `marks` their labels, which stand at `marks_x`.
    """

    macro: ClassVar[str] = "heat_plot"
    width: float
    height: float
    shades: list[Shade]
    rows: list[Tick]
    columns: list[Tick]
    scale: list[Shade]
    marks: list[Tick]
    marks_x: float
    low: float
    high: float


def heat_map(matrix: Sequence[Sequence[float]], outlined: Collection[tuple[int, int]] = ()) -> HeatMap:
    """A square matrix between boundaries of blocks, the diagonal left out of the scale.

    Args:
        matrix: `(blocks + 1, blocks + 1)`.
        outlined: row and column of each value that is outlined.
    """
    count = len(matrix)
    across, down = (FIGURE_WIDTH - _HEAT_MARGIN - _SCALE_ROOM) / count, _HEAT_HEIGHT / count
    others = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
    low, high = min(others), max(others)

    def shade(i: int, j: int) -> Shade:
        share = min(1.0, (matrix[i][j] - low) / (high - low)) if high > low else 1.0
        title = f"boundaries {i} and {j}: {matrix[i][j]:.4f}"
        x, y = _HEAT_MARGIN + j * across, _HEAT_MARGIN + i * down
        return Shade(x, y, across - 1, down - 1, _opacity(share), title, (i, j) in outlined)

    def ticks(step: float) -> list[Tick]:
        every = math.ceil(LABEL_ROOM / step)
        return [Tick(_HEAT_MARGIN + (i + 0.5) * step, str(i)) for i in range(0, count, every)]

    shades = [shade(i, j) for i in range(count) for j in range(count)]
    scale, marks = _scale(low, high)
    return HeatMap(
        FIGURE_WIDTH, _HEAT_MARGIN + _HEAT_HEIGHT + 10, shades, ticks(down), ticks(across),
        scale, marks, scale[0].x + _SCALE_WIDTH + 8, low, high,
    )  # fmt: skip


def _opacity(share: float) -> float:
    return _FAINTEST + (1 - _FAINTEST) * share


def _scale(low: float, high: float) -> tuple[list[Shade], list[Tick]]:
    """What the shades of a heat map mean: from the lowest value at the bottom to the highest at the top."""
    x, step = FIGURE_WIDTH - _SCALE_ROOM + 34, _HEAT_HEIGHT / _SCALE_STEPS
    tops = [_HEAT_MARGIN + number * step for number in range(_SCALE_STEPS)]
    shares = [1 - number / (_SCALE_STEPS - 1) for number in range(_SCALE_STEPS)]
    shades = [
        Shade(x, top, _SCALE_WIDTH, step, _opacity(share), f"{low + share * (high - low):.4f}", False)
        for top, share in zip(tops, shares, strict=True)
    ]
    marks = [
        Tick(_HEAT_MARGIN + (1 - share) * _HEAT_HEIGHT, f"{low + share * (high - low):.3f}")
        for share in (1, 0.75, 0.5, 0.25, 0)
    ]
    return shades, marks


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


def named_rates_figure(
    rates: Sequence[tuple[str, str, float, Sequence[float]]], *, wide: bool = False
) -> IntervalFigure:
    """Error rates on one axis, in percent.

    Args:
        rates: of each its label, its kind (`model` or `baseline`, which say how it is drawn), the rate as a fraction,
            and the two ends of its interval.
        wide: takes the whole width of a page, not half of it.
    """
    given = [(label, kind, interval[0], rate, interval[1]) for label, kind, rate, interval in rates]
    texts = [formats.percent(row[2], 2) for row in rates]
    return intervals_figure(given, texts, with_zero=False, unit="WER, %", wide=wide)


def intervals_figure(
    given: Sequence[tuple[str, str, float, float, float]],
    texts: Sequence[str],
    *,
    with_zero: bool,
    unit: str,
    wide: bool = False,
) -> IntervalFigure:
    """Point estimates with their intervals on one axis.

    Args:
        given: of each its label, its kind (which says how it is drawn), and the low end, the value and the high end.
        texts: what is written beside each.
        with_zero: the axis holds zero, and its labels have signs.
        unit: what the axis shows.
        wide: takes the whole width of a page, not half of it.
    """
    marks = [end for row in given for end in row[2:]] + ([0.0] if with_zero else [])
    low, high = padded_span(min(marks), max(marks), signed=with_zero)
    width, height = (FIGURE_WIDTH, _WIDE_ROW) if wide else (_INTERVAL_WIDTH, _INTERVAL_ROW)
    names = [_shortened(row[0]) for row in given]
    left = max(_INTERVAL_LEFT, _LETTER * max(map(len, names)))

    def place(value: float) -> float:
        return left + (width - left - _INTERVAL_RIGHT) * (value - low) / (high - low)

    axis_y = _INTERVAL_TOP + len(given) * height
    whiskers = [
        Whisker(name, kind, _INTERVAL_TOP + (row + 0.5) * height, place(a), place(b), place(c), texts[row])
        for row, (name, (_, kind, a, b, c)) in enumerate(zip(names, given, strict=True))
    ]
    ticks = [Tick(place(value), tick_label(value, signed=with_zero)) for value in nice_ticks(low, high)]
    zero = place(0.0) if with_zero else None
    return IntervalFigure(width, axis_y + _AXIS_ROOM, ticks, whiskers, axis_y, zero, unit)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"


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
