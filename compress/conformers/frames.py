"""The frames of a model: how many there are, what it makes of each, and which of them are no padding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers.parts import family_of, part


def frame_lengths(model: PreTrainedModel, attention_mask: Tensor) -> Tensor:
    """The number of output frames of each utterance.

    Args:
        model: of any family.
        attention_mask: `(batch, input frames)`, 1 where the input is speech and 0 where it is padding.

    Returns:
        `(batch,)`, int64.
    """
    method = family_of(model).frame_lengths
    lengths: Tensor = attention_mask.sum(-1)
    if method:
        lengths = part(model, method)(lengths)
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
