"""Prints how the house stands: which room imports which, and how long functions and files are.

    python -m tools.house graph
    python -m tools.house figures --folders [compress,recipes]

`graph` prints the rooms of the package (its folders, and the files beside them) from the ground floor up, each with the
rooms that it imports from; imports inside functions count. tests/test_layout.py refuses an import that climbs.
`figures` prints the lines of functions (median, 90 %, the longest), the longest files, and the public names without a
docstring.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tools.commands import main

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "compress"
ROOT = ""
"""The room of what `import compress` gives, and of `__main__`."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Arrow:
    """An import of one room from another.

    Attributes:
        file: Where it stands.
        room: The room of that file.
        other: The room that is imported from.
    """

    file: str
    room: str
    other: str


def room_of(module: str) -> str:
    """`compress.model.card` is in the room `model`, `compress.cost` is one of its own."""
    path = REPOSITORY.joinpath(*module.split("."))
    folder = path if path.is_dir() else path.parent
    if folder != PACKAGE:
        return folder.relative_to(PACKAGE).as_posix()
    return path.name if path != PACKAGE else ROOT


def room_of_file(file: Path) -> str:
    """The room in which a file of the package stands."""
    if file.parent != PACKAGE:
        return file.parent.relative_to(PACKAGE).as_posix()
    return ROOT if file.name in ("__init__.py", "__main__.py") else file.stem


def rooms() -> set[str]:
    """Every room of the package."""
    return {room_of_file(file) for file in PACKAGE.rglob("*.py")}


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that a statement imports, each as far as it is a module.

    Raises:
        ValueError: if the import is relative: imports here name their module from the top.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level or not node.module:
            raise ValueError(
                f"Line {node.lineno} imports relatively; name the module from the top: {ast.unparse(node)}."
            )
        for alias in node.names:
            inner = REPOSITORY.joinpath(*node.module.split("."), alias.name)
            yield f"{node.module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else node.module


def arrows() -> Iterator[Arrow]:
    """Every import between two rooms, also those inside functions."""
    for file in sorted(PACKAGE.rglob("*.py")):
        room = room_of_file(file)
        for node in ast.walk(_tree(file)):
            for module in imported(node):
                if module.split(".")[0] == PACKAGE.name and room_of(module) != room:
                    yield Arrow(file.relative_to(PACKAGE).as_posix(), room, room_of(module))


def import_graph() -> dict[str, set[str]]:
    """The rooms that each room imports from; `__main__`, which calls the verbs, is left out."""
    graph: dict[str, set[str]] = {room: set() for room in rooms()}
    for arrow in arrows():
        if arrow.file != "__main__.py":
            graph[arrow.room].add(arrow.other)
    return graph


def floors(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The rooms from the ground up: each imports from lower floors alone.

    Raises:
        ValueError: if some rooms import each other in a circle.
    """
    stacked: list[list[str]] = []
    below: set[str] = set()
    while len(below) < len(graph):
        floor = sorted(room for room in graph if room not in below and graph[room] <= below)
        if not floor:
            raise ValueError(
                f"Among these rooms imports go round in a circle: {', '.join(sorted(graph.keys() - below))}."
            )
        stacked.append(floor)
        below.update(floor)
    return stacked


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """What is shown of the import graph.

    Attributes:
        room: Only what this room imports, file by file, and who imports it; null: every room.
    """

    room: str | None = None


@dataclass(frozen=True, kw_only=True)
class FiguresConfig:
    """What is counted.

    Attributes:
        folders: Folders of this checkout.
        longest: How many of the longest functions and files are named.
    """

    folders: tuple[str, ...] = ("compress",)
    longest: int = 10


def graph(config: GraphConfig) -> None:
    """Prints the import graph, the ground floor first."""
    if config.room is not None:
        _graph_of(config.room)
        return
    imports = import_graph()
    stacked = floors(imports)
    for number, floor in enumerate(stacked):
        for room in floor:
            print(f"{number:2} {room or PACKAGE.name:18} {', '.join(sorted(imports[room]))}".rstrip())
    count = sum(map(len, imports.values()))
    print(f"{len(imports)} rooms on {len(stacked)} floors, {count} arrows, no circle")


def _graph_of(room: str) -> None:
    if room not in rooms():
        raise ValueError(f"There is no room '{room}'; there are {', '.join(sorted(rooms() - {ROOT}))}.")
    for arrow in arrows():
        if room in (arrow.room, arrow.other):
            print(f"{arrow.file} ({arrow.room}) imports {arrow.other}")


def figures(config: FiguresConfig) -> None:
    """Prints the lengths of functions and files, and the public names without a docstring."""
    for folder in config.folders:
        print(f"{folder}/")
        sys.stdout.writelines(f"  {line}\n" for line in _figures(REPOSITORY / folder, config.longest))


def _figures(folder: Path, longest: int) -> Iterator[str]:
    files = [file for file in sorted(folder.rglob("*.py")) if "fixtures" not in file.parts]
    functions = sorted(_function_lengths(files), reverse=True)
    lengths = sorted(((_length(file), _name(file)) for file in files), reverse=True)
    yield f"functions: {summary([lines for lines, _ in functions])}"
    yield from (f"  {lines:4} {name}" for lines, name in functions[:longest])
    yield f"files: {summary([lines for lines, _ in lengths])}"
    yield from (f"  {lines:4} {name}" for lines, name in lengths[:longest])
    nameless = [name for file in files for name in undocumented(file)]
    yield f"public names without a docstring: {len(nameless)}"
    yield from (f"  {name}" for name in nameless)


def summary(lines: list[int]) -> str:
    """How many there are and how long, in lines."""
    if not lines:
        return "none"
    ninetieth = sorted(lines)[int(0.9 * len(lines))]
    return f"{len(lines)}; lines: median {median(lines):g}, 90 % at most {ninetieth}, longest {max(lines)}"


def _function_lengths(files: list[Path]) -> Iterator[tuple[int, str]]:
    """Lines of every function, those within others too, signature and docstring included."""
    for file in files:
        for node in ast.walk(_tree(file)):
            if isinstance(node, Function):
                assert node.end_lineno is not None
                yield node.end_lineno - node.lineno + 1, f"{_name(file)}:{node.lineno} {node.name}"


def undocumented(file: Path) -> Iterator[str]:
    """The public modules, classes, functions and methods of a file that have no docstring."""
    tree = _tree(file)
    if ast.get_docstring(tree) is None and tree.body:
        yield _name(file)
    yield from (f"{_name(file)}:{line} {name}" for line, name in _nameless(tree, ""))


def _nameless(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[int, str]]:
    for node in parent.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield node.lineno, prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _nameless(node, f"{prefix}{node.name}.")


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _length(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _name(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


if __name__ == "__main__":
    main(graph, figures)
