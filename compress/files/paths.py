"""Paths of this machine in what is made public: the one rule by which they are told from Hub names and shortened.

A local path becomes its last component, a Hub name stays. What is local: a path that is absolute, or that begins with
`.` or `~`; and where a model or data set is named (`PLACES`) also one of more than two parts, or one that exists here.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

PLACES = frozenset({"teacher", "structure", "source", "name", "_name_or_path", "name_or_path"})
"""Keys of JSON files under which a user's words for a model, a file or a data set stand."""
_LOCAL_STARTS = ("./", "../", "~", ".\\", "..\\")
_ABSOLUTE = re.compile(
    r"""(?<![\w/\\.:<~])(?:~?(?:/[^\s/'"`<>|,;:()]+){2,}/?|[A-Za-z]:\\[^\s'"`<>|,;:()]+)"""  # inside a sentence
)


def is_local(place: str) -> bool:
    """Says whether a user's word for a model or a data set is a path of this machine rather than a Hub name."""
    if place in (".", "..") or _is_path(place) or place.count("/") > 1:
        return True
    return bool(place) and Path(place).exists()


def last_part(path: str) -> str:
    """Returns the last component of a path of any system."""
    kind = PureWindowsPath if PureWindowsPath(path).drive or "/" not in path else PurePosixPath
    return kind(path).name


def local_paths(content: Any, key: str = "") -> Iterator[str]:
    """Finds every local path in the content of a JSON file, also those within sentences.

    Args:
        content: dicts, lists, strings and numbers.
        key: under which it stands.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            yield from local_paths(value, str(name))
    elif isinstance(content, list):
        for value in content:
            yield from local_paths(value, key)
    elif isinstance(content, str):
        if (key in PLACES and is_local(content)) or (_is_path(content) and ": " not in content):
            yield content
        else:
            yield from _ABSOLUTE.findall(content)


def public_text(text: str, paths: Iterable[str]) -> str:
    """Rewrites a text file (JSON, Markdown, HTML) so that the last component stands for each of the paths.

    Args:
        text: the whole file.
        paths: from `local_paths`; where they are relative, their absolute forms are replaced too.
    """
    wanted = {form for path in paths for form in (path, path.rstrip("/"), str(Path(path).absolute()))}
    for path in sorted(wanted, key=len, reverse=True):
        if ("/" in path or "\\" in path) and last_part(path):
            for write in (str, _json, _json_ascii, html.escape, _markdown):
                text = _replaced(text, write(path), write(last_part(path)))
    return text


def _replaced(text: str, path: str, public: str) -> str:
    """Puts another text in the place of a path; `a/b` is none in `nvidia/b`, but one behind an escaped line end."""
    begins = r"(?:(?<![\w.-])|(?<=\\[nrt]))" if re.match(r"\w", path) else ""
    return re.sub(begins + re.escape(path), lambda _: public, text)


def _is_path(text: str) -> bool:
    """Says whether a string as a whole looks like a path: absolute, or relative to here or home."""
    absolute = PureWindowsPath(text).is_absolute() or (PurePosixPath(text).is_absolute() and text.count("/") > 1)
    return "\n" not in text and (absolute or text.startswith(_LOCAL_STARTS))


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
