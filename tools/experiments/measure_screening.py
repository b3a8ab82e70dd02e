"""Measures what correlation matrices say of word error rates: which way to compute them screens proposals best?

    python -m tools.experiments.measure_screening --teacher runs/teacher/best --data data/digits

For every number of removed blocks, random proposals are measured on the dev split. Each way of computing a matrix
scores them; the rank correlation of score and error rate should be near -1. And each way's own best are measured, as
`compress search` does: the lowest error rate among them is what that search would find, before any recovery.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compress.checkpoint import load_model, load_processor
from compress.conformers import blocks_of
from compress.data import SpeechConfig
from compress.search.bypass import removable
from compress.search.coarse import Proposal, best_proposals, proposal_score
from compress.search.fine import FineSearch
from compress.search.settings import BlocksConfig, MatrixConfig, boundary_sample
from compress.search.similarity import MEASURES, Matrix, Measure
from tools.commands import main, typed
from tools.experiments.comparing import PERCENT
from tools.results import EntryConfig, add, facts, grid

MEANS: Literal["mean"] = "mean"
WAYS: dict[str, tuple[Measure, MatrixConfig]] = {
    "distance correlation of frames, groups of 512": ("distance_correlation", MatrixConfig()),
    "of means of utterances, groups of 4": ("distance_correlation", MatrixConfig(feature=MEANS, group=4)),
    "of means of utterances, one group": ("distance_correlation", MatrixConfig(feature=MEANS)),
    "SVCCA of frames": ("svcca", MatrixConfig()),
    "linear CKA of frames": ("cka", MatrixConfig()),
}


@dataclass(frozen=True, kw_only=True)
class ScreeningConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        teacher: The model whose blocks go.
        data: A folder with dev.
        removes: How many blocks go.
        proposals: Random ones that are measured, for each number of blocks.
        top_k: Of each way's own best proposals.
        utterances: Of the dev set.
        seed: Of proposals and utterances.
    """

    teacher: str
    data: str
    removes: tuple[int, ...] = (3, 6, 8)
    proposals: int = 30
    top_k: int = 10
    utterances: int = 160
    seed: int = 0
    title: str = "Which correlation screens proposals best"


def measure_screening(config: ScreeningConfig) -> None:
    """Prints a row for each way, and appends the table to a file of results."""
    speech = SpeechConfig(source=config.data, split="dev")
    dev = BlocksConfig(model=config.teacher, data=speech, utterances=config.utterances, seed=config.seed)
    model, processor = load_model(config.teacher).eval(), load_processor(config.teacher)
    dataset = dev.open(processor)
    matrices: dict[str, Matrix] = {}
    for name, (measure, settings) in WAYS.items():
        sample = boundary_sample(model, processor, dataset, replace(dev, matrix=settings))
        matrices[name] = MEASURES[measure](sample, **settings.options(measure))
    search = FineSearch(model, processor, dataset, dev.fine())
    columns = [_column(matrices, removable(model), remove, search, config) for remove in config.removes]
    names = [(f"{n} removed: rank correlation", f"best of {config.top_k}, WER %") for n in config.removes]
    rows = [[name, *chain.from_iterable(column[name] for column in columns)] for name in WAYS]
    lines = grid(("matrix", *chain.from_iterable(names)), rows)
    print("\n".join(lines), flush=True)
    about = f"{config.data}, dev; seed {config.seed}"
    add(config, [*facts(typed(), about, config.note), *lines, _remark(config, len(blocks_of(model)))])


def _remark(config: ScreeningConfig, blocks: int) -> str:
    return (
        f"Rank correlation of score and dev WER over {config.proposals} random proposals, -1 is best (standard error "
        f"about {1 / np.sqrt(config.proposals - 1):.2f}); the lowest dev WER among the {config.top_k} proposals that "
        f"the matrix puts first, before any recovery. The model has {blocks} blocks; {config.utterances} utterances."
    )


def _draw(free: Sequence[int], remove: int, count: int, seed: int) -> list[Proposal]:
    """Different random proposals."""
    generator, drawn = random.Random(seed), set[Proposal]()
    while len(drawn) < count:
        drawn.add(tuple(sorted(generator.sample(list(free), remove))))
    return sorted(drawn)


def _column(
    matrices: Mapping[str, Matrix], free: Sequence[int], remove: int, search: FineSearch, config: ScreeningConfig
) -> dict[str, tuple[str, str]]:
    """Of each way: the rank correlation over the random proposals, and the best error rate among its own."""
    drawn = _draw(free, remove, config.proposals, config.seed)
    chosen = {name: best_proposals(matrix, remove, config.top_k) for name, matrix in matrices.items()}
    trials = search.measure(sorted({*drawn, *chain.from_iterable(chosen.values())}))
    rates = {trial.proposal: trial.wer for trial in trials}
    column = {}
    for name, matrix in matrices.items():
        scores = [proposal_score(matrix, proposal) for proposal in drawn]
        related = rank_correlation(scores, [rates[proposal] for proposal in drawn])
        column[name] = f"{related:+.2f}", f"{PERCENT * min(rates[proposal] for proposal in chosen[name]):.2f}"
    return column


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(x: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(x, dtype=np.float64)
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    ranks: NDArray[np.float64] = below + (equal - 1) / 2
    return ranks


if __name__ == "__main__":
    main(measure_screening)
