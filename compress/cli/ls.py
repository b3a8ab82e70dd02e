"""List the recipes and configs that come with the package.

`compress cat NAME` prints one of them and `compress cp NAME DEST` copies it to where you can edit it.

Example:
  compress ls
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse
from compress.files.shipped import resources


@dataclass(frozen=True)
class ListConfig:
    """Nothing can be chosen."""


def run(arguments: Sequence[str]) -> None:
    """Prints every recipe and config with a description of one line.

    Args:
        arguments: The words after `compress ls`: none.
    """
    parse(ListConfig, arguments, prog="compress ls", description=__doc__)
    shelf = resources()
    width = max((len(item.name) for item in shelf), default=0)
    for item in shelf:
        sys.stdout.write(f"{item.name:{width}}  {item.description}\n")
