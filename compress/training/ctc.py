"""The CTC loss, in float32 whatever the forward pass used."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional

from compress.data.loader import IGNORED_LABEL, frames_needed

logger = logging.getLogger(__name__)


def ctc_loss(
    logits: Tensor,
    frames: Tensor,
    labels: Tensor,
    blank: int,
    utterances: Tensor | float | None = None,
    repeat_penalty: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """CTC loss per target token, averaged over the utterances (Graves et al. 2006).

    An utterance whose target needs more frames than it has cannot be aligned: it adds nothing, and is pointed out.

    With a penalty every alignment counts exp(-penalty) as much for each frame that only repeats the token of the frame
    before: the soft restriction of Yang et al. 2023 (arXiv 2305.11558), which leaves blanks where tokens were held.

    Args:
        logits: `(batch, frames, vocabulary)`, any floating type.
        frames: `(batch,)` number of valid frames of each utterance, or the mask `(batch, frames)` of valid frames.
        labels: `(batch, tokens)` target ids, padded with -100.
        blank: id of the blank token.
        utterances: what the sum over utterances is divided by; None: their number. See `Counts`.
        repeat_penalty: of a frame that repeats its token, in nats, from 0.

    Raises:
        ValueError: if a target id has no logit, for which torch would write outside of its memory.

    Returns:
        The scalar loss in float32, and `(batch,)` booleans: which utterances could not be aligned.
    """
    _require_logits(labels, logits.shape[-1])
    lengths = frames.sum(-1) if frames.ndim > 1 else frames
    valid = labels != IGNORED_LABEL
    targets, target_lengths = labels.masked_fill(~valid, 0), valid.sum(-1)
    log_probabilities = logits.float().log_softmax(-1)
    added: Tensor | float = 0.0
    if repeat_penalty:
        log_probabilities, of_frames = _penalised(log_probabilities, blank, repeat_penalty)
        counted = torch.arange(of_frames.shape[1], device=of_frames.device) < lengths[:, None]
        added = (of_frames * counted).sum(1) - repeat_penalty * target_lengths
    with torch.autocast(logits.device.type, enabled=False), torch.backends.cudnn.flags(enabled=False):
        losses = functional.ctc_loss(
            log_probabilities.transpose(0, 1), targets, lengths.long(), target_lengths, blank, reduction="none",
            zero_infinity=True,
        )  # fmt: skip
    unalignable = frames_needed(labels) > lengths
    losses = losses + added * ~unalignable
    total = (losses / target_lengths.clamp_min(1)).sum()
    return total / (len(labels) if utterances is None else utterances), unalignable


def _penalised(log_probabilities: Tensor, blank: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Distributions in which every token but the blank costs the penalty, and what that adds to the loss of each frame.

    A path through U tokens that spends n frames on them repeats n - U times, so the penalty of repeats is one of all n
    frames, less that of U. torch's gradient holds for distributions only: they are normalised again, and the constant
    by which each frame's was is added to the loss.
    """
    costs = torch.full_like(log_probabilities[0, 0], penalty)
    costs[blank] = 0.0
    costly = log_probabilities - costs
    total = costly.logsumexp(-1, keepdim=True)
    return costly - total, -total.squeeze(-1)


def _require_logits(labels: Tensor, vocabulary: int) -> None:
    largest = int(labels.max()) if labels.numel() else 0
    if largest >= vocabulary:
        raise ValueError(
            f"A transcript holds token {largest}, but the model has outputs for {vocabulary} tokens: the tokenizer is "
            "not the one that the model was trained with."
        )
