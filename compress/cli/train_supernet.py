"""Train one checkpoint that runs at several sizes, and learn what each of them keeps.

The same as `accelerate launch recipes/train_supernet.py` with the same options; what
`accelerate config` has saved is obeyed.

Example:
  compress train-supernet --config configs/supernet/parakeet-small_digits.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

from compress.cli._recipes import launch


def run(arguments: Sequence[str]) -> None:
    """Starts the recipe, and ends as it ends.

    Args:
        arguments: The words after `compress train-supernet`.
    """
    launch("train-supernet", "train_supernet.py", __doc__ or "", arguments)
