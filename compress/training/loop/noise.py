"""Generators that have a name and a state of their own."""

from __future__ import annotations

from typing import Any

import torch


class Noise:
    """The named generator of the gates' noise; part of a run's checkpoints. It lives on the CPU on every machine."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.generator.set_state(state["generator"])
