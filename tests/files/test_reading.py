"""JSON that is read: repeated keys and broken lines are named with their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.files.reading import ReadError, read_json, read_json_lines
from compress.structure import Structure, StructureError


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(ReadError, match=r"some\.json .*'b' stands more than once"):
        read_json(file)
    file.write_text('{"family": "parakeet", "blocks": [], "blocks": [null]}')
    with pytest.raises(StructureError, match=r"some\.json: .*a key twice"):
        Structure.load(file)


def test_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"a": 1}\n[2]\n')
    assert read_json_lines(file) == [{"a": 1}, [2]]
    file.write_text('{"a": 1}\n{"a"')
    with pytest.raises(ReadError, match=r"some\.jsonl: line 2 is no JSON"):
        read_json_lines(file)
