"""Train a Conformer with CTC from scratch, or fine-tune one, also for several depths or for skipping.

The same as `accelerate launch recipes/train.py` with the same options; what
`accelerate config` has saved is obeyed.

Example:
  compress train --config configs/train/parakeet-small_digits.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

from compress.cli._recipes import launch


def run(arguments: Sequence[str]) -> None:
    """Starts the recipe, and ends as it ends.

    Args:
        arguments: The words after `compress train`.
    """
    launch("train", "train.py", __doc__ or "", arguments)
