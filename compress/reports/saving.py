"""Writing a page beside the numbers that it was made of."""

from __future__ import annotations

from pathlib import Path

from compress.files.writing import write_text
from compress.reports.html import render_html
from compress.reports.markdown import render_markdown
from compress.reports.page import Page


def save_page(page: Page, out: Path, name: str) -> None:
    """Writes `NAME.md` and `NAME.html` into a folder, which is made where needed.

    Args:
        page: any.
        out: the folder.
        name: of the files.
    """
    write_text(out / f"{name}.md", render_markdown(page))
    write_text(out / f"{name}.html", render_html(page))
