"""What a kind of input is to the programs that break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        files: that are mutated, below the folder that `make` fills.
        make: fills a folder with valid input.
        read: reads it, as the package does.
        loss: of the folder, what was read, and what was read of the whole input: what got lost; empty if nothing did.
        lost_is: the class of a loss about which nothing was said.
    """

    files: tuple[str, ...]
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    loss: Callable[[Path, Any, Any], str]
    lost_is: str = "silent"
