"""CTC heads of models that skip: those behind inner blocks, and heads that tell the blank apart from the tokens."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

BLANK_IS_BEST = 0.5
"""With a probability above, the blank is the best token whatever the others are."""


def factorised_log_probabilities(scores: Tensor, blank: int) -> Tensor:
    """A factorised CTC distribution: is it the blank (a sigmoid), and which token otherwise (a softmax of the others).

    p(blank) = sigmoid(s_blank), p(token) = (1 - p(blank)) softmax(s without s_blank). It sums to one, so that a softmax
    of what is returned changes nothing (Hou et al. 2023 name it; this form is ours).

    Args:
        scores: `(..., vocabulary)`.
        blank: id of the blank.

    Returns:
        The logarithms, `(..., vocabulary)`, float32.
    """
    scores = scores.float()
    log_odds = scores[..., blank : blank + 1]
    is_blank = torch.arange(scores.shape[-1], device=scores.device) == blank
    tokens = scores.masked_fill(is_blank, -torch.inf).log_softmax(-1) + functional.logsigmoid(-log_odds)
    return torch.where(is_blank, functional.logsigmoid(log_odds), tokens)


def blank_probability(logits: Tensor, blank: int) -> Tensor:
    """The probability of the blank, `(batch, frames)`, float32, in logits `(batch, frames, vocabulary)`."""
    logits = logits.float()
    return (logits[..., blank] - logits.logsumexp(-1)).exp()


class Factorised:
    """What a CTC head gains whose output is a factorised distribution.

    In eval mode the tokens of frames that are surely blank are not computed: they share what is left of the probability
    evenly. No more than 1 - threshold is spread that way. From `BLANK_IS_BEST` on, the best token is what it would be.

    Attributes:
        blank: id of the blank.
        threshold: tokens are computed where the blank's probability is not above; at 1 everywhere.
    """

    blank = 0
    threshold = 1.0

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities `(batch, frames, vocabulary)` of `(batch, frames, hidden)`, float32."""
        if self.training or self.threshold >= 1 or hidden.is_meta:  # type: ignore[attr-defined]
            return factorised_log_probabilities(super().forward(hidden), self.blank)  # type: ignore[misc]
        weight, bias = _rows(self)
        log_odds = self.log_odds(hidden)
        needed = log_odds.sigmoid() <= self.threshold
        others = functional.logsigmoid(-log_odds) - math.log(max(1, len(weight) - 1))
        output = others[..., None].repeat(1, 1, len(weight))
        output[..., self.blank] = functional.logsigmoid(log_odds)
        scores = functional.linear(hidden[needed], weight, bias)
        output[needed] = factorised_log_probabilities(scores, self.blank)
        return output

    def log_odds(self, hidden: Tensor) -> Tensor:
        """Log-odds of the blank, `(batch, frames)`, float32, without computing any token."""
        weight, bias = _rows(self)
        score = hidden @ weight[self.blank]
        return (score if bias is None else score + bias[self.blank]).float()


def factorise(head: nn.Module, blank: int) -> None:
    """Makes the output of a CTC head factorised, in place; its weights and their names stay."""
    if not isinstance(head, Factorised):
        head.__class__ = _factorised_class(cast(Hashable, type(head)))
    head.blank = blank  # type: ignore[assignment]


@cache
def _factorised_class(head_class: Any) -> type[nn.Module]:
    return type(head_class.__name__, (Factorised, head_class), {"__module__": head_class.__module__})


def _rows(head: Any) -> tuple[Tensor, Tensor | None]:
    """One row of weights and one bias per token; a head is a linear layer or a convolution of width 1."""
    return head.weight.flatten(1), head.bias
