"""What all programs in tools/ have in common."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from compress.conformers import FAMILIES, NEW_MODELS
from tests.helpers.launching import REPOSITORY
from tools import family_table

FILES = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "tools").rglob("*.py"))
NAMES = [path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__") for path in FILES]


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


@pytest.mark.parametrize("path", FILES, ids=str)
def test_tools_import_nothing_of_the_tests(path) -> None:
    assert not re.search(r"^ *(from|import) tests\b", (REPOSITORY / path).read_text(), re.MULTILINE)


def test_the_documentation_lists_the_families_of_the_registry() -> None:
    text = family_table.PAGE.read_text()
    assert family_table.written(text) == text, "run: python -m tools.family_table"
    assert set(NEW_MODELS) == {family.name for family in FAMILIES if family.has_ctc}
