"""The way from a block's output to CTC logits, as the last block's output goes it."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers.parts import family_of, part
from compress.conformers.registry import UnsupportedModelError


def ctc_head(model: PreTrainedModel) -> nn.Module:
    """The CTC head of a model to which the output of any of its blocks can be led.

    Raises:
        UnsupportedModelError: if it has none, or if an adapter stands before it.
    """
    family = family_of(model)
    if family.head is None:
        raise UnsupportedModelError(f"A {family.name} has no CTC head; the outputs of its blocks have no logits.")
    for path in family.adapters:
        if part(model, path) is not None:
            raise UnsupportedModelError(
                f"Between the last block and the CTC head of this {family.name} stands {path}, which changes the frame "
                "rate or the width: the outputs of its other blocks have no logits. Use a model without an adapter."
            )
    head: nn.Module = part(model, family.head)
    return head


def head_logits(model: PreTrainedModel, hidden: Tensor, head: nn.Module | None = None) -> Tensor:
    """The CTC logits of a block's output, by way of whatever stands between the last block and the head.

    Args:
        model: a CTC model.
        hidden: `(batch, frames, hidden)`, of a block behind the last one that changes the frame rate.
        head: used instead of the model's own.

    Returns:
        `(batch, frames, vocabulary)`.
    """
    for path in family_of(model).to_head:
        hidden = part(model, path)(hidden)
    logits: Tensor = (head or ctc_head(model))(hidden)
    return logits
