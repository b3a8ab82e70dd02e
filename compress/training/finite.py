"""What to do when a loss or gradient is not finite: skip the step, name the files, and give up at a limit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

SHOWN_IDS = 8
"""Utterances named in a message."""


class NotFiniteError(ValueError):
    """Too many steps had a loss or gradient that was not finite."""


@dataclass
class FiniteGuard:
    """Refuses steps whose gradient is not finite.

    The norm of the gradient is the witness: after gradients have been averaged it is the same on every rank, so all
    ranks skip together. Running statistics (BatchNorm) that the bad forward pass has spoilt are put back.

    Attributes:
        model: the trained model.
        limit: skipped steps, over the whole run, at which it stops.
        skipped: steps skipped so far.
    """

    model: nn.Module
    limit: int
    skipped: int = 0
    _statistics: list[Tensor] = field(default_factory=list, repr=False)
    _backup: list[Tensor] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._statistics = [b for b in self.model.buffers() if b.is_floating_point() and b.numel()]
        self._backup = [torch.empty_like(buffer) for buffer in self._statistics]

    @torch.no_grad()
    def remember(self) -> None:
        """Call before the forward pass: keeps the running statistics."""
        if self._statistics:
            torch._foreach_copy_(self._backup, self._statistics)

    @torch.no_grad()
    def accepts(self, gradient_norm: Tensor | float, loss: Tensor, ids: Sequence[str], step: int) -> bool:
        """Call before the optimizer's step; False asks to leave it out.

        Args:
            gradient_norm: total norm of the averaged gradient.
            loss: this rank's scalar loss.
            ids: the utterances of this rank's batch.
            step: for the message.

        Raises:
            NotFiniteError: at the limit.
        """
        if bool(torch.isfinite(torch.as_tensor(gradient_norm))):
            return True
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._backup)
        self.skipped += 1
        names = ", ".join(ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
        message = f"Step {step}: loss {float(loss):g}, gradient norm {float(gradient_norm):g} on {names}"
        logger.warning("%s. Skipped (%d of at most %d).", message, self.skipped, self.limit)
        if self.skipped >= self.limit:
            raise NotFiniteError(
                f"{message}. {self.skipped} steps were skipped, the limit. Listen to the named files; "
                "if they are sound, lower the learning rate, lengthen the warm-up, or set precision to fp32."
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.skipped = int(state["skipped"])
