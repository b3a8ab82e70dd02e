"""Geometry of the figures of an evaluation: blocks, error rates, their difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from compress.evaluation.report import ROLES, Report
from compress.reports import formats
from compress.reports.plots import (
    AXIS_STEPS,
    FIGURE_WIDTH,
    GUTTER,
    LABEL_ROOM,
    TOP,
    IntervalFigure,
    Rect,
    Tick,
    intervals_figure,
    named_rates_figure,
    nice_step,
)
from compress.structure import MODULES

_RIGHT_MARGIN = 8.0
_BARS_HEIGHT = 190.0
_HEAT_TOP = TOP + _BARS_HEIGHT + 44.0
_CELL_HEIGHT = 44.0
_CELL_GAP = 4.0
_WIDEST_BLOCK = 160.0
_NARROWEST_LABELLED_CELL = 34.0
_LABEL_ABOVE = 4.0
_LABEL_BELOW = 15.0


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

    macro: ClassVar[str] = "blocks_plot"
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


def blocks_figure(model: dict[str, Any]) -> BlocksFigure:
    """What each block kept, from `report["model"]`."""
    blocks = model["blocks"]
    step = min(_WIDEST_BLOCK, (FIGURE_WIDTH - GUTTER - _RIGHT_MARGIN) / max(1, len(blocks)))
    before = [sum(row[name] for name in MODULES) for row in model["parameters"]["original_blocks"]]
    top, ticks = _count_axis(max(before, default=1))
    outlines, bars, cells = [], [], []
    for index, block in enumerate(blocks):
        x, width = GUTTER + index * step, step - _CELL_GAP
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
        columns=[Tick(GUTTER + (i + 0.5) * step - _CELL_GAP / 2, str(i)) for i in range(0, len(blocks), every)],
        columns_y=TOP + _BARS_HEIGHT + 18,
        axis_left=GUTTER,
        axis_right=GUTTER + len(blocks) * step - _CELL_GAP,
        cell_height=_CELL_HEIGHT,
    )


def rates_figure(report: Report) -> IntervalFigure:
    """WER of the model and the baseline with their intervals, in percent."""
    roles = [role for role in reversed(ROLES) if role in report]
    return named_rates_figure([(role, role, report[role]["wer"], report[role]["wer_ci95"]) for role in roles])


def difference_figure(report: Report) -> IntervalFigure:
    """The paired difference in points of WER, with zero on the axis."""
    low, high = report["difference"]["wer_ci95"]
    value = report["difference"]["wer"]
    given = [("model \u2212 baseline", "difference", low, value, high)]
    return intervals_figure(
        given, [f"{formats.points(value)} points"], with_zero=True, unit="difference in WER, points"
    )


def _count_axis(highest: int) -> tuple[float, list[Tick]]:
    """Top of the parameter axis and its ticks, bottom first."""
    step = nice_step(max(highest, 1) / AXIS_STEPS)
    steps = math.ceil(max(highest, 1) / step)
    top = step * steps
    return top, [Tick(_level(number / steps), formats.count(number * step)) for number in range(steps + 1)]


def _level(share: float) -> float:
    return TOP + _BARS_HEIGHT * (1 - share)


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
    level, inside = y + _CELL_HEIGHT - filled, _CELL_HEIGHT - filled < LABEL_ROOM
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
