"""Pages in a terminal: tables, what they say in a sentence, and what they hold for."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Styled

from compress.reports.page import Listing, Page, Section, Table, Text, in_words

_MOST_PROBLEMS = 10


def show(page: Page, console: Console | None = None, *, written: str = "") -> None:
    """Draws a page, the result last.

    Args:
        page: any.
        console: where to draw; standard output when None.
        written: where its files are, if there are any.
    """
    console = console or Console()
    console.print(Styled(page.title, style="bold"))
    if page.context:
        console.print(Styled(page.context, style="dim"))
    if page.numbers:
        console.print(_grid(page.numbers))
    for section in page.sections:
        _show_section(section, console)
    console.print(page.headline, markup=False)
    for condition in page.conditions:
        if condition.in_terminal:
            console.print(f"{condition.name}: {_plain(condition.text)}", style="dim", markup=False)
    _show_problems(page, console)
    if written:
        console.print(f"Written to {written}.", style="dim", markup=False)


def _show_section(section: Section, console: Console) -> None:
    parts = [] if section.detail else list(in_words(section.parts))
    if parts:
        console.print(Styled(section.title, style="bold"))
    for part in parts:
        console.print(_drawn(part))


def _drawn(part: Text | Table | Listing) -> Grid | Styled:
    match part:
        case Text():
            return Styled(_plain(part.text))
        case Table():
            return _grid(part)
        case Listing():
            lines = ([_plain(entry), *(f"  {_plain(line)}" for line in below)] for entry, below in part.entries)
            return Styled("\n".join(line for entry in lines for line in entry))


def _grid(table: Table) -> Grid:
    grid = Grid(header_style="bold")
    shown = [column for column, name in enumerate(table.header) if name not in table.pages_only]
    for column in shown:
        name = table.header[column]
        longest = max(map(len, name.split()), default=0)  # where there is little room, no word is torn apart
        grid.add_column(Styled(name), justify="left" if column < table.left else "right", min_width=longest)
    for row in table.rows:
        cells = [Styled(row[column]) for column in shown]
        grid.add_row(*cells, style="dim" if row[0].startswith(" ") else None)
    return grid


def _show_problems(page: Page, console: Console) -> None:
    if not page.problems:
        return
    console.print(f"Files skipped: {len(page.problems)}", style="yellow")
    for problem in page.problems[:_MOST_PROBLEMS]:
        console.print(f"  {_plain(problem)}", style="yellow", markup=False)
    if len(page.problems) > _MOST_PROBLEMS:
        console.print(f"  and {len(page.problems) - _MOST_PROBLEMS} more, all in the report.", style="yellow")


def _plain(text: str) -> str:
    """Without the backticks around code."""
    return text.replace("`", "")
