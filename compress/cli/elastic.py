"""Make a checkpoint elastic: one that runs at several sizes, switched by model.activate("8") without reloading.

What runs at a size comes from a structure.json: of blocks that are dropped whole, the number that is left is the size's
name; of a Structure that keeps parts of blocks, the name of the file is. Where there is none, a rule chooses whole
blocks: every_other leaves blocks out at even distances, last_first from the end. Neither looks at data. Models that
were trained with stochastic depth and intermediate CTC (recipes/train.py) lose least, and by last_first.

Examples:
  compress elastic runs/train/best --depths [4,6] --out parakeet-elastic
  compress elastic runs/train/best --structures [six.json,four.json] --out parakeet-elastic
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse


@dataclass(frozen=True, kw_only=True)
class MakeElasticConfig:
    """What is made elastic, and which sizes it gets.

    Attributes:
        model: folder or Hub name of a checkpoint with a CTC head.
        depths: numbers of blocks that the rule chooses, such as `[4,6]`.
        rule: every_other or last_first.
        structures: a structure.json for each other size, such as `[six.json,four.json]`.
        out: folder for the elastic checkpoint.
    """

    model: str
    depths: tuple[int, ...] = ()
    rule: str = "every_other"
    structures: tuple[str, ...] = ()
    out: str


def run(arguments: Sequence[str]) -> None:
    """Makes a checkpoint elastic.

    Args:
        arguments: The words after `compress elastic`.

    Raises:
        ValueError: If the model cannot run at such a depth, or the output folder exists.
    """
    config = parse(MakeElasticConfig, arguments, prog="compress elastic", description=__doc__, positional=["model"])

    from compress.elastic.make import make_checkpoint

    make_checkpoint(config.model, config.depths, config.rule, config.structures, config.out)
