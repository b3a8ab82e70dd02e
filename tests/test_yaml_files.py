"""YAML files of configs: a key stands once, and no file takes more time or memory than its text is worth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.config.yaml_files import read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "the key 'c' stands in line 3 and again in line 5; keep one"),
        ("budget: {params: 1}\nbudget: {params: 2}\n", "the key 'budget' stands in line 1 and again in line 2"),
        (BOMB, "line 5 holds more than 100000 values, those of aliases counted every time"),
        ("a: &a [*a]\n", "line 1 holds itself by an alias"),
        ("[" * 5000, "is not a readable YAML file: it is nested too deeply"),
        ("a: [1", "is not a readable YAML file"),
        ("x" * (1 << 20) + "x", "is no file of a config: that is a regular file of up to 1048576 bytes"),
    ],
)
def test_what_could_surprise_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_yaml(path)
    assert str(path) in str(error.value)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no file of a config"):
        read_yaml(tmp_path / "pipe")


def test_aliases_and_merged_keys_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
