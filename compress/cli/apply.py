"""Remove from a model everything that a structure.json leaves out, and save the smaller model.

The structure comes from a recipe or is written by hand: {"family": "parakeet", "blocks": [B, ...]}. Each B is null (the
block is dropped) or {"ffn1": M, "attention": M, "conv": M, "ffn2": M}. Each M is "all", null (the module is removed) or
the sorted list of the kept indices: intermediate units, heads, channels. The log says what it takes to load the result:
transformers alone where the original class can hold what is left, else this package or the code that travels with it.
With --data, what is left is then refitted in closed form on a few minutes of speech, as `compress shrink` does.

Examples:
  compress apply nvidia/parakeet-ctc-0.6b structure.json --out parakeet-small
  compress apply runs/teacher/best structure.json --data my-speech --refit.utterances 256 --out small
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Applies a structure to a model and writes the smaller checkpoint.

    Args:
        arguments: The words after `compress apply`.

    Raises:
        ValueError: If the structure does not fit the model, or the speech is unusable.
        OSError: If the model, the structure or the speech cannot be read.
    """
    from compress.checkpoint import apply_structure
    from compress.config import parse
    from compress.shrinking import ApplyConfig, shrink_checkpoint

    names = ("model", "structure")
    config = parse(ApplyConfig, arguments, prog="compress apply", description=__doc__, positional=names)
    if config.data is None:
        apply_structure(config.model, config.structure, config.out)
    else:
        shrink_checkpoint(config.shrinking())
