"""Pages as Markdown that reads well in a repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compress.reports.page import Condition, Listing, Page, Table, Text, in_words


def render_markdown(page: Page) -> str:
    """Writes a page as Markdown: title, headline, numbers, sections, conditions."""
    return "\n\n".join(_parts(page)) + "\n"


def escape(text: str) -> str:
    """Text that Markdown takes as it is, but for backticks, between which nothing is escaped."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table.

    Args:
        header: the names of the columns.
        rows: the cells.
        left: how many columns are aligned to the left; the others are aligned to the right.
    """
    rules = ["---" if column < left else "---:" for column in range(len(header))]
    lines = [[_cell(cell) for cell in header], rules, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return escape(text.strip().replace("`", "'"))


def _parts(page: Page) -> Iterator[str]:
    yield f"# {escape(page.title)}"
    yield from (escape(text) for text in (page.context, page.headline) if text)
    if page.numbers:
        yield _drawn(page.numbers)
    for section in page.sections:
        if parts := [_drawn(part) for part in in_words(section.parts)]:
            yield from (f"## {escape(section.title)}", *parts)
    if page.conditions or page.problems:
        problems = [Condition("Skipped", problem) for problem in page.problems]
        yield "## Conditions"
        yield "\n".join(f"- {line.name}: {escape(line.text)}" for line in (*page.conditions, *problems))


def _drawn(part: Text | Table | Listing) -> str:
    match part:
        case Text():
            return escape(part.text)
        case Table():
            return table(part.header, part.rows, part.left)
        case Listing():
            lines = (
                [f"- {escape(entry)}", *(f"  - {escape(line)}" for line in below)] for entry, below in part.entries
            )
            return "\n".join(line for entry in lines for line in entry)
