"""The CTC loss, in float32 whatever the forward pass used."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional

from compress.data.loader import IGNORED_LABEL, frames_needed

logger = logging.getLogger(__name__)


def ctc_loss(
    logits: Tensor, frames: Tensor, labels: Tensor, blank: int, utterances: Tensor | float | None = None
) -> tuple[Tensor, Tensor]:
    """CTC loss per target token, averaged over the utterances (Graves et al. 2006).

    An utterance whose target needs more frames than it has cannot be aligned: it adds nothing, and is pointed out.

    Args:
        logits: `(batch, frames, vocabulary)`, any floating type.
        frames: `(batch,)` number of valid frames of each utterance, or the mask `(batch, frames)` of valid frames.
        labels: `(batch, tokens)` target ids, padded with -100.
        blank: id of the blank token.
        utterances: what the sum over utterances is divided by; None: their number. See `Counts`.

    Raises:
        ValueError: if a target id has no logit, for which torch would write outside of its memory.

    Returns:
        The scalar loss in float32, and `(batch,)` booleans: which utterances could not be aligned.
    """
    _require_logits(labels, logits.shape[-1])
    lengths = frames.sum(-1) if frames.ndim > 1 else frames
    valid = labels != IGNORED_LABEL
    targets, target_lengths = labels.masked_fill(~valid, 0), valid.sum(-1)
    log_probabilities = logits.float().log_softmax(-1).transpose(0, 1)
    with torch.autocast(logits.device.type, enabled=False), torch.backends.cudnn.flags(enabled=False):
        losses = functional.ctc_loss(
            log_probabilities, targets, lengths.long(), target_lengths, blank, reduction="none", zero_infinity=True
        )
    total = (losses / target_lengths.clamp_min(1)).sum()
    return total / (len(labels) if utterances is None else utterances), frames_needed(labels) > lengths


def _require_logits(labels: Tensor, vocabulary: int) -> None:
    largest = int(labels.max()) if labels.numel() else 0
    if largest >= vocabulary:
        raise ValueError(
            f"A transcript holds token {largest}, but the model has outputs for {vocabulary} tokens: the tokenizer is "
            "not the one that the model was trained with."
        )
