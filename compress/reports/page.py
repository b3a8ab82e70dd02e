"""Pages: where their templates lie, and what these can call."""

from __future__ import annotations

from functools import cache
from pathlib import PurePath

from jinja2 import Environment, PackageLoader, StrictUndefined

from compress.reports import formats


def short_name(name: str) -> str:
    """The last two parts of a folder or Hub id: enough to recognise it."""
    return "/".join(PurePath(name).parts[-2:])


@cache
def environment() -> Environment:
    """Where the templates of pages lie, and what they can call."""
    environment = Environment(
        loader=PackageLoader("compress.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": formats.percent,
        "interval": formats.interval,
        "count": formats.count,
        "size": formats.size,
        "duration": formats.duration,
        "short_name": short_name,
        "px": lambda value: f"{value:.1f}".removesuffix(".0"),
    }
    return environment
