"""Measures what correlation matrices say of word error rates: which way to compute them screens proposals best?

    python tools/measure_screening.py --teacher runs/depth/digits/plain-12/best --data ../shared/data/digits

For every number of removed blocks, random proposals are measured on the dev split. Each way of computing a matrix
scores them; the rank correlation of score and error rate should be near -1. And each way's own best are measured, as
`compress search` does: the lowest error rate among them is what that search would find, before any recovery.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import jsonargparse
import numpy as np
from add_result import append_entry, facts
from numpy.typing import ArrayLike, NDArray
from running import PERCENT, grid, typed

from compress.checkpoint import load_model, load_processor
from compress.conformers import blocks_of
from compress.data import SpeechConfig
from compress.search.bypass import removable
from compress.search.coarse import Proposal, coarse_search, proposal_score
from compress.search.fine import FineSearch
from compress.search.settings import DevConfig, MatrixConfig, boundary_sample
from compress.search.similarity import MEASURES, Matrix, Measure

MEANS = "mean"
WAYS: dict[str, tuple[Measure, MatrixConfig]] = {
    "distance correlation of frames, groups of 512": ("distance_correlation", MatrixConfig()),
    "of means of utterances, groups of 4": ("distance_correlation", MatrixConfig(feature=MEANS, group=4)),
    "of means of utterances, one group": ("distance_correlation", MatrixConfig(feature=MEANS)),
    "SVCCA of frames": ("svcca", MatrixConfig()),
    "linear CKA of frames": ("cka", MatrixConfig()),
}


def main(
    *,
    teacher: str,
    data: str,
    removes: str = "3,6,8",
    proposals: int = 30,
    top_k: int = 10,
    utterances: int = 160,
    seed: int = 0,
    title: str = "Which correlation screens proposals best",
    note: str = "",
    results: str | None = None,
) -> None:
    """Prints a row for each way, and appends the table to a file of results.

    Args:
        teacher: the model whose blocks go.
        data: a folder with dev.
        removes: how many blocks go, with commas between.
        proposals: random ones that are measured, for each number of blocks.
        top_k: of each way's own best proposals.
        utterances: of the dev set.
        seed: of proposals and utterances.
        title: heading of the entry.
        note: machine and remarks.
        results: the file to append to; null: none.
    """
    config = DevConfig(model=teacher, data=SpeechConfig(source=data, split="dev"), utterances=utterances, seed=seed)
    model, processor = load_model(teacher).eval(), load_processor(teacher)
    dataset, counts = config.open(processor), [int(remove) for remove in removes.split(",")]
    matrices: dict[str, Matrix] = {}
    for name, (measure, settings) in WAYS.items():
        sample = boundary_sample(model, processor, dataset, replace(config, matrix=settings))
        matrices[name] = MEASURES[measure](sample, **settings.options(measure))
    columns = []
    for remove in counts:
        drawn = _draw(removable(model), remove, proposals, seed)
        chosen = {name: coarse_search(matrix, remove, top_k) for name, matrix in matrices.items()}
        every = sorted({*drawn, *chain.from_iterable(chosen.values())})
        trials = FineSearch(model, processor, dataset, config.fine()).measure(every)
        rates = {trial.proposal: trial.wer for trial in trials}
        columns.append(_column(matrices, rates, drawn, chosen))
    head = (
        "matrix",
        *chain.from_iterable((f"{n} removed: rank correlation", f"best of {top_k}, WER %") for n in counts),
    )
    lines = grid(head, [[name, *chain.from_iterable(column[name] for column in columns)] for name in WAYS])
    print("\n".join(lines), flush=True)
    if results:
        remark = (
            f"Rank correlation of score and dev WER over {proposals} random proposals, -1 is best (standard error "
            f"about {1 / np.sqrt(proposals - 1):.2f}); the lowest dev WER among the {top_k} proposals that the matrix "
            f"puts first, before any recovery. The model has {len(blocks_of(model))} blocks; {utterances} utterances."
        )
        append_entry(Path(results), title, [*facts(typed(), f"{data}, dev; seed {seed}", note), *lines, remark])


def _draw(free: Sequence[int], remove: int, count: int, seed: int) -> list[Proposal]:
    """Different random proposals."""
    generator, found = random.Random(seed), set[Proposal]()
    while len(found) < count:
        found.add(tuple(sorted(generator.sample(list(free), remove))))
    return sorted(found)


def _column(
    matrices: Mapping[str, Matrix], rates: Mapping[Proposal, float], drawn: Sequence[Proposal],
    chosen: Mapping[str, Sequence[Proposal]],
) -> dict[str, tuple[str, str]]:  # fmt: skip
    """Of each way: the rank correlation over the random proposals, and the best error rate among its own."""
    found = {}
    for name, matrix in matrices.items():
        scores = [proposal_score(matrix, proposal) for proposal in drawn]
        related = rank_correlation(scores, [rates[proposal] for proposal in drawn])
        found[name] = f"{related:+.2f}", f"{PERCENT * min(rates[proposal] for proposal in chosen[name]):.2f}"
    return found


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
    jsonargparse.auto_cli(main, as_positional=False)
