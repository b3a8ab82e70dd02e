"""tools/house.py: reading imports, and counting what stands in a file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import house


@pytest.mark.parametrize(
    ("statement", "modules"),
    [
        ("import compress.cost", ["compress.cost"]),
        ("from compress.model import card", ["compress.model.card"]),
        ("from compress.cost import size_of", ["compress.cost"]),
        ("from compress import model, remove", ["compress.model", "compress"]),
    ],
)
def test_an_import_is_followed_as_far_as_it_is_a_module(statement: str, modules: list[str]) -> None:
    assert list(house.imported(ast.parse(statement).body[0])) == modules


@pytest.mark.parametrize("statement", ["from . import card", "from .card import write", "from ..cost import size_of"])
def test_a_relative_import_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match="Line 1 imports relatively"):
        list(house.imported(ast.parse(statement).body[0]))


def test_rooms_are_folders_and_the_files_beside_them() -> None:
    assert house.room_of("compress.model.card") == "model"
    assert house.room_of("compress.training.loop.progress") == "training/loop"
    assert house.room_of("compress.cost") == "cost"
    assert house.room_of("compress") == ""
    assert house.room_of_file(house.PACKAGE / "__main__.py") == ""


def test_floors_are_stacked_and_a_circle_is_named() -> None:
    graph = {"cli": {"model", "files"}, "model": {"files"}, "files": set()}
    assert house.floors(graph) == [["files"], ["model"], ["cli"]]
    with pytest.raises(ValueError, match="circle: cli, files, model"):
        house.floors({"cli": {"model"}, "model": {"files"}, "files": {"model"}})


def test_public_names_without_a_docstring_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "REPOSITORY", tmp_path)
    file = tmp_path / "module.py"
    lines = ['"""Doc."""', "def bare(): ...", "def _private(): ..."]
    lines += ["class Told:", '    """Doc."""', "    def method(self): ..."]
    file.write_text("\n".join(lines))
    assert list(house.undocumented(file)) == ["module.py:2 bare", "module.py:6 Told.method"]


def test_lengths_are_summed_up() -> None:
    assert house.summary(list(range(1, 11))) == "10; lines: median 5.5, 90 % at most 10, longest 10"
    assert house.summary([]) == "none"


def test_the_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    house.graph(house.GraphConfig())
    assert "no circle" in capsys.readouterr().out
    house.graph(house.GraphConfig(room="layers"))
    assert "layers.py (layers) imports search" in capsys.readouterr().out
    house.figures(house.FiguresConfig(folders=("tools",), longest=1))
    assert "functions: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="no room 'attic'"):
        house.graph(house.GraphConfig(room="attic"))
