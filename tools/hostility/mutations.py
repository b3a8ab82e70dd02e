"""Ways to break a file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**9, 1e308, float("nan"), float("inf"), "", "x", "x" * 10_000, [], {}, [None], {"a": 1},
    "\x00", json.loads("[" * 300 + "]" * 300),
)  # fmt: skip
"""What stands in the place of a value of a JSON or YAML file."""

MARK = "zzzmark"
"""A key that no file has; in its place another one is written a second time."""
NOT_FINITE = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff")
"""NaN and both infinities, as a float32."""


def mutate(file: Path, chooser: random.Random) -> str:
    """Breaks a file in one way; says which."""
    if file.suffix in (".json", ".yaml") and chooser.random() < 0.7:
        return _mutate_tree(file, chooser)
    if file.suffix == ".safetensors" and chooser.random() < 0.3:
        return _spoil_a_weight(file, chooser)
    if file.suffix == ".csv" and chooser.random() < 0.4:
        return _mutate_lines(file, chooser)
    content = bytearray(file.read_bytes())
    way = chooser.choice(("truncate", "flip", "delete", "insert", "empty", "zeros", "deep"))
    place, length = chooser.randrange(max(1, len(content))), chooser.choice((1, 4, 100))
    if way == "truncate":
        del content[place:]
    elif way == "flip":
        for offset in range(place, min(place + length, len(content))):
            content[offset] ^= 1 << chooser.randrange(8)
    elif way == "delete":
        del content[place : place + length]
    elif way == "insert":
        content[place:place] = bytes(chooser.randrange(256) for _ in range(length))
    else:
        content = bytearray({"empty": b"", "zeros": bytes(1000), "deep": b"[" * 20_000}[way])
    file.write_bytes(content)
    return f"{way} {length} at {place}"


def _mutate_tree(file: Path, chooser: random.Random) -> str:
    tree = yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    if chooser.random() < 0.2:
        return _add_a_key(file, tree, chooser)
    owner, key = chooser.choice(list(_places({"": tree})))
    value = copy.deepcopy(chooser.choice(VALUES))
    if chooser.random() < 0.2 and isinstance(owner, dict) and key:
        del owner[key]
        value = "nothing"
    elif key == "":
        tree = value
    else:
        owner[key] = value
    file.write_text(_dumped(file, tree))
    return f"{key} = {str(value)[:40]}"


def _dumped(file: Path, tree: Any) -> str:
    return yaml.safe_dump(tree) if file.suffix == ".yaml" else json.dumps(tree)


def _add_a_key(file: Path, tree: Any, chooser: random.Random) -> str:
    """Adds a key that nothing knows, or one that the object has already, with another value."""
    owners = [owner for owner, key in _places({"": tree}) if isinstance(owner, dict) and key]
    owner = chooser.choice([each for each in owners if each])
    key = chooser.choice([MARK, *(str(name) for name in owner)])
    owner[MARK] = copy.deepcopy(chooser.choice(VALUES[:9]))
    text = _dumped(file, tree)
    quoted = f'"{MARK}"' if f'"{MARK}"' in text else MARK
    file.write_text(text.replace(quoted, quoted.replace(MARK, key)))
    return f"{key} is added"


def _spoil_a_weight(file: Path, chooser: random.Random) -> str:
    content = bytearray(file.read_bytes())
    first = 8 + int.from_bytes(content[:8], "little")
    place = first + 4 * chooser.randrange((len(content) - first) // 4)
    content[place : place + 4] = chooser.choice(NOT_FINITE)
    file.write_bytes(content)
    return f"not finite at {place}"


def _mutate_lines(file: Path, chooser: random.Random) -> str:
    lines = file.read_text().splitlines(keepends=True)
    number, way = chooser.randrange(len(lines)), chooser.choice(("drop", "repeat", "swap", "join"))
    if way == "drop":
        del lines[number]
    elif way == "repeat":
        lines.insert(number, lines[number])
    elif way == "swap":
        lines.reverse()
    else:
        lines[number] = lines[number].rstrip("\n") + ","
    file.write_text("".join(lines))
    return f"{way} line {number + 1}"


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items)[:50]:
        yield tree, key
        yield from _places(value)
