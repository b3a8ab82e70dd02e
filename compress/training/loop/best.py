"""The best value seen so far, and when."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field
from typing import Any

logger = logging.getLogger(__name__)


@dataclass
class Best:
    """Tracks the lowest value (e.g. the dev WER) of a run; part of its checkpoints, so a resumed run keeps it.

    Attributes:
        value: the lowest so far, infinite before the first.
        step: the step at which it was reached, -1 before the first.
        details: what else is known of it, as JSON.
        on: the settings of the speech on which values are measured, as JSON. Values on other speech are not comparable:
            a state that was measured on it is left behind.
    """

    value: float = math.inf
    step: int = -1
    details: dict[str, Any] = field(default_factory=dict)
    on: str = ""

    def improved(self, value: float, step: int, details: dict[str, Any] | None = None) -> bool:
        """Takes note of a value; True if it is lower than all before. A tie or NaN is no improvement."""
        if not value < self.value:
            return False
        self.value, self.step, self.details = value, step, details or {}
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave, unless that was measured on other speech."""
        if state.get("on", self.on) != self.on:
            logger.warning("The dev set has changed: which model is the best is judged anew from here on.")
            return
        self.value, self.step = float(state["value"]), int(state["step"])
        self.details = dict(state.get("details", {}))
