"""Pages as one self-contained HTML file: style and figures inline, no script, nothing fetched."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compress.reports.page import Page

_TEMPLATE = "page.html.j2"
_MACROS = "macros.html.j2"


def render_html(page: Page) -> str:
    """Draws a page, for light and dark screens and for paper."""
    return _environment().get_template(_TEMPLATE).render(page=page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("compress.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"drawn": _drawn, "px": lambda value: f"{value:.1f}".removesuffix(".0")}
    return environment


def _drawn(part: Any, *arguments: Any) -> Any:
    """A part of a page, or a drawing, by the macro that it names."""
    return getattr(_environment().get_template(_MACROS).module, part.macro)(part, *arguments)
