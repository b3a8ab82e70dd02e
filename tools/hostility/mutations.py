"""Ways to break a file."""

from __future__ import annotations

import copy
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
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
WORDS = (
    "",
    "-1",
    "0",
    "1e308",
    "nan",
    "x",
    "x" * 10_000,
    "\x00",
    "..",
    "/",
    "~",
    "a.wav:7",
    "cat a.wav |",
    "pipe:true",
    '"',
)
"""What stands in the place of a word of a line."""
BLOCK = tarfile.BLOCKSIZE


def mutate(file: Path, chooser: random.Random) -> str:
    """Breaks a file in one way; says which."""
    for suffixes, share, way in WAYS:
        if file.suffix in suffixes and chooser.random() < share:
            return way(file, chooser)
    return _mutate_bytes(file, chooser)


def _mutate_bytes(file: Path, chooser: random.Random) -> str:
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
    tree, said = _changed(tree, chooser)
    file.write_text(_dumped(file, tree))
    return said


def _changed(tree: Any, chooser: random.Random) -> tuple[Any, str]:
    """Puts something else in the place of a value, or removes it."""
    owner, key = chooser.choice(list(_places({"": tree})))
    value = copy.deepcopy(chooser.choice(VALUES))
    if chooser.random() < 0.2 and isinstance(owner, dict) and key:
        del owner[key]
        value = "nothing"
    elif key == "":
        tree = value
    else:
        owner[key] = value
    return tree, f"{key} = {str(value)[:40]}"


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


def _mutate_a_row(file: Path, chooser: random.Random) -> str:
    """Changes the object of one line."""
    lines = file.read_text().splitlines()
    number = chooser.randrange(len(lines))
    row, said = _changed(json.loads(lines[number]), chooser)
    lines[number] = json.dumps(row)
    file.write_text("".join(f"{line}\n" for line in lines))
    return f"line {number + 1}: {said}"


def _mutate_a_word(file: Path, chooser: random.Random) -> str:
    """Puts something else in the place of one word of a line, or removes it."""
    lines = [line.split(" ") for line in file.read_text().splitlines()]
    number = chooser.randrange(len(lines))
    place, word = chooser.randrange(len(lines[number])), chooser.choice(WORDS)
    lines[number][place : place + 1] = [word] if word else []
    file.write_text("".join(f"{' '.join(line)}\n" for line in lines))
    return f"line {number + 1}, word {place + 1} = {word[:40]!r}"


def _spoil_a_header(file: Path, chooser: random.Random) -> str:
    """Breaks the header of a file in a tar, or appends another tar."""
    content = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        place = chooser.choice(tar.getmembers()).offset
    way = chooser.choice(("zeros", "flip", "other size", "appended"))
    if way == "appended":
        content += bytes(content)
    elif way == "zeros":
        content[place : place + BLOCK] = bytes(BLOCK)
    elif way == "flip":
        content[place + chooser.randrange(BLOCK)] ^= 1 << chooser.randrange(8)
    else:
        header = tarfile.TarInfo.frombuf(bytes(content[place : place + BLOCK]), "utf-8", "strict")
        header.size = chooser.choice((0, 1, 10**9, 8**11 - 1))
        content[place : place + BLOCK] = header.tobuf(tarfile.USTAR_FORMAT)
    file.write_bytes(content)
    return f"header at {place}: {way}"


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items)[:50]:
        yield tree, key
        yield from _places(value)


WAYS: Sequence[tuple[Sequence[str], float, Callable[[Path, random.Random], str]]] = (
    ((".json", ".yaml"), 0.7, _mutate_tree),
    ((".safetensors",), 0.3, _spoil_a_weight),
    ((".csv",), 0.4, _mutate_lines),
    ((".jsonl",), 0.7, _mutate_a_row),
    ((".scp", ""), 0.6, _mutate_a_word),
    ((".jsonl", ".scp", ""), 0.3, _mutate_lines),
    ((".tar",), 0.6, _spoil_a_header),
)
"""By the suffix of a file, how often it is broken in a way of its own."""
