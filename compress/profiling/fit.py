"""From the times of whole models to what their modules cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.latency import KIND_OF, LINE_KINDS
from compress.structure import MODULES, Structure, count_kept
from compress.surgery.front_costs import NO_FRONT, FrontCosts

Units = Sequence[dict[str, int]]
MACS_OF_FRONT = 2
"""The last of `features_of`, which count MACs."""


def features_of(structure: Structure, units: Units, front: FrontCosts = NO_FRONT) -> list[int]:
    """What a time is linear in: 1, the number of blocks, by kind the number of modules and of their units, and MACs.

    Args:
        structure: of a model.
        units: of each block of the model, by module.
        front: what its channels in front of the blocks cost in MACs: for themselves, and in pairs.
    """
    modules, kept = dict.fromkeys(LINE_KINDS, 0), dict.fromkeys(LINE_KINDS, 0)
    for block, counts in zip(structure.blocks, units, strict=True):
        for name in MODULES if block is not None else ():
            count = count_kept(getattr(block, name), counts[name])
            modules[KIND_OF[name]] += count > 0
            kept[KIND_OF[name]] += count
    blocks = sum(block is not None for block in structure.blocks)
    lines = (number for kind in LINE_KINDS for number in (modules[kind], kept[kind]))
    return [1, blocks, *lines, *front.parts(front.kept(structure))]


@dataclass(frozen=True)
class Fit:
    """Coefficients of `features_of`, none of them negative, in seconds."""

    coefficients: NDArray[np.float64]

    @classmethod
    def of(cls, features: Sequence[Sequence[int]], seconds: Sequence[float]) -> Fit:
        """The least squares of relative errors, without what would come out negative.

        Args:
            features: of each model.
            seconds: that each took.
        """
        rows, times = np.array(features, dtype=np.float64), np.array(seconds)
        weighted, ones = rows / times[:, None], np.ones(len(times))
        coefficients = np.zeros(rows.shape[1])
        left = [column for column in range(rows.shape[1]) if rows[:, column].any()]
        while left:
            solved = np.linalg.lstsq(weighted[:, left], ones, rcond=None)[0]
            if solved.min() >= 0:
                coefficients[left] = solved
                break
            left.pop(int(solved.argmin()))
        return cls(coefficients)

    def rounded(self, unit: float) -> Fit:
        """The same with whole multiples of a unit, in seconds, as costs; those of MACs, far below it, stay."""
        whole = np.round(self.coefficients[:-MACS_OF_FRONT] / unit) * unit
        return Fit(np.concatenate([whole, self.coefficients[-MACS_OF_FRONT:]]))

    def off(self, features: Sequence[Sequence[int]], seconds: Sequence[float]) -> NDArray[np.float64]:
        """By how much predictions are above the truth, as shares of it."""
        predicted = np.array(features, dtype=np.float64) @ self.coefficients
        relative: NDArray[np.float64] = predicted / np.array(seconds) - 1
        return relative
