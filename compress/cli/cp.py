"""Copy a recipe or config that comes with the package to where you can edit it.

Examples:
  compress cp recipes/prune.py .
  compress cp configs/demo/prune.yaml my-prune.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse
from compress.files.shipped import copy


@dataclass(frozen=True)
class CopyConfig:
    """What is copied, and where to.

    Attributes:
        name: a name that `compress ls` lists, or an unambiguous end of it.
        destination: a file to write, or a folder: one that exists, or whose name ends with a slash.
        force: overwrite a file that is already there.
    """

    name: str
    destination: str
    force: bool = False


def run(arguments: Sequence[str]) -> None:
    """Copies a recipe or config and says where it went.

    Args:
        arguments: The words after `compress cp`.

    Raises:
        ValueError: If there is no such recipe or config.
        FileExistsError: If the destination exists and `--force` is not given.
    """
    names = ("name", "destination")
    config = parse(CopyConfig, arguments, prog="compress cp", description=__doc__, positional=names)
    sys.stdout.write(f"{copy(config.name, config.destination, overwrite=config.force)}\n")
