"""What all programs in tools/ have in common."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import sys
from collections.abc import Iterator

import pytest

from compress.conformers import FAMILIES, NEW_MODELS
from tests.helpers.launching import REPOSITORY
from tools import family_table

FILES = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "tools").rglob("*.py"))
NAMES = [path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__") for path in FILES]


def command_lines() -> Iterator[tuple[str, ...]]:
    """Every program of tools/, and each command of those that have several."""
    for path, name in zip(FILES, NAMES, strict=True):
        _, is_program, last = (REPOSITORY / path).read_text().partition('__main__":')
        if is_program:
            commands = re.findall(r"\w+", "".join(re.findall(r"^ +main\(([\w, ]*)\)", last, re.MULTILINE)))
            yield from [(name,), *((name, command) for command in commands if len(commands) > 1)]


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_fits_the_package(name: str) -> None:
    """What a tool imports of the package is there, and it says what it is for."""
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_program_says_how_it_is_started(path) -> None:
    text = (REPOSITORY / path).read_text()
    if '__main__":' in text:
        line = (ast.get_docstring(ast.parse(text)) or "").split("\n")[2]
        assert re.match(rf" *python (-m {path.with_suffix('').as_posix().replace('/', '.')}|{path})\b", line), line


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("words", list(command_lines()), ids=" ".join)
def test_every_command_has_help(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool.py", *words[1:], "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    assert not end.value.code
    assert words[0].rpartition(".")[2] in capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=str)
def test_tools_import_nothing_of_the_tests(path) -> None:
    assert not re.search(r"^ *(from|import) tests\b", (REPOSITORY / path).read_text(), re.MULTILINE)


def test_the_documentation_lists_the_families_of_the_registry() -> None:
    text = family_table.PAGE.read_text()
    assert family_table.written(text) == text, "run: python -m tools.family_table"
    assert set(NEW_MODELS) == {family.name for family in FAMILIES if family.has_ctc}
