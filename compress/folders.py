"""Folders and files that are there in full or not at all, however the program ends."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NEW, OLD = ".new", ".old"


@contextmanager
def replaced_folder(target: str | Path) -> Iterator[Path]:
    """Fills a new folder beside `target` and swaps it in once it is complete and on disk.

    On any error the new folder is deleted and `target` is as it was. A process killed between the two renames of the
    swap leaves the previous content under another name; `recover_folder` puts it back.

    Args:
        target: an existing folder is replaced.

    Yields:
        The empty folder to fill.
    """
    target = Path(target)
    fresh = _beside(target, NEW)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        flush_folder(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _swap(fresh, target)


def recover_folder(target: str | Path) -> None:
    """Ends what a killed `replaced_folder` left undone; call it before the folder is read."""
    target = Path(target)
    old = _beside(target, OLD)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_beside(target, NEW), ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Writes a JSON file in one go; an older one is replaced, and its folder is made where needed."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in one go; an older one is replaced, and its folder is made where needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(path, NEW)
    try:
        fresh.write_text(text, encoding="utf-8")
        flush(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Waits until every file below the folder, and the names in it, are on disk."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(fresh: Path, target: Path) -> None:
    old = _beside(target, OLD)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}{ending}")
