"""Write the standalone model of one depth of an elastic checkpoint.

Example:
  compress extract runs/train/best --depth 8 --out parakeet-8
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Extracts one depth.

    Args:
        arguments: The words after `compress extract`.

    Raises:
        ValueError: If the checkpoint has no such depth, or the output folder exists.
    """
    from compress.cli import parse_verb, verb_parser

    parser = verb_parser("extract", __doc__)
    parser.add_argument("model", type=str, help="Folder or Hub name of an elastic checkpoint.")
    parser.add_argument("--depth", type=int, required=True, help="How many blocks the model is to have.")
    parser.add_argument("--out", type=str, required=True, help="Folder for the model.")
    options = parse_verb(parser, arguments)

    from compress.elastic import extract

    extract(options.model, options.depth, options.out)
