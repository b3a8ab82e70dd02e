"""A report as a value: what it says, in the order in which it says it, whoever draws it and wherever.

Whatever is measured builds a `Page`; `markdown.py`, `html.py` and `console.py` each draw any page. A text is plain, but
for backticks around code. A figure is drawn where figures can be; elsewhere its `words` stand in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar, Protocol

from compress.reports.bars import Tile


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code."""

    macro: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header.

    Attributes:
        header: the names of the columns.
        rows: cells as people read them; the first cell of a row that belongs to the one above begins with two spaces.
        left: how many columns, from the first one, are aligned to the left; numbers stand on the right.
        pages_only: names of columns that a terminal leaves out, for want of room.
    """

    macro: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    pages_only: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """Entries with lines below each."""

    macro: ClassVar[str] = "listing"
    entries: Sequence[tuple[str, Sequence[str]]]


class Drawing(Protocol):
    """Geometry, and the macro of `templates/macros.html.j2` that turns it into inline SVG or HTML."""

    macro: ClassVar[str]


@dataclass(frozen=True)
class Figure:
    """A drawing with what explains it.

    Attributes:
        drawing: what is drawn.
        label: what it shows, for those who cannot see it.
        note: how to read it.
        legend: style class and name of each colour.
        words: what stands in its place where nothing can be drawn; None: nothing.
        wide: on a narrow screen it is scrolled instead of shrunk.
    """

    macro: ClassVar[str] = "figure"
    drawing: Drawing
    label: str
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()
    words: Text | Table | Listing | None = None
    wide: bool = False


@dataclass(frozen=True)
class Panel:
    """Parts under a small heading."""

    macro: ClassVar[str] = "panel"
    title: str
    parts: Sequence[Content]


@dataclass(frozen=True)
class Columns:
    """Panels side by side, two in a row, where the screen is wide enough."""

    macro: ClassVar[str] = "columns"
    panels: Sequence[Panel]


Content = Text | Table | Listing | Figure | Panel | Columns


@dataclass(frozen=True)
class Section:
    """Parts under a heading; a terminal leaves out `detail`."""

    title: str
    parts: Sequence[Content]
    detail: bool = False


@dataclass(frozen=True)
class Condition:
    """Something under which the numbers hold; a terminal shows it only where `in_terminal` says so."""

    name: str
    text: str
    in_terminal: bool = False


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: what it is about, in a few words.
        headline: the result, in a sentence.
        sections: in order.
        conditions: under which the numbers hold, in order.
        maker: the command or program whose report it is.
        created: when it was made, ISO 8601; "" if nobody knows.
        context: what was measured on what, in one line.
        tiles: the quantities that people look for first, where figures can be drawn.
        numbers: the table that the report is about. It comes first, but behind the sections where there are tiles.
        problems: files that could not be used, and why.
        footer: where more is to be found.
    """

    title: str
    headline: str
    sections: Sequence[Section]
    conditions: Sequence[Condition]
    maker: str
    created: str = ""
    context: str = ""
    tiles: Sequence[Tile] = ()
    numbers: Table | None = None
    problems: Sequence[str] = ()
    footer: str = ""


def in_words(parts: Iterable[Content]) -> Iterator[Text | Table | Listing]:
    """What is left of parts where nothing can be drawn: texts, tables, and the words of figures."""
    for part in parts:
        match part:
            case Panel():
                yield from in_words(part.parts)
            case Columns():
                yield from in_words(part.panels)
            case Figure():
                yield from in_words([part.words] if part.words else [])
            case _:
                yield part


def code(text: str) -> str:
    """Text that came from outside, between backticks."""
    return "`" + text.replace("`", "'") + "`"


def short_name(name: str) -> str:
    """The last two parts of a folder or Hub id: enough to recognise it."""
    return "/".join(PurePath(name).parts[-2:])
