"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text


def terminal_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for the terminal; numbers stand on the right."""
    found = Table(title=Text(title), title_style="bold", title_justify="left", header_style="bold")
    for name in header:
        found.add_column(name, justify="left" if name in ("method", "removed") else "right", min_width=len(name))
    for row in rows:
        found.add_row(*row)
    return found
