"""List the recipes and configs that come with the package.

`compress cat NAME` prints one of them and `compress cp NAME DEST` copies it to where you can edit it.

Example:
  compress ls
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Prints every recipe and config with a description of one line.

    Args:
        arguments: The words after `compress ls`: none.
    """
    from compress.cli import parse_verb, verb_parser
    from compress.files.shipped import resources

    parse_verb(verb_parser("ls", __doc__), arguments)
    found = resources()
    width = max((len(item.name) for item in found), default=0)
    for item in found:
        sys.stdout.write(f"{item.name:{width}}  {item.description}\n")
