"""Geometry of the figure of one utterance, in pixels: waveform, blank, frames that ran deep, words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from compress.reports.plots import FIGURE_WIDTH, Rect, Tick

_LEFT = 72.0
_RIGHT = 12.0
_WAVE_TOP, _WAVE_HEIGHT = 14.0, 90.0
_BLANK_TOP, _BLANK_HEIGHT = 124.0, 90.0
_DEEP_TOP, _DEEP_HEIGHT = 228.0, 20.0
_WORDS_Y = (268.0, 284.0)  # neighbours stand on two levels
_AXIS_Y = 296.0
_HEIGHT = 318.0
_SECONDS_PER_TICK = 1.0
_QUIET = 1e-6


@dataclass(frozen=True)
class UtteranceFigure:
    """One utterance over time; `wave`, `blank` are points of an outline and of a line, as SVG takes them."""

    macro: ClassVar[str] = "utterance_plot"
    width: float
    height: float
    left: float
    right: float
    wave: str
    blank: str
    threshold_y: float
    deep: list[Rect]
    words: list[tuple[float, float, str]]
    ticks: list[Tick]
    axis_y: float
    names: list[Tick]


def utterance_figure(example: dict[str, Any]) -> UtteranceFigure:
    """The figure of one utterance.

    Args:
        example: what skipping did with it: `seconds`; `wave`, pairs of lowest and highest samples; per frame `blank`,
            its probability, and `kept`, 1 where the frame ran deep; `threshold`; `words`, each with its second.
    """
    seconds, blank = float(example["seconds"]), example["blank"]
    step = (FIGURE_WIDTH - _LEFT - _RIGHT) / max(1, len(blank))

    def at(second: float) -> float:
        return _LEFT + (FIGURE_WIDTH - _LEFT - _RIGHT) * second / seconds

    words = [
        (at(second), _WORDS_Y[number % len(_WORDS_Y)], word) for number, (word, second) in enumerate(example["words"])
    ]
    return UtteranceFigure(
        width=FIGURE_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=FIGURE_WIDTH - _RIGHT,
        wave=_points(_outline(example["wave"])),
        blank=_points((_LEFT + (frame + 0.5) * step, _level(value)) for frame, value in enumerate(blank)),
        threshold_y=_level(example["threshold"]),
        deep=list(_deep(example["kept"], step)),
        words=words,
        ticks=[Tick(at(second), f"{second:g} s") for second in _every_second(seconds)],
        axis_y=_AXIS_Y,
        names=[
            Tick(_WAVE_TOP + _WAVE_HEIGHT / 2, "speech"),
            Tick(_BLANK_TOP + _BLANK_HEIGHT / 2, "blank"),
            Tick(_DEEP_TOP + _DEEP_HEIGHT / 2, "all blocks"),
            Tick(_WORDS_Y[0], "words"),
        ],
    )


def _level(probability: float) -> float:
    return _BLANK_TOP + _BLANK_HEIGHT * (1 - probability)


def _outline(wave: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    """Along the highest samples, and back along the lowest."""
    loudest = max((max(abs(low), abs(high)) for low, high in wave), default=0.0) or _QUIET
    step = (FIGURE_WIDTH - _LEFT - _RIGHT) / max(1, len(wave))
    middle = _WAVE_TOP + _WAVE_HEIGHT / 2

    def place(column: int, value: float) -> tuple[float, float]:
        return _LEFT + (column + 0.5) * step, middle - value / loudest * _WAVE_HEIGHT / 2

    yield from (place(column, high) for column, (_, high) in enumerate(wave))
    yield from (place(column, wave[column][0]) for column in reversed(range(len(wave))))


def _deep(kept: Sequence[int], step: float) -> Iterator[Rect]:
    first = 0
    for deep, run in groupby(kept):
        count = len(list(run))
        if deep:
            title = f"frames {first} to {first + count - 1} went through all blocks"
            yield Rect(_LEFT + first * step, _DEEP_TOP, count * step, _DEEP_HEIGHT, "deep", title)
        first += count


def _every_second(seconds: float) -> list[float]:
    return [number * _SECONDS_PER_TICK for number in range(int(seconds / _SECONDS_PER_TICK) + 1)]


def _points(places: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
