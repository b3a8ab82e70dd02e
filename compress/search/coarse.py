"""Coarse search: which blocks a correlation matrix proposes to remove (CoMFLP, Liu, Peng, Lee 2023, arXiv 2309.11768).

Block b, from 0, lies between boundaries b and b + 1; boundary 0 is the input of the first block. A proposal is scored
by the mean, over its runs of adjacent blocks, of the correlation between the input and the output of the run: what
hardly changes the representation is the first to go. The correlation only screens; the fine search by word error rate
decides (in the authors' logs the two disagree badly at times). Only `coarse_search` numbers blocks from 1.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compress.config import check_at_least, check_choice

Proposal = tuple[int, ...]
"""Numbers of removed blocks, sorted."""
Strategy = Literal["auto", "exhaustive", "beam"]

MOST_EXHAUSTIVE = 20_000
"""Proposals that `auto` still tries one by one, in a tenth of a second: all of 12 blocks, not those of 24."""
BEAM = 10
"""Partial proposals kept in each state of the beam, at least: the width in CoMFLP's code."""


def coarse_search(
    matrix: ArrayLike,
    remove: int,
    top_k: int,
    *,
    fixed: Collection[int] = (),
    strategy: Strategy = "auto",
    beam: int = BEAM,
) -> list[Proposal]:
    """Finds the best proposals, best first, with blocks numbered from 1, as in the paper and its code.

    Everything else here numbers blocks from 0; `best_proposals` gives the same proposals so numbered.

    Args:
        matrix: `(blocks + 1, blocks + 1)`, correlation of boundary i (row) with boundary j (column).
        remove: how many blocks go.
        top_k: how many proposals are wanted; all there are, if there are fewer.
        fixed: numbers, from 1, of blocks that have to stay.
        strategy: `exhaustive`, `beam`, or `auto`: exhaustive up to `MOST_EXHAUSTIVE` proposals.
        beam: width of the beam; raised to `top_k`.

    Returns:
        Tuples of sorted block numbers, from 1.

    Raises:
        ValueError: if the matrix is not square or not finite, or the numbers do not fit.
    """
    held = [number - 1 for number in fixed]
    proposals = best_proposals(matrix, remove, top_k, fixed=held, strategy=strategy, beam=beam)
    return [tuple(block + 1 for block in proposal) for proposal in proposals]


def best_proposals(
    matrix: ArrayLike,
    remove: int,
    top_k: int,
    *,
    fixed: Collection[int] = (),
    strategy: Strategy = "auto",
    beam: int = BEAM,
) -> list[Proposal]:
    """Finds the best proposals, best first; of equal ones the first in lexical order comes first.

    The beam goes through the blocks in order and keeps the best partial proposals of each state (blocks removed, number
    of runs, where a run that still goes on began). Within a state, what is better stays better, so a beam that is
    `top_k` wide, which it always is, finds what the exhaustive search finds, at any depth. CoMFLP's own beam adds one
    block after another anywhere and promises nothing of the kind.

    Args:
        matrix: `(blocks + 1, blocks + 1)`, correlation of boundary i (row) with boundary j (column).
        remove: how many blocks go.
        top_k: how many proposals are wanted; all there are, if there are fewer.
        fixed: numbers of blocks that have to stay.
        strategy: `exhaustive`, `beam`, or `auto`: exhaustive up to `MOST_EXHAUSTIVE` proposals.
        beam: width of the beam; raised to `top_k`.

    Raises:
        ValueError: if the matrix is not square or not finite, or the numbers do not fit.
    """
    values, free = _read(matrix, remove, top_k, fixed)
    check_choice("strategy", strategy, get_args(Strategy))
    every = strategy == "exhaustive" or (strategy == "auto" and math.comb(len(free), remove) <= MOST_EXHAUSTIVE)
    proposals = combinations(free, remove) if every else _beam(values, remove, free, max(beam, top_k))
    return heapq.nsmallest(top_k, proposals, key=lambda proposal: (-proposal_score(values, proposal), proposal))


def proposal_score(matrix: ArrayLike, proposal: Sequence[int]) -> float:
    """Averages, over runs of removed blocks, the correlation between the run's input and its output.

    Args:
        matrix: `(blocks + 1, blocks + 1)`, correlation of boundary i (row) with boundary j (column).
        proposal: sorted block numbers, at least one.
    """
    values = np.asarray(matrix)
    runs = segments(proposal)
    return float(sum(float(values[first, last + 1]) for first, last in runs) / len(runs))


def segments(proposal: Sequence[int]) -> list[tuple[int, int]]:
    """Finds the runs of adjacent blocks, `(first, last)`: (2, 3, 7) gives [(2, 3), (7, 7)]."""
    runs: list[tuple[int, int]] = []
    for block in proposal:
        if runs and runs[-1][1] == block - 1:
            runs[-1] = runs[-1][0], block
        else:
            runs.append((block, block))
    return runs


def check_remove(remove: int, blocks: int, fixed: Collection[int] = ()) -> list[int]:
    """Returns the numbers of the blocks that may go, once it is clear that so many can.

    Args:
        remove: how many blocks go.
        blocks: how many the model has.
        fixed: numbers of blocks that have to stay.

    Raises:
        ValueError: if nothing, everything, or more than possible is to go.
    """
    free = [block for block in range(blocks) if block not in fixed]
    most = min(len(free), blocks - 1)
    if not 1 <= remove <= most:
        held = f", of which {len(fixed)} cannot be dropped" if fixed else ""
        raise ValueError(
            f"remove is {remove}, but the model has {blocks} blocks{held}: at least one must stay, so give 1 to {most}."
            if most
            else f"The model has {blocks} blocks{held}: none can be removed."
        )
    return free


def _read(matrix: ArrayLike, remove: int, top_k: int, fixed: Collection[int]) -> tuple[NDArray[np.float64], list[int]]:
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 2:
        raise ValueError(f"The matrix must be square with one row more than there are blocks, got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("The matrix holds values that are not finite.")
    check_at_least("top_k", top_k, 1, "proposal")
    return values, check_remove(remove, len(values) - 1, fixed)


_NONE = -1
_State = tuple[int, int, int]  # blocks removed, runs ended, block where the run that goes on began (_NONE: none does)
_Partial = tuple[float, Proposal]  # minus the sum over ended runs; removed blocks


def _beam(matrix: NDArray[np.float64], remove: int, free: Sequence[int], width: int) -> Iterator[Proposal]:
    """Yields, block by block, the best partial proposals of each state. A run counts when it ends."""
    states: dict[_State, list[_Partial]] = {(0, 0, _NONE): [(0.0, ())]}
    allowed, blocks = set(free), len(matrix) - 1
    for block in range(blocks):
        grown: dict[_State, list[_Partial]] = {}
        for (removed, runs, start), partials in states.items():
            ended = _ended(matrix, partials, start, block - 1)
            grown.setdefault((removed, runs + (start != _NONE), _NONE), []).extend(ended)
            if block in allowed and removed < remove:
                longer = [(loss, (*proposal, block)) for loss, proposal in partials]
                began = block if start == _NONE else start
                grown.setdefault((removed + 1, runs, began), []).extend(longer)
        left = sum(later in allowed for later in range(block + 1, blocks))
        states = {
            state: heapq.nsmallest(width, partials) for state, partials in grown.items() if state[0] + left >= remove
        }
    for partials in states.values():
        yield from (proposal for _, proposal in partials)


def _ended(matrix: NDArray[np.float64], partials: list[_Partial], start: int, last: int) -> list[_Partial]:
    """Returns partial proposals whose run, if one goes on since block `start`, ended with block `last`."""
    gain = 0.0 if start == _NONE else float(matrix[start, last + 1])
    return [(loss - gain, proposal) for loss, proposal in partials]
