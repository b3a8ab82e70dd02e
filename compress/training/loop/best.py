"""The best value seen so far, and when."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Best:
    """Tracks the lowest value (e.g. the dev WER) of a run; part of its checkpoints, so a resumed run keeps it.

    Attributes:
        value: the lowest so far, infinite before the first.
        step: the step at which it was reached, -1 before the first.
        details: what else is known of it, as JSON.
    """

    value: float = math.inf
    step: int = -1
    details: dict[str, Any] = field(default_factory=dict)

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
        """Puts back what `state_dict` gave."""
        self.value, self.step = float(state["value"]), int(state["step"])
        self.details = dict(state.get("details", {}))
