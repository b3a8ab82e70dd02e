"""YAML files of configs: read once before anything else does, and refused where they could surprise somebody."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

MOST_CONFIG_BYTES = 1 << 20
MOST_NODES = 100_000
"""Values of a file at most, those that aliases stand for counted every time."""


def read_yaml(file: Path) -> Any:
    """Reads a YAML file.

    Raises:
        ValueError: naming the file and, where there is one, the line: if it is no YAML, too large or too deep once its
            aliases are written out, or has a key twice.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_CONFIG_BYTES:
        raise ValueError(f"{file} is no file of a config: that is a regular file of up to {MOST_CONFIG_BYTES} bytes.")
    try:
        return _content(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a readable YAML file: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{file} is not a readable YAML file: it is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _content(text: str) -> Any:
    loader: Any = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _count(node, {})
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _count(node: yaml.Node | None, counted: dict[int, int | None]) -> int:
    """Counts the nodes below one, and refuses repeated keys on the way.

    Args:
        node: where to begin.
        counted: the numbers of nodes that are known by now; None while a node is being counted.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in counted:
        number = counted[id(node)]
        if number is None:
            raise ValueError(f"line {_line(node)} holds itself by an alias.")
        return number
    counted[id(node)] = None
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    number = 1 + sum(_count(child, counted) for child in children)
    if number > MOST_NODES:
        raise ValueError(
            f"line {_line(node)} holds more than {MOST_NODES} values, those of aliases counted every time."
        )
    counted[id(node)] = number
    return number


def _refuse_repeated(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in lines:
            raise ValueError(f"the key {name!r} stands in line {lines[name]} and again in line {_line(key)}; keep one.")
        lines[name] = _line(key)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
