"""Ways of choosing the blocks to drop: CoMFLP, and what it has to be compared with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

from compress.config import check_at_least, check_choice
from compress.search.coarse import BEAM, Proposal, Strategy, best_proposals
from compress.search.fine import FineSearch, ProposalTrial
from compress.search.similarity import Matrix

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CoarseConfig:
    """How proposals are found in the matrix.

    Attributes:
        strategy: `exhaustive`, `beam`, or `auto`: exhaustive where that takes no time.
        beam: width of the beam. It finds what the exhaustive search finds once it is as wide as there are proposals
            wanted, which it is made at least.
    """

    strategy: Strategy = "auto"
    beam: int = BEAM

    def __post_init__(self) -> None:
        check_choice("coarse.strategy", self.strategy, get_args(Strategy))
        check_at_least("coarse.beam", self.beam, 1)


@dataclass
class Task:
    """What every method is given.

    Attributes:
        blocks: of the model.
        free: numbers of those that can be dropped.
        remove: how many have to go.
        fine: measures proposals.
        correlate: makes the matrix when a method asks for it.
        top_k: proposals that CoMFLP measures.
        coarse: how it finds them.
    """

    blocks: int
    free: Sequence[int]
    remove: int
    fine: FineSearch
    correlate: Callable[[], Matrix]
    top_k: int = 10
    coarse: CoarseConfig = field(default_factory=CoarseConfig)

    @cached_property
    def matrix(self) -> Matrix:
        """The correlation matrix, made once."""
        return self.correlate()

    @property
    def fixed(self) -> list[int]:
        """Numbers of the blocks that have to stay."""
        return [block for block in range(self.blocks) if block not in self.free]


@dataclass(frozen=True)
class Outcome:
    """What a method found and what it took.

    Attributes:
        method: its name.
        trials: proposals of the wanted size that it measured, the best first.
        evaluations: word error rates measured.
        seconds: wall-clock time, from the model and the data in memory to the choice.
        block_runs: blocks run in the evaluations, per batch.
        block_runs_alone: the same if nothing had been reused.
        order: of greedy removal: which block went first, second, ... Each beginning of it is an answer for its size.
    """

    method: str
    trials: tuple[ProposalTrial, ...]
    evaluations: int
    seconds: float
    block_runs: int
    block_runs_alone: int
    order: Proposal = ()

    @property
    def best(self) -> ProposalTrial:
        """The one it chooses."""
        return self.trials[0]


def ranking(trial: ProposalTrial) -> tuple[float, float]:
    """Ranks a trial by word error rate, then by character error rate; lower is better."""
    return trial.wer, trial.cer


def comflp(task: Task) -> tuple[list[ProposalTrial], Proposal]:
    """Measures the `top_k` best proposals of the coarse search (CoMFLP): so many evaluations at any depth."""
    proposals = best_proposals(
        task.matrix, task.remove, task.top_k, fixed=task.fixed, strategy=task.coarse.strategy, beam=task.coarse.beam
    )
    return task.fine.measure(proposals), ()


def greedy(task: Task) -> tuple[list[ProposalTrial], Proposal]:
    """Removes, again and again, the block that costs least (Lee et al. 2021, as CoMFLP's code does it).

    About `remove * blocks` evaluations. Of equal candidates the last block goes: later ones change least.
    """
    order: list[int] = []
    best: ProposalTrial | None = None
    for _ in range(task.remove):
        left = [block for block in reversed(task.free) if block not in order]
        trials = task.fine.measure([tuple(sorted([*order, block])) for block in left])
        best = min(trials, key=ranking)
        order.append(left[trials.index(best)])
        logger.info("greedy: without blocks %s WER %.2f %%", ", ".join(map(str, order)), 100 * best.wer)
    return [best] if best else [], tuple(order)


def without_every_other(task: Task) -> tuple[list[ProposalTrial], Proposal]:
    """Removes evenly spaced blocks, the last one among them: every second when half of them go (Fan et al. 2020)."""
    return task.fine.measure([evenly_spaced(task.free, task.remove)]), ()


def last(task: Task) -> tuple[list[ProposalTrial], Proposal]:
    """Removes the last blocks."""
    return task.fine.measure([tuple(task.free[-task.remove :])]), ()


def evenly_spaced(free: Sequence[int], remove: int) -> Proposal:
    """Chooses every second block if half of them go, every third if a third does, and so on."""
    return tuple(free[(index + 1) * len(free) // remove - 1] for index in range(remove))


METHODS: Mapping[str, Callable[[Task], tuple[list[ProposalTrial], Proposal]]] = {
    "comflp": comflp,
    "greedy": greedy,
    "every-other": without_every_other,
    "last": last,
}
"""The methods by name."""


def run_method(name: str, task: Task) -> Outcome:
    """Runs one method and notes what it took; the matrix counts for the first one that needs it."""
    fine, began = task.fine, time.perf_counter()
    before = fine.evaluations, fine.block_runs, fine.block_runs_alone
    trials, order = METHODS[name](task)
    return Outcome(
        method=name,
        trials=tuple(sorted(trials, key=ranking)),
        evaluations=fine.evaluations - before[0],
        seconds=time.perf_counter() - began,
        block_runs=fine.block_runs - before[1],
        block_runs_alone=fine.block_runs_alone - before[2],
        order=order,
    )
