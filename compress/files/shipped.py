"""What comes with the package: its version; the recipes and configs, where they are, what each is, how to copy one.

In a source checkout (and an editable install) they are the folders `recipes/` and `configs/` at the top; an installed
wheel carries the same files as package data. Their names are the same: `recipes/prune.py`, `configs/demo/train.yaml`.
"""

from __future__ import annotations

import ast
import difflib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__version__ = "0.1.0"
_PACKAGE = Path(__file__).resolve().parent.parent
_KINDS: Mapping[str, str] = {"recipes": ".py", "configs": ".yaml"}


@dataclass(frozen=True)
class Resource:
    """One recipe or config.

    Attributes:
        name: Its name, which is also its path in a source checkout, for example `configs/demo/train.yaml`.
        path: Where the file is on this machine.
    """

    name: str
    path: Path

    @property
    def description(self) -> str:
        """The first line of a recipe's docstring or of a config's header comment."""
        text = self.path.read_text(encoding="utf-8")
        if self.path.suffix == ".py":
            text = ast.get_docstring(ast.parse(text)) or ""
        return text.strip().partition("\n")[0].lstrip("# ").rstrip()


def resources() -> list[Resource]:
    """Lists every recipe and every config, each kind sorted by name."""
    shelf = []
    for kind, suffix in _KINDS.items():
        folder = _folder(kind)
        shelf += [
            Resource(f"{kind}/{path.relative_to(folder).as_posix()}", path)
            for path in sorted(folder.rglob(f"*{suffix}"))
        ]
    return shelf


def find(name: str) -> Resource:
    """Finds a recipe or config by its name, or by any unambiguous end of it such as `prune.py`.

    Args:
        name: For example `recipes/prune.py`.

    Raises:
        ValueError: If there is no such resource, or more than one.
    """
    everything = resources()
    parts = Path(name).parts
    matches = [item for item in everything if item.name == name] or [
        item for item in everything if parts and Path(item.name).parts[-len(parts) :] == parts
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"'{name}' is ambiguous: it could be {', '.join(item.name for item in matches)}")
    near = difflib.get_close_matches(name, [item.name for item in everything], n=1, cutoff=0.0)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"There is no recipe or config named '{name}'.{hint} `compress ls` lists them all.")


def copy(name: str, destination: str | Path, *, overwrite: bool = False) -> Path:
    """Copies a recipe or config to a place where it can be edited.

    Args:
        name: As for `find`.
        destination: A file to write, or a folder to put it in: one that exists, or whose name ends with a slash.
        overwrite: Replace a file that is already there.

    Returns:
        The file that was written.

    Raises:
        ValueError: If there is no such resource.
        FileExistsError: If the file is already there and `overwrite` is False.
    """
    resource = find(name)
    target = Path(destination)
    if target.is_dir() or str(destination).endswith(("/", os.sep)):
        target = target / resource.path.name
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already: choose another destination, or overwrite it with --force")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(resource.path, target)
    return target


def _folder(kind: str) -> Path:
    packaged = _PACKAGE / f"_{kind}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind
