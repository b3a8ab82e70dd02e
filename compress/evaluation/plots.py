"""Geometry of the report's figures, in pixels of their view box; the templates turn it into inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.evaluation import formats
from compress.evaluation.report import Report
from compress.structure import MODULES

FIGURE_WIDTH = 1040.0
_GUTTER = 92.0  # left of the blocks, for names and the axis
_RIGHT_MARGIN = 8.0
_TOP = 14.0
_BARS_HEIGHT = 190.0
_HEAT_TOP = _TOP + _BARS_HEIGHT + 44.0
_CELL_HEIGHT = 44.0
_CELL_GAP = 4.0
_WIDEST_BLOCK = 160.0
_NARROWEST_LABELLED_CELL = 34.0
_LABEL_ROOM = 18.0
_LABEL_ABOVE = 4.0
_LABEL_BELOW = 15.0
_AXIS_STEPS = 5
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
class Cell:
    """One module of one block: its frame, how much of it is filled, and what is written in it."""

    frame: Rect
    fill: Rect
    label: str
    label_y: float
    label_inside: bool  # on the fill, for want of room above it
    state: str  # "kept", "removed" or "dropped"


@dataclass(frozen=True)
class BlocksFigure:
    """Parameters per block before and after, above what each module kept; columns of both parts line up."""

    width: float
    height: float
    ticks: list[Tick]
    bars: list[Rect]
    outlines: list[Rect]
    cells: list[Cell]
    rows: list[Tick]
    columns: list[Tick]
    columns_y: float
    axis_left: float
    axis_right: float
    cell_height: float


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

    width: float
    height: float
    shades: list[Shade]
    rows: list[Tick]
    columns: list[Tick]
    low: float
    high: float


def heat_map(matrix: Sequence[Sequence[float]], runs: Sequence[tuple[int, int]] = ()) -> HeatMap:
    """A square matrix between boundaries of blocks, the diagonal left out of the scale.

    Args:
        matrix: `(blocks + 1, blocks + 1)`.
        runs: first and last number of blocks, from 1; the correlation of their input and output is outlined.
    """
    count = len(matrix)
    step = _HEAT_SIDE / count
    others = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
    low, high = min(others), max(others)
    outlined = {(first - 1, last) for first, last in runs}

    def shade(i: int, j: int) -> Shade:
        share = min(1.0, (matrix[i][j] - low) / (high - low)) if high > low else 1.0
        title = f"boundaries {i} and {j}: {matrix[i][j]:.4f}"
        opacity = _FAINTEST + (1 - _FAINTEST) * share
        return Shade(_HEAT_MARGIN + j * step, _HEAT_MARGIN + i * step, step - 1, opacity, title, (i, j) in outlined)

    every = math.ceil(_LABEL_ROOM / step)
    ticks = [Tick(_HEAT_MARGIN + (i + 0.5) * step, str(i)) for i in range(0, count, every)]
    side = _HEAT_MARGIN + _HEAT_SIDE
    shades = [shade(i, j) for i in range(count) for j in range(count)]
    return HeatMap(side, side, shades, ticks, ticks, low, high)


@dataclass(frozen=True)
class SpansFigure:
    """From which to which step each part of a model was kept; `rows` are the blocks, `ticks` the steps."""

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
    room = FIGURE_WIDTH - _GUTTER - _SPANS_RIGHT
    bars, middles = [], dict[int, list[float]]()
    for row, (block, module, name, spans) in enumerate(parts):
        y = _TOP + row * thick
        middles.setdefault(block, []).append(y + thick / 2)
        for start, end in spans:
            x, width = _GUTTER + room * start / steps, room * (end - start) / steps
            title = f"{name}: kept in steps {start} to {end}"
            bars.append(Rect(x, y, width, thick * (1 - _PADDING_SHARE), module, title))
    axis_y = _TOP + len(parts) * thick
    rows = [Tick(sum(ys) / len(ys), f"block {block}") for block, ys in middles.items()]
    ticks = [Tick(_GUTTER + room * value / steps, f"{value:g}") for value in _nice_ticks(0, steps)]
    return SpansFigure(FIGURE_WIDTH, axis_y + _AXIS_ROOM, bars, rows, ticks, _GUTTER, axis_y)


def blocks_figure(model: dict[str, Any]) -> BlocksFigure:
    """What each block kept, from `report["model"]`."""
    blocks = model["blocks"]
    step = min(_WIDEST_BLOCK, (FIGURE_WIDTH - _GUTTER - _RIGHT_MARGIN) / max(1, len(blocks)))
    before = [sum(row[name] for name in MODULES) for row in model["parameters"]["original_blocks"]]
    top, ticks = _count_axis(max(before, default=1))
    outlines, bars, cells = [], [], []
    for index, block in enumerate(blocks):
        x, width = _GUTTER + index * step, step - _CELL_GAP
        title = _block_title(index, block, before[index])
        outlines.append(_standing(x, width, 0.0, before[index] / top, "outline", title))
        bars += _stack(x, width, index, block, top)
        cells += [_cell(x, width, row, index, name, block) for row, name in enumerate(MODULES)]
    every = math.ceil(_NARROWEST_LABELLED_CELL / 2 / step)
    bottom = _HEAT_TOP + len(MODULES) * (_CELL_HEIGHT + _CELL_GAP)
    return BlocksFigure(
        width=FIGURE_WIDTH,
        height=bottom + 8,
        ticks=ticks,
        bars=bars,
        outlines=outlines,
        cells=cells,
        rows=[Tick(_HEAT_TOP + (row + 0.5) * (_CELL_HEIGHT + _CELL_GAP), name) for row, name in enumerate(MODULES)],
        columns=[Tick(_GUTTER + (i + 0.5) * step - _CELL_GAP / 2, str(i)) for i in range(0, len(blocks), every)],
        columns_y=_TOP + _BARS_HEIGHT + 18,
        axis_left=_GUTTER,
        axis_right=_GUTTER + len(blocks) * step - _CELL_GAP,
        cell_height=_CELL_HEIGHT,
    )


def rates_figure(report: Report) -> IntervalFigure:
    """WER of the model and the baseline with their intervals, in percent."""
    given = [
        (role, role, report[role]["wer_ci95"][0], report[role]["wer"], report[role]["wer_ci95"][1])
        for role in ("baseline", "model")
        if role in report
    ]
    texts = [formats.percent(report[role]["wer"], 2) for role, *_ in given]
    return _intervals(given, texts, with_zero=False, unit="WER, %")


def named_rates_figure(rates: Sequence[tuple[str, str, float, Sequence[float]]]) -> IntervalFigure:
    """Error rates on one axis, in percent.

    Args:
        rates: of each its label, its kind (`model` or `baseline`, which say how it is drawn), the rate as a fraction,
            and the two ends of its interval.
    """
    given = [(label, kind, interval[0], rate, interval[1]) for label, kind, rate, interval in rates]
    return _intervals(given, [formats.percent(row[2], 2) for row in rates], with_zero=False, unit="WER, %")


def sizes_figure(report: Report) -> IntervalFigure:
    """WER at each size of an elastic model with its interval, in percent, the full size first."""
    entries = list(reversed(report["sizes"]))
    given = [(f"size {one['size']}", "model", one["wer_ci95"][0], one["wer"], one["wer_ci95"][1]) for one in entries]
    return _intervals(given, [formats.percent(one["wer"], 2) for one in entries], with_zero=False, unit="WER, %")


def difference_figure(report: Report) -> IntervalFigure:
    """The paired difference in points of WER, with zero on the axis."""
    low, high = report["difference"]["wer_ci95"]
    value = report["difference"]["wer"]
    given = [("model \u2212 baseline", "difference", low, value, high)]
    return _intervals(given, [f"{formats.points(value)} points"], with_zero=True, unit="difference in WER, points")


def _intervals(
    given: Sequence[tuple[str, str, float, float, float]],
    texts: Sequence[str],
    *,
    with_zero: bool,
    unit: str,
) -> IntervalFigure:
    marks = [end for row in given for end in row[2:]] + ([0.0] if with_zero else [])
    low, high = _span(min(marks), max(marks), with_zero)
    room = _INTERVAL_WIDTH - _INTERVAL_LEFT - _INTERVAL_RIGHT

    def place(value: float) -> float:
        return _INTERVAL_LEFT + room * (value - low) / (high - low)

    axis_y = _INTERVAL_TOP + len(given) * _INTERVAL_ROW
    whiskers = [
        Whisker(label, kind, _INTERVAL_TOP + (row + 0.5) * _INTERVAL_ROW, place(a), place(b), place(c), texts[row])
        for row, (label, kind, a, b, c) in enumerate(given)
    ]
    ticks = [Tick(place(value), _tick_label(value, with_zero)) for value in _nice_ticks(low, high)]
    zero = place(0.0) if with_zero else None
    return IntervalFigure(_INTERVAL_WIDTH, axis_y + _AXIS_ROOM, ticks, whiskers, axis_y, zero, unit)


def _span(low: float, high: float, signed: bool) -> tuple[float, float]:
    room = max(high - low, _SMALLEST_SPAN)
    start = low - _PADDING_SHARE * room
    return (start if signed else max(0.0, start)), high + _PADDING_SHARE * room


def _nice_ticks(low: float, high: float) -> list[float]:
    step = _nice_step((high - low) / _AXIS_STEPS)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in _NICE if power * nice >= rough * (1 - _ROUNDING))


def _tick_label(fraction: float, signed: bool) -> str:
    text = f"{round(100 * fraction, 6):g}"
    return text.replace("-", "\u2212") if not signed or fraction <= 0 else f"+{text}"


def _count_axis(highest: int) -> tuple[float, list[Tick]]:
    """Top of the parameter axis and its ticks, bottom first."""
    step = _nice_step(max(highest, 1) / _AXIS_STEPS)
    steps = math.ceil(max(highest, 1) / step)
    top = step * steps
    return top, [Tick(_level(number / steps), formats.count(number * step)) for number in range(steps + 1)]


def _level(share: float) -> float:
    return _TOP + _BARS_HEIGHT * (1 - share)


def _standing(x: float, width: float, start: float, end: float, kind: str, title: str) -> Rect:
    """A bar from one share of the axis to another."""
    return Rect(x, _level(end), width, _BARS_HEIGHT * (end - start), kind, title)


def _stack(x: float, width: float, index: int, block: dict[str, Any] | None, top: float) -> list[Rect]:
    bars, below = [], 0
    for name in MODULES if block else ():
        assert block is not None
        now, before = block[name]["parameters"]
        title = f"block {index}, {name}: {now:,} of {before:,} parameters"
        if now:
            bars.append(_standing(x, width, below / top, (below + now) / top, name, title))
        below += now
    return bars


def _cell(x: float, width: float, row: int, index: int, name: str, block: dict[str, Any] | None) -> Cell:
    y = _HEAT_TOP + row * (_CELL_HEIGHT + _CELL_GAP)
    kept, original = block[name]["units"] if block else (0, 1)
    share = kept / max(1, original)
    state = "dropped" if block is None else "kept" if kept else "removed"
    outcome = "whole block dropped" if block is None else f"{kept} of {original} units kept"
    title = f"block {index}, {name}: {outcome}"
    filled = _CELL_HEIGHT * share
    level, inside = y + _CELL_HEIGHT - filled, _CELL_HEIGHT - filled < _LABEL_ROOM
    return Cell(
        frame=Rect(x, y, width, _CELL_HEIGHT, name, title),
        fill=Rect(x, level, width, filled, name, title),
        label=f"{100 * share:.0f}" if state == "kept" and width >= _NARROWEST_LABELLED_CELL - _CELL_GAP else "",
        label_y=level + (_LABEL_BELOW if inside else -_LABEL_ABOVE),
        label_inside=inside,
        state=state,
    )


def _block_title(index: int, block: dict[str, Any] | None, before: int) -> str:
    now = sum(block[name]["parameters"][0] for name in MODULES) if block else 0
    state = "dropped, " if block is None else ""
    return f"block {index}: {state}{now:,} of {before:,} parameters"
