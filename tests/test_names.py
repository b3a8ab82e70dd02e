"""No two things of the package share a public name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "compress"
CONVENTIONS = {"logger", "run", "page_of"}
"""What many modules have by the same name because it is the same there: a logger, what a verb does, a result's page."""


def public_names(file: Path) -> Iterator[str]:
    """What a module defines at its top for others."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_public_name_means_one_thing_in_the_whole_house() -> None:
    places: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for name in set(public_names(file)) - CONVENTIONS:
            places.setdefault(name, []).append(file.relative_to(PACKAGE).as_posix())
    twice = {name: files for name, files in places.items() if len(files) > 1 and not name.startswith("_")}
    assert twice == {}
