"""What each method asks for, on error rates that are known."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

from compress.search import Proposal
from compress.search.fine import ProposalTrial
from compress.search.methods import METHODS, Task, evenly_spaced, run_method


class Known:
    """Stands for a FineSearch: each block costs something when it goes."""

    def __init__(self, cost: Callable[[Proposal], float]) -> None:
        self.cost, self.evaluations, self.block_runs, self.block_runs_alone = cost, 0, 0, 0

    def measure(self, proposals: Collection[Proposal]) -> list[ProposalTrial]:
        self.evaluations += len(proposals)
        return [ProposalTrial(one, self.cost(one), (0.0, 1.0), 0.0) for one in proposals]


def task(blocks: int, remove: int, cost: Callable[[Proposal], float] = lambda one: 0.0, **more: Any) -> Task:
    generator = np.random.default_rng(blocks)
    free = more.pop("free", range(blocks))
    matrix = generator.random((blocks + 1, blocks + 1))
    return Task(blocks, list(free), remove, Known(cost), lambda: matrix, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("blocks", [6, 12, 24, 48])
def test_comflp_measures_as_many_at_any_depth(blocks: int) -> None:
    outcome = run_method("comflp", task(blocks, blocks // 2))
    assert outcome.evaluations == len(outcome.trials) == 10
    assert len({one.proposal for one in outcome.trials}) == 10
    greedy = run_method("greedy", task(blocks, blocks // 2))
    assert greedy.evaluations == sum(range(blocks // 2 + 1, blocks + 1))
    if blocks >= 24:
        assert outcome.evaluations <= greedy.evaluations / 10


def test_comflp_measures_every_proposal_when_there_are_few() -> None:
    outcome = run_method("comflp", task(4, 1))
    assert sorted(one.proposal for one in outcome.trials) == [(0,), (1,), (2,), (3,)]


def test_comflp_chooses_by_error_rate() -> None:
    outcome = run_method("comflp", task(6, 2, lambda one: float(20 - one[0] - one[-1]), top_k=3))
    assert outcome.best.wer == min(one.wer for one in outcome.trials)
    assert [one.wer for one in outcome.trials] == sorted(one.wer for one in outcome.trials)


def test_greedy_removes_what_costs_least() -> None:
    """Block 1 alone is cheapest, though 2 and 3 together would be cheaper still."""
    costs = {(1,): 0.1, (1, 4): 0.2, (2, 3): 0.15, (1, 4, 5): 0.3}
    outcome = run_method("greedy", task(6, 3, lambda one: costs.get(one, 0.9)))
    assert outcome.order == (1, 4, 5)
    assert outcome.best.proposal == (1, 4, 5)
    assert outcome.evaluations == 6 + 5 + 4


def test_greedy_takes_the_last_of_equals() -> None:
    assert run_method("greedy", task(5, 2)).order == (4, 3)


def test_blocks_that_have_to_stay_are_never_asked_about() -> None:
    for name in METHODS:
        outcome = run_method(name, task(6, 3, free=[1, 3, 4, 5]))
        assert all(set(one.proposal) <= {1, 3, 4, 5} and len(one.proposal) == 3 for one in outcome.trials)


@pytest.mark.parametrize(
    ("remove", "wanted"),
    [(6, (1, 3, 5, 7, 9, 11)), (3, (3, 7, 11)), (8, (0, 2, 3, 5, 6, 8, 9, 11)), (1, (11,))],
)
def test_every_other(remove: int, wanted: Proposal) -> None:
    assert evenly_spaced(range(12), remove) == wanted
    assert run_method("every-other", task(12, remove)).best.proposal == wanted


def test_last() -> None:
    outcome = run_method("last", task(12, 4))
    assert outcome.best.proposal == (8, 9, 10, 11)
    assert outcome.evaluations == 1
