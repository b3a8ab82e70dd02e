"""Known matrices give known proposals; the beam finds what the exhaustive search finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.layers import coarse_search
from compress.search import best_proposals, proposal_score, segments


def planted(blocks: int, pairs: dict[tuple[int, int], float]) -> np.ndarray:
    matrix = np.full((blocks + 1, blocks + 1), 0.1)
    for (row, column), value in pairs.items():
        matrix[row, column] = matrix[column, row] = value
    return matrix


def test_a_known_matrix() -> None:
    """The second and the fifth block change little by themselves, the third and the fourth together."""
    matrix = planted(6, {(1, 2): 0.8, (4, 5): 0.7, (2, 4): 0.9})
    assert best_proposals(matrix, 1, 2) == [(1,), (4,)]
    assert best_proposals(matrix, 2, 2) == [(2, 3), (1, 4)]
    assert coarse_search(matrix, 1, 2) == [(2,), (5,)]
    assert coarse_search(matrix, 2, 2) == [(3, 4), (2, 5)]
    assert all(isinstance(block, int) for block in coarse_search(matrix, 2, 1)[0])
    assert proposal_score(matrix, (1, 2, 4)) == pytest.approx((0.1 + 0.7) / 2)
    assert segments((1, 2, 3, 5, 7, 8)) == [(1, 3), (5, 5), (7, 8)]


def test_rows_are_inputs_and_columns_are_outputs() -> None:
    matrix = np.zeros((4, 4))
    matrix[1, 2], matrix[3, 2] = 0.5, 0.9
    assert best_proposals(matrix, 1, 1) == [(1,)]
    assert coarse_search(matrix, 1, 1) == [(2,)]


def test_equal_correlations_come_in_lexical_order() -> None:
    assert coarse_search(np.ones((5, 5)), 2, 3) == [(1, 2), (1, 3), (1, 4)]
    assert coarse_search(np.ones((5, 5)), 2, 3, strategy="beam") == [(1, 2), (1, 3), (1, 4)]


def test_neighbours_that_correlate_best_give_alternating_blocks() -> None:
    """What the authors' matrices look like: then the search says little more than every second block."""
    distance = abs(np.subtract.outer(np.arange(13), np.arange(13)))
    assert coarse_search(1 / (1 + distance), 6, 1) == [(1, 3, 5, 7, 9, 11)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_beam_is_exhaustive(data: st.DataObject) -> None:
    blocks = data.draw(st.integers(2, 9))
    fixed = data.draw(st.sets(st.integers(1, blocks), max_size=blocks - 1))
    remove = data.draw(st.integers(1, min(blocks - len(fixed), blocks - 1)))
    top_k = data.draw(st.integers(1, 15))
    matrix = np.random.default_rng(data.draw(st.integers(0, 10**6))).uniform(-1, 1, (blocks + 1, blocks + 1))
    every = coarse_search(matrix, remove, top_k, fixed=fixed, strategy="exhaustive")
    assert every == coarse_search(matrix, remove, top_k, fixed=fixed, strategy="beam", beam=1)
    free = [block for block in range(1, blocks + 1) if block not in fixed]
    ranked = sorted(itertools.combinations(free, remove), key=lambda one: -proposal_score(matrix, [b - 1 for b in one]))
    assert every == ranked[:top_k]
    from_zero = best_proposals(matrix, remove, top_k, fixed=[block - 1 for block in fixed])
    assert [tuple(block + 1 for block in proposal) for proposal in from_zero] == every


def test_a_planted_proposal_is_found_in_48_blocks() -> None:
    matrix = np.random.default_rng(0).uniform(0, 0.5, (49, 49))
    wanted = tuple(range(2, 49, 2))
    for block in wanted:
        matrix[block - 1, block] = 1.0
    assert coarse_search(matrix, 24, 10)[0] == wanted


@pytest.mark.parametrize(
    ("remove", "top_k", "fixed", "words"),
    [
        (0, 1, (), "remove is 0.*give 1 to 3"),
        (4, 1, (), "remove is 4.*at least one must stay"),
        (9, 1, (), "remove is 9"),
        (-1, 1, (), "remove is -1"),
        (3, 1, (1, 2), "of which 2 cannot be dropped.*give 1 to 2"),
        (1, 1, (1, 2, 3, 4), "none can be removed"),
        (1, 0, (), "top_k is 0"),
    ],
)
def test_impossible_numbers(remove: int, top_k: int, fixed: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        coarse_search(np.ones((5, 5)), remove, top_k, fixed=fixed)


def test_matrices_that_are_none() -> None:
    for matrix, words in [(np.ones((3, 4)), "square"), (np.full((3, 3), np.nan), "not finite"), ([[1.0]], "square")]:
        with pytest.raises(ValueError, match=words):
            coarse_search(matrix, 1, 1)
    with pytest.raises(ValueError, match="strategy='fast' is unknown"):
        coarse_search(np.ones((3, 3)), 1, 1, strategy="fast")  # type: ignore[arg-type]
