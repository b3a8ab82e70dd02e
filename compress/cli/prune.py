"""Compress a model to a budget: learn what stays, remove the rest, and let the small model recover.

The same as `accelerate launch recipes/prune.py` with the same options; what
`accelerate config` has saved is obeyed.

Example:
  compress prune --config configs/prune/parakeet-ctc-0.6b_librispeech.yaml --budget.params 50%
"""

from __future__ import annotations

from collections.abc import Sequence

from compress.cli._recipes import launch


def run(arguments: Sequence[str]) -> None:
    """Starts the recipe, and ends as it ends.

    Args:
        arguments: The words after `compress prune`.
    """
    launch("prune", "prune.py", __doc__ or "", arguments)
