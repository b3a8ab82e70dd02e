"""Print a recipe or config that comes with the package.

Examples:
  compress cat recipes/prune.py
  compress cat configs/demo/train.yaml > my.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Writes a recipe or config to stdout, unchanged.

    Args:
        arguments: The words after `compress cat`.

    Raises:
        ValueError: If there is no such recipe or config.
    """
    from compress.cli import parse_verb, verb_parser
    from compress.files.shipped import find

    parser = verb_parser("cat", __doc__)
    parser.add_argument("name", type=str, help="A name that `compress ls` lists, or an unambiguous end of it.")
    sys.stdout.write(find(parse_verb(parser, arguments).name).path.read_text(encoding="utf-8"))
