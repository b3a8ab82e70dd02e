"""Folders and files that are there in full or not at all, however the program ends."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

NEW, OLD = ".new", ".old"
CONFIG_FILE, WEIGHTS = "config.json", (".safetensors", ".bin")
"""What a folder with a model has: this file, and files of weights with such an ending."""
MEBIBYTE = 1 << 20
NO_SPACE = "Free some space and run the same command again: it goes on from what is there."
NO_RIGHT = "Choose a place that you may write to, or change its permissions."
IN_THE_WAY = "Something else has that name; choose another, or move it out of the way."
REMEDIES = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EFBIG: NO_SPACE,
    errno.EROFS: NO_RIGHT,
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EIO: "The disk may be broken; choose another place.",
    errno.EEXIST: IN_THE_WAY,
    errno.ENOTDIR: IN_THE_WAY,
    errno.EISDIR: IN_THE_WAY,
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
"""Why a system refuses to write, and what to do about it."""
FOREIGN_WRITERS = ("inline_container", "os error", "iostream error")
"""What torch's and the tokenizers' writers say when a file cannot be written; they have no exception class for it."""
_OS_ERROR = re.compile(r"os error (\d+)")


class WriteError(ValueError):
    """Something could not be written, most often because the disk is full; what was there before is untouched."""


@contextmanager
def explained(target: str | Path) -> Iterator[None]:
    """Turns the failure of any writer (Python's, torch's, safetensors', tokenizers') into an error with a remedy.

    Args:
        target: what is written.

    Raises:
        WriteError: naming `target`, the reason, and the space that is left.
    """
    try:
        yield
    except Exception as error:
        if not _is_write_failure(error):
            raise
        problem = str(error).strip().splitlines()[0]
        remedy = _remedy(error)
        free = f"; {_free(Path(target)) // MEBIBYTE} MiB are free there" if remedy == NO_SPACE else ""
        raise WriteError(f"Could not write {target} ({type(error).__name__}: {problem}){free}. {remedy}") from error


def _remedy(error: Exception) -> str:
    """Says what to do; writers of others tell the system's number in their words, if at all."""
    told = _OS_ERROR.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else errno.ENOSPC
    return REMEDIES.get(number or errno.ENOSPC, NO_SPACE)


def _is_write_failure(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in REMEDIES
    return isinstance(error, SafetensorError) or any(words in str(error) for words in FOREIGN_WRITERS)


def _free(path: Path) -> int:
    """Bytes that are free where a path is, or will be."""
    absolute = path.absolute()
    return shutil.disk_usage(next(folder for folder in (absolute, *absolute.parents) if folder.exists())).free


@contextmanager
def replaced_folder(target: str | Path) -> Iterator[Path]:
    """Fills a new folder beside `target` and swaps it in once it is complete and on disk.

    On any error the new folder is deleted and `target` is as it was. A process killed between the two renames of the
    swap leaves the previous content under another name; `recover_folder` puts it back.

    Args:
        target: an existing folder is replaced.

    Yields:
        The empty folder to fill.

    Raises:
        WriteError: if the disk is full or refuses for another reason.
    """
    target = _behind_links(Path(target))
    fresh = _beside(target, NEW)
    with explained(target):
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            yield fresh
            flush_folder(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _swap(fresh, target)


def recover_folder(target: str | Path) -> None:
    """Ends what a killed `replaced_folder` left undone; call it before the folder is read."""
    target = _behind_links(Path(target))
    old = _beside(target, OLD)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_beside(target, NEW), ignore_errors=True)


def require_writable(folder: str | Path) -> None:
    """Tries whether a folder can be written or made, so that hours of work do not end where nothing can be; makes none.

    Raises:
        WriteError: naming the folder and the reason.
    """
    absolute = Path(folder).absolute()
    nearest = next(place for place in (absolute, *absolute.parents) if place.exists())
    with explained(folder):
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        try:
            with tempfile.TemporaryFile(dir=nearest):
                pass
        except FileNotFoundError as error:  # what systems of files that are no disks answer, such as /proc
            raise PermissionError(errno.EACCES, "nothing can be made there", str(nearest)) from error


def require_place_for_models(folder: str | Path) -> None:
    """Tries whether models can be written below a folder: it is writable, and no part of a model itself.

    Raises:
        WriteError: naming the model that the folder lies in, or the reason why nothing can be written.
    """
    resolved = Path(folder).expanduser().resolve()
    if model := next((place for place in (resolved, *resolved.parents) if is_model(place)), None):
        raise WriteError(
            f"{folder} lies in the folder of the model {model}: who replaces or deletes that model would take what is "
            "written there along. Choose a folder beside it."
        )
    require_writable(folder)


def is_model(folder: Path) -> bool:
    """Says whether a folder holds a model: a config, and weights beside it."""
    return (folder / CONFIG_FILE).is_file() and any(path.suffix in WEIGHTS for path in folder.iterdir())


def require_replaceable(path: str | Path) -> None:
    """Tries whether a file can be written or replaced, as `require_writable` does for a folder.

    Raises:
        WriteError: naming the file and the reason.
    """
    with explained(path):
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    require_writable(Path(path).absolute().parent)


def write_json(path: str | Path, content: Any) -> None:
    """Writes a JSON file in one go; an older one is replaced, and its folder is made where needed."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in one go; an older one is replaced, and its folder is made where needed."""
    path = Path(path)
    fresh = _beside(path, NEW)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def _behind_links(target: Path) -> Path:
    """Returns the folder that a symbolic link stands for, which stays a link when the folder is replaced."""
    return target.resolve() if target.is_symlink() else target


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}{ending}")
