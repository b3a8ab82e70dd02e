"""The frames of a model: how many there are, what it makes of each, and which of them are no padding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers.parts import family_of, part


def frame_lengths(model: PreTrainedModel, attention_mask: Tensor, *, of_blocks: bool = False) -> Tensor:
    """The number of output frames of each utterance.

    Args:
        model: of any family.
        attention_mask: `(batch, input frames)`, 1 where the input is speech and 0 where it is padding.
        of_blocks: count the frames of the last block instead of those of the head, which an adapter between the two
            makes fewer.

    Returns:
        `(batch,)`, int64.
    """
    family = family_of(model)
    lengths: Tensor = attention_mask.sum(-1)
    if family.frame_lengths:
        options = dict(family.without_adapters) if of_blocks else {}
        lengths = part(model, family.frame_lengths)(lengths, **options)
    return lengths.to(torch.int64)


def frame_outputs(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a model makes of each frame: the logits of its CTC head or, where it has none, the output of its encoder.

    Args:
        model: of any family.
        inputs: its features and their `attention_mask`.

    Returns:
        `(batch, frames, vocabulary)` or `(batch, frames, hidden)`.
    """
    family = family_of(model)
    if family.has_ctc:
        logits: Tensor = model(**inputs).logits
        return logits
    hidden = inputs[family.features]
    if family.projection:
        hidden = part(model, family.projection)(hidden)
    mask = {} if family.ignores_padding else {"attention_mask": inputs.get("attention_mask")}
    output = part(model, family.encoder)(hidden, **mask)
    encoded: Tensor = getattr(output, "last_hidden_state", output)
    return encoded


def frame_mask(model: PreTrainedModel, inputs: Mapping[str, Tensor], frames: int) -> Tensor:
    """Which output frames belong to speech, not to padding.

    Args:
        model: of any family.
        inputs: what the model was called with; without an `attention_mask` every frame counts.
        frames: number of frames of the output.

    Returns:
        `(batch, frames)`, bool.
    """
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        features = inputs[family_of(model).features]
        return torch.ones(features.shape[0], frames, dtype=torch.bool, device=features.device)
    positions = torch.arange(frames, device=attention_mask.device)
    return positions < frame_lengths(model, attention_mask)[:, None]


def block_mask(model: PreTrainedModel, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """Which frames of the last block's output belong to speech, not to padding.

    Args:
        model: of any family.
        inputs: what the model was called with.
        mask: that of the output, see `frame_mask`.

    Returns:
        `(batch, frames of the block)`, bool; `mask` itself unless an adapter behind the blocks changes their frames.
    """
    attention_mask = inputs.get("attention_mask")
    adapters = [part(model, path) for path in family_of(model).adapters]
    if attention_mask is None or not any(adapter is not None for adapter in adapters):
        return mask
    frames = int(frame_lengths(model, torch.ones_like(attention_mask[:1]), of_blocks=True))
    positions = torch.arange(frames, device=attention_mask.device)
    return positions < frame_lengths(model, attention_mask, of_blocks=True)[:, None]
