"""Small files that are read whole: regular ones of a sane size, and JSON in the form that is expected."""

from __future__ import annotations

import json
import math
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 26
"""Of a JSON file that is read whole; vocabularies and long reports take some 20 MiB."""
_KINDS = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}

Form = Mapping[str, type]
"""Keys that must be there, dotted where they stand in objects of objects, and the types of their values."""


class ReadError(ValueError):
    """A file that cannot be read, or does not hold what it should."""


def require_regular(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Refuses what is no file of a sane size: folders, pipes and devices, on which reading would wait or never end.

    Raises:
        ReadError: naming the path, and what it is.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ReadError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise ReadError(f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no regular file'}.")
    if status.st_size > most_bytes:
        raise ReadError(f"{path} has {status.st_size:,} bytes, more than the {most_bytes:,} that such a file can have.")


def read_json(path: str | Path, most_bytes: int = MOST_BYTES) -> Any:
    """Reads a JSON file.

    Raises:
        ReadError: naming the file and, where there is one, the line, or the key that an object has twice.
    """
    path = Path(path)
    require_regular(path, most_bytes)
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ReadError(f"{path} is no JSON: line {error.lineno}: {error.msg}.") from error
    except RecursionError as error:
        raise ReadError(f"{path} is nested too deeply to be read.") from error
    except (ValueError, OSError) as error:
        raise ReadError(f"{path} cannot be read: {error}.") from error


def read_json_lines(path: str | Path) -> list[Any]:
    """Reads a file with one JSON value a line.

    Raises:
        ReadError: naming the file and the line.
    """
    require_regular(Path(path), MOST_BYTES)
    values = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ReadError(f"{path}: line {number} is no JSON.") from error
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands more than once in an object; keep one")
    return content


def read_object(
    path: str | Path, form: Form | None = None, most_bytes: int = MOST_BYTES, optional: Form | None = None
) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: of the file.
        form: what must be in it.
        most_bytes: its largest size.
        optional: what else may be in it; null stands for nothing.

    Raises:
        ReadError: naming the file, and the key that is missing or of another type.
    """
    content = read_json(path, most_bytes)
    require_form(content, form or {}, str(path))
    for key, kind in (optional or {}).items():
        if content.get(key) is not None:
            _require(content[key], kind, f"{path}: {key}")
    result: dict[str, Any] = content
    return result


def require_form(content: Any, form: Form, where: str) -> None:
    """Refuses what is no object of a form.

    Args:
        content: of a JSON file, or a part of it.
        form: what must be in it.
        where: the file, and the place in it.

    Raises:
        ReadError: naming the place, and the key that is missing or of another type.
    """
    _require(content, dict, where)
    for key, kind in form.items():
        value: Any = content
        for number, name in enumerate(parts := key.split(".")):
            _require(value, dict, f"{where}: {'.'.join(parts[:number])}")
            if name not in value:
                raise ReadError(f"{where} lacks {key}.")
            value = value[name]
        _require(value, kind, f"{where}: {key}")


def _require(value: Any, kind: type, where: str) -> None:
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if isinstance(value, float) and not math.isfinite(value):
        raise ReadError(f"{where} is {value}, which cannot be.")
    if not fits:
        raise ReadError(f"{where} must be {_KINDS.get(kind, kind.__name__)}, and is {type(value).__name__}.")
