"""Remove from a model everything that a structure.json leaves out, and save the smaller model.

The structure comes from a recipe or is written by hand: {"family": "parakeet", "blocks": [B, ...]}. Each B is null (the
block is dropped) or {"ffn1": M, "attention": M, "conv": M, "ffn2": M}. Each M is "all", null (the module is removed) or
the sorted list of the kept indices: intermediate units, heads, channels. The log says what it takes to load the result:
transformers alone where the original class can hold what is left, else this package or the code that travels with it.

Example:
  compress apply nvidia/parakeet-ctc-0.6b structure.json --out parakeet-small
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Applies a structure to a model and writes the smaller checkpoint.

    Args:
        arguments: The words after `compress apply`.

    Raises:
        ValueError: If the structure does not fit the model.
        OSError: If the model or the structure cannot be read.
    """
    from compress.cli import parse_verb, verb_parser

    parser = verb_parser("apply", __doc__)
    parser.add_argument("model", type=str, help="Checkpoint folder or Hub name.")
    parser.add_argument("structure", type=str, help="A structure.json.")
    parser.add_argument("--out", type=str, required=True, help="Folder for the smaller model.")
    options = parse_verb(parser, arguments)

    from compress.checkpoint import apply_structure

    apply_structure(options.model, options.structure, options.out)
