"""Blocks that can be passed over, at run time or in training, as if they had been dropped.

A block that is passed over gives back the hidden states as they came, which is what dropping the whole block by
`compress.remove` leaves. No parameter moves, so the weights have the same names whichever blocks run.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import blocks_of


class Skippable:
    """What a block gains that can be passed over.

    Attributes:
        skipped: the block is passed over.
        dropped: the block is passed over while the model is in training mode.
    """

    skipped = False
    dropped = False

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The block's output, or the hidden states as they came; both `(batch, frames, hidden)`."""
        if self.skipped or (self.dropped and self.training):  # type: ignore[attr-defined]
            return hidden_states
        output: Tensor = super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        return output


def make_skippable(model: PreTrainedModel) -> list[Any]:
    """Lets the blocks of a CTC model be passed over, in place.

    Each block's class becomes one of the same name that is derived from `Skippable` and from what it was.

    Returns:
        The blocks, in running order.
    """
    blocks = blocks_of(model)
    for block in blocks:
        if not isinstance(block, Skippable):
            block.__class__ = _skippable_class(cast(Hashable, type(block)))
    return blocks


@cache
def _skippable_class(block_class: Any) -> type[nn.Module]:
    return type(block_class.__name__, (Skippable, block_class), {"__module__": block_class.__module__})
