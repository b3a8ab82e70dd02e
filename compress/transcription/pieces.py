"""Long recordings in pieces that a model can take, cut where it is quiet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOP_SECONDS = 0.02
QUIET_SECONDS = 0.2
"""A cut needs a pause, not the short closure inside of a consonant: levels are averaged over this time."""


def cuts(samples: NDArray[np.float32], rate: int, longest_seconds: float) -> list[tuple[int, int]]:
    """Divides a recording into pieces, each cut in its quietest place behind half of the longest length.

    Args:
        samples: `(samples,)`.
        rate: in Hz.
        longest_seconds: of a piece.

    Returns:
        First sample and the one behind the last, of each piece; together they are the whole recording.
    """
    longest, hop = max(2, round(longest_seconds * rate)), max(1, round(HOP_SECONDS * rate))
    pieces, start = [], 0
    while len(samples) - start > longest:
        first = start + longest // 2
        end = first + _quietest(samples[first : start + longest], hop)
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(samples))]


def _quietest(samples: NDArray[np.float32], hop: int) -> int:
    """The middle of the quietest stretch; of several, the last."""
    hops = max(1, len(samples) // hop)
    power = np.square(samples[: hops * hop], dtype=np.float64).reshape(hops, -1).mean(axis=1)
    width = min(hops, max(1, round(QUIET_SECONDS / HOP_SECONDS)))
    level = np.convolve(power, np.ones(width), mode="valid")
    last = len(level) - 1 - int(np.argmin(level[::-1]))
    return max(1, (last + width // 2) * hop)
