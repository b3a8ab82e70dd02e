"""Generators that have a name and a state of their own."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import torch

BYTES = 7
"""Of a digest, which make a seed that torch takes."""


class Noise:
    """A named source of random numbers, whose state is part of a run's checkpoints.

    Whatever a method draws for itself comes from one of these, so that nothing else moves it. It lives on the CPU on
    every machine and begins with the same seed on every process, so that all of them draw alike.

    Args:
        seed: of the run.
        name: of what draws; two names draw nothing alike.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = sha256(f"{name} {seed}".encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:BYTES], "big"))

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.generator.set_state(state["generator"])
