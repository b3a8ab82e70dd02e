"""Write the standalone model of one size of an elastic checkpoint.

Examples:
  compress extract runs/train/best --depth 8 --out parakeet-8
  compress extract runs/supernet/best --size 33% --out parakeet-third
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Extracts one size.

    Args:
        arguments: The words after `compress extract`.

    Raises:
        ValueError: If the checkpoint has no such size, or the output folder exists.
    """
    from compress.cli import parse_verb, verb_parser

    parser = verb_parser("extract", __doc__)
    parser.add_argument("model", type=str, help="Folder or Hub name of an elastic checkpoint.")
    parser.add_argument("--size", type=str | None, default=None, help="One of the checkpoint's sizes.")
    parser.add_argument("--depth", type=int | None, default=None, help="How many blocks it is to have, instead.")
    parser.add_argument("--out", type=str, required=True, help="Folder for the model.")
    options = parse_verb(parser, arguments)

    from compress.elastic import extract

    extract(options.model, options.out, size=options.size, depth=options.depth)
