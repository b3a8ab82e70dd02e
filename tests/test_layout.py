"""The house: which room may import which, named floor by floor, and how long its files are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "compress"
FLOORS = (
    ("files", "structure", "config", "machine"),
    ("reports", "conformers", "data"),
    ("surgery",),
    ("running",),
    ("cost",),
    ("deciding",),
    ("model",),
    ("checkpoint",),
    ("elastic/supernet", "elastic", "training/loop"),
    ("evaluation",),
    ("training",),
    ("search",),
    ("", "demo", "layers"),
    ("cli",),
)
"""A room imports from floors above its own line only; "" is what `import compress` gives, and `__main__`."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_FILE = 400
LOOSE_FILES = 6


def room_of(module: str) -> str:
    """`compress.model.card` is in the room `model`, `compress.cost` is one of its own."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    folder = path if path.is_dir() else path.parent
    return folder.relative_to(PACKAGE).as_posix() if folder != PACKAGE else path.name if path != PACKAGE else ""


def modules(node: ast.AST) -> Iterator[str]:
    """What a statement imports of the package, each as far as it is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            inner = PACKAGE.parent.joinpath(*node.module.split("."), alias.name)
            yield f"{node.module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else node.module


def arrows() -> Iterator[tuple[str, str, str]]:
    """`(file, its room, the room that it imports from)`, of every import there is, also those inside functions."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        own = "" if file.name in ("__init__.py", "__main__.py") and file.parent == PACKAGE else room_of(name)
        own = file.parent.relative_to(PACKAGE).as_posix() if file.parent != PACKAGE else own
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in modules(node):
                if module.split(".")[0] == PACKAGE.name and room_of(module) != own:
                    yield file.relative_to(PACKAGE).as_posix(), own, room_of(module)


def test_no_import_climbs_and_floors_hold_no_circle() -> None:
    """Verbs are at the top, and `__main__` calls them: with that exception every arrow points to a lower floor."""
    climbing = [
        f"{file} ({own}) imports {other}"
        for file, own, other in arrows()
        if FLOOR[own] <= FLOOR[other] and file != "__main__.py"
    ]
    assert not climbing


def test_every_room_has_a_floor() -> None:
    rooms = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE}
    loose = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert rooms | loose | {""} == set(FLOOR)
    assert len(loose) <= LOOSE_FILES


@pytest.mark.parametrize("folder", ["compress", "recipes", "tests", "tools"])
def test_files_are_short(folder: str) -> None:
    lengths = {
        file.relative_to(PACKAGE.parent).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in (PACKAGE.parent / folder).rglob("*.py")
        if "fixtures" not in file.parts
    }
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_FILE} == {}
