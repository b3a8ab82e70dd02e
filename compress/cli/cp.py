"""Copy a recipe or config that comes with the package to where you can edit it.

Examples:
  compress cp recipes/prune.py .
  compress cp configs/demo/prune.yaml my-prune.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Copies a recipe or config and says where it went.

    Args:
        arguments: The words after `compress cp`.

    Raises:
        ValueError: If there is no such recipe or config.
        FileExistsError: If the destination exists and `--force` is not given.
    """
    from compress.cli import parse_verb, verb_parser
    from compress.files.shipped import copy

    parser = verb_parser("cp", __doc__)
    parser.add_argument("name", type=str, help="A name that `compress ls` lists, or an unambiguous end of it.")
    parser.add_argument("destination", type=str, help="A file to write, or an existing folder.")
    parser.add_argument("--force", action="store_true", help="Overwrite a file that is already there.")
    options = parse_verb(parser, arguments)
    sys.stdout.write(f"{copy(options.name, options.destination, overwrite=options.force)}\n")
