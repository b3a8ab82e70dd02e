"""No two things of the package share a public name, and no old name leads to a module that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "compress"
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


def modules_in(cell: str) -> Iterator[str]:
    """The names of a cell of the table in CONTRIBUTING.md; `.name` stands in the package of the name before it."""
    package = ""
    for name in re.findall(r"`([\w.]+)`", cell):
        if name.startswith("."):
            yield package + name
        elif "." in name:
            package = name.rpartition(".")[0]
            yield name


def is_module(name: str) -> bool:
    """Whether there is such a module or package."""
    place = REPOSITORY.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def test_old_import_paths_end_at_modules_that_are_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text.partition("| was | is |\n|---|---|\n")[2], re.MULTILINE)
    names = [name for _, now in rows for name in modules_in(now)]
    assert len(names) > 60
    assert [name for name in names if not is_module(name)] == []
