"""Long recordings in pieces that a model can take, cut in pauses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HOP_SECONDS = 0.02
QUIET_HOPS = 5
"""A cut needs a pause, not the short closure inside of a consonant: levels are averaged over so many."""
PAUSE = 0.01
"""The power of a pause at most, as a share of that of speech: 20 dB below."""
LOUD = 0.75
"""So much of a recording is quieter than what counts as the level of its speech."""
SHORTEST = 0.12
"""Of the longest piece: no cut leaves less."""


def cuts(samples: NDArray[np.float32], rate: int, longest_seconds: float) -> list[tuple[int, int]]:
    """Divides a recording that is too long; each piece ends in the first pause behind its shortest length.

    Where no pause comes, a piece ends in its quietest place behind half of the longest length. Speakers take turns in
    pauses, so that most pieces have one speaker, as the utterances of a training set do.

    Args:
        samples: `(samples,)`.
        rate: in Hz.
        longest_seconds: of a piece.

    Returns:
        First sample and the one behind the last, of each piece; together they are the whole recording.
    """
    longest, hop = max(2, round(longest_seconds * rate)), max(1, round(HOP_SECONDS * rate))
    if len(samples) <= longest:
        return [(0, len(samples))]
    level, loud = _level(samples, hop)
    pauses = [hop * place for place in _pauses(level, loud)]
    pieces, start = [], 0
    while (end := _end(start, longest, level, hop, pauses, len(samples))) < len(samples):
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(samples))]


def _end(start: int, longest: int, level: NDArray[np.float64], hop: int, pauses: Sequence[int], length: int) -> int:
    """Where a piece ends that begins at `start`; `length`, where the recording does."""
    shortest = max(1, round(SHORTEST * longest))
    later = pauses[int(np.searchsorted(pauses, start + shortest)) :]
    if later and later[0] <= min(start + longest, length - shortest):
        return later[0]
    if length - start <= longest:
        return length
    first, last = start + longest // 2, min(start + longest, length - shortest)
    return min(last, max(first, hop * (first // hop + int(np.argmin(level[first // hop : last // hop + 1])))))


def _level(samples: NDArray[np.float32], hop: int) -> tuple[NDArray[np.float64], float]:
    """The power around each hop, and that of what is loud."""
    hops = max(1, len(samples) // hop)
    power = np.square(samples[: hops * hop], dtype=np.float64).reshape(hops, -1).mean(axis=1)
    width = min(hops, QUIET_HOPS)
    return np.convolve(power, np.ones(width) / width, mode="same"), float(np.quantile(power, LOUD))


def _pauses(level: NDArray[np.float64], loud: float) -> list[int]:
    """The hops that are quiet, and none near them is quieter; the middle of several that are equal."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(level, QUIET_HOPS, mode="edge"), 2 * QUIET_HOPS + 1)
    places = np.flatnonzero((level < PAUSE * loud) & (level <= around.min(axis=1)))
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [int(run[len(run) // 2]) for run in runs if len(run)]
