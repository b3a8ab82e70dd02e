"""Bootstrap intervals over utterances: utterances are drawn with replacement, errors are pooled anew each time.

Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation", sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.config import check

_DRAWS_PER_CHUNK = 4_000_000  # bounds the memory of the index table, 32 MB
_FEWEST_RESAMPLES = 100
_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class BootstrapConfig:
    """How the 95 % intervals are computed: percentile bootstrap over utterances.

    Attributes:
        resamples: how often utterances are drawn anew; 1000 or more give steady intervals.
        seed: of the drawing.
    """

    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        enough = self.resamples >= _FEWEST_RESAMPLES
        check(enough, "bootstrap.resamples", self.resamples, f"take at least {_FEWEST_RESAMPLES}, better 1000 or more")


@dataclass(frozen=True)
class Interval:
    """The ends of a 95 % confidence interval."""

    low: float
    high: float

    def to_list(self) -> list[float]:
        """Returns `[low, high]`."""
        return [self.low, self.high]


def rate_interval(errors: NDArray[np.int64], words: NDArray[np.int64], config: BootstrapConfig) -> Interval:
    """Interval of one corpus error rate.

    Args:
        errors: errors per utterance, (utterances,).
        words: reference words per utterance, (utterances,).
        config: number of resamples, seed.

    Raises:
        ValueError: the arrays differ in length, are empty, or hold no reference word.
    """
    _check(errors, words)
    return _percentiles(_resampled(errors[:, None], words, config)[:, 0])


def paired_interval(
    errors: NDArray[np.int64],
    baseline_errors: NDArray[np.int64],
    words: NDArray[np.int64],
    config: BootstrapConfig,
) -> Interval:
    """Interval of the difference model - baseline, on the *same* resampled utterances.

    Pairing removes what the two systems share (hard utterances), so the interval is narrower than that of two
    independent error rates. Arguments and errors as in `rate_interval`; all arrays are (utterances,).
    """
    _check(errors, words)
    _check(baseline_errors, words)
    rates = _resampled(np.stack([errors, baseline_errors], axis=1), words, config)
    return _percentiles(rates[:, 0] - rates[:, 1])


def _check(errors: NDArray[np.int64], words: NDArray[np.int64]) -> None:
    if errors.shape != words.shape or errors.ndim != 1:
        raise ValueError(f"errors {errors.shape} and words {words.shape} must be flat arrays of equal length.")
    if words.sum() == 0:
        raise ValueError(f"{len(words)} utterances without a reference word have no error rate.")


def _resampled(errors: NDArray[np.int64], words: NDArray[np.int64], config: BootstrapConfig) -> NDArray[np.float64]:
    """Error rates of every resample; errors (utterances, systems) -> (resamples, systems).

    A resample that drew only empty references has no rate and is left out.
    """
    rates = []
    for drawn in _draws(len(words), config):
        total = words[drawn].sum(axis=1)
        usable = total > 0
        rates.append(errors[drawn].sum(axis=1)[usable] / total[usable, None])
    return np.concatenate(rates)


def _draws(utterances: int, config: BootstrapConfig) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(config.seed)
    rows = max(1, _DRAWS_PER_CHUNK // utterances)
    for start in range(0, config.resamples, rows):
        yield generator.integers(0, utterances, (min(rows, config.resamples - start), utterances))


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [_TAIL, 1.0 - _TAIL])
    return Interval(float(low), float(high))
