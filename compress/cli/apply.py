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
from dataclasses import dataclass

from compress.config import parse


@dataclass(frozen=True, kw_only=True)
class ApplyConfig:
    """What is removed from which model.

    Attributes:
        model: checkpoint folder or Hub name.
        structure: a structure.json.
        out: folder for the smaller model.
    """

    model: str
    structure: str
    out: str


def run(arguments: Sequence[str]) -> None:
    """Applies a structure to a model and writes the smaller checkpoint.

    Args:
        arguments: The words after `compress apply`.

    Raises:
        ValueError: If the structure does not fit the model.
        OSError: If the model or the structure cannot be read.
    """
    names = ("model", "structure")
    config = parse(ApplyConfig, arguments, prog="compress apply", description=__doc__, positional=names)

    from compress.checkpoint import apply_structure

    apply_structure(config.model, config.structure, config.out)
