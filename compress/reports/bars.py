"""Bars that HTML draws without SVG: one quantity per model, or a whole in its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Bar:
    """One horizontal bar.

    Attributes:
        name: what stands before it.
        share: of the longest bar beside it.
        text: what stands behind it.
        kind: names its colour: `model` or `baseline`.
    """

    name: str
    share: float
    text: str
    kind: str = "model"


@dataclass(frozen=True)
class Bars:
    """Bars below each other."""

    macro: ClassVar[str] = "bars"
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Tile:
    """One quantity: the model's value large, what it is against the baseline, and a bar per model.

    Attributes:
        label: name of the quantity.
        value: the model's.
        change: against the baseline's; "" without one.
        better: whether the change is one for the better; None: there is none, or none that could be told.
        bars: one per model.
    """

    macro: ClassVar[str] = "tile"
    label: str
    value: str
    change: str
    better: bool | None
    bars: Bars


@dataclass(frozen=True)
class Share:
    """A part of a stacked bar; `width` is in percent of the room for the bar, `kind` names its colour."""

    kind: str
    width: float
    title: str


@dataclass(frozen=True)
class Stacked:
    """A bar made of parts."""

    name: str
    shares: Sequence[Share]
    text: str


@dataclass(frozen=True)
class StackedBars:
    """Stacked bars below each other, on one scale."""

    macro: ClassVar[str] = "stacked_bars"
    bars: Sequence[Stacked]
