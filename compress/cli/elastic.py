"""Make a checkpoint elastic: one that runs at several sizes, switched by model.activate("8") without reloading.

What runs at a size comes from a structure.json: of blocks that are dropped whole, the number that is left is the size's
name; of a Structure that keeps parts of blocks, the name of the file is. Where there is none, a rule chooses whole
blocks: every_other leaves blocks out at even distances, last_first from the end. Neither looks at data. Models that
were trained with stochastic depth and intermediate CTC (recipes/train.py) lose least, and by last_first.

Examples:
  compress elastic runs/train/best --depths 4 6 --out parakeet-elastic
  compress elastic runs/train/best --structures six.json four.json --out parakeet-elastic
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Makes a checkpoint elastic.

    Args:
        arguments: The words after `compress elastic`.

    Raises:
        ValueError: If the model cannot run at such a depth, or the output folder exists.
    """
    from compress.cli import parse_verb, verb_parser

    parser = verb_parser("elastic", __doc__)
    parser.add_argument("model", type=str, help="Folder or Hub name of a checkpoint with a CTC head.")
    parser.add_argument("--depths", type=int, nargs="+", default=[], help="Depths whose blocks the rule chooses.")
    parser.add_argument("--rule", type=str, default="every_other", help="every_other or last_first.")
    parser.add_argument("--structures", type=str, nargs="+", default=[], help="A structure.json for each other size.")
    parser.add_argument("--out", type=str, required=True, help="Folder for the elastic checkpoint.")
    options = parse_verb(parser, arguments)

    from compress.elastic.make import make_checkpoint

    make_checkpoint(options.model, options.depths, options.rule, options.structures, options.out)
