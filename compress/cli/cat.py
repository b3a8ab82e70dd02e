"""Print a recipe or config that comes with the package.

Examples:
  compress cat recipes/prune.py
  compress cat configs/demo/train.yaml > my.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse
from compress.files.shipped import find


@dataclass(frozen=True)
class CatConfig:
    """What is printed.

    Attributes:
        name: a name that `compress ls` lists, or an unambiguous end of it.
    """

    name: str


def run(arguments: Sequence[str]) -> None:
    """Writes a recipe or config to stdout, unchanged.

    Args:
        arguments: The words after `compress cat`.

    Raises:
        ValueError: If there is no such recipe or config.
    """
    config = parse(CatConfig, arguments, prog="compress cat", description=__doc__, positional=["name"])
    sys.stdout.write(find(config.name).path.read_text(encoding="utf-8"))
