"""Write the standalone model of one size of an elastic checkpoint.

Examples:
  compress extract runs/train/best --depth 8 --out parakeet-8
  compress extract runs/supernet/best --size 33% --out parakeet-third
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Which size becomes a model of its own.

    Attributes:
        model: folder or Hub name of an elastic checkpoint.
        size: one of the checkpoint's sizes.
        depth: how many blocks it is to have, instead of a size.
        out: folder for the model.
    """

    model: str
    size: str | None = None
    depth: int | None = None
    out: str


def run(arguments: Sequence[str]) -> None:
    """Extracts one size.

    Args:
        arguments: The words after `compress extract`.

    Raises:
        ValueError: If the checkpoint has no such size, or the output folder exists.
    """
    config = parse(ExtractConfig, arguments, prog="compress extract", description=__doc__, positional=["model"])

    from compress.elastic import extract

    extract(config.model, config.out, size=config.size, depth=config.depth)
