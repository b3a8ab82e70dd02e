"""Error rates of models on the same speech, and how sure the differences between them are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.evaluation.bootstrap import BootstrapConfig, Interval, paired_interval, rate_interval
from compress.evaluation.errors import ErrorCounts, count_errors
from compress.files.reading import read_json_lines
from tools.experiments.experiment import REPORT, read

PERCENT = 100
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom. For more, the last one: an interval too wide."""


def rate(value: float, interval: Sequence[float], *, bold: bool = False) -> str:
    """A word error rate in percent with its 95 % interval."""
    low, high = (PERCENT * end for end in interval)
    shown = f"{PERCENT * value:.2f}"
    return f"{f'**{shown}**' if bold else shown} ({low:.2f} to {high:.2f})"


def difference(value: float, interval: Sequence[float]) -> str:
    """A difference of word error rates in points with its 95 % interval."""
    low, high = (PERCENT * end for end in interval)
    return f"{PERCENT * value:+.2f} ({low:+.2f} to {high:+.2f})"


def counted(report: Path, role: str = "model") -> ErrorCounts:
    """Errors and words of every utterance, in the order of their ids, from what `compress evaluate` left."""
    lines = sorted(read_json_lines(report / "transcripts.jsonl"), key=itemgetter("id"))
    return count_errors([line["reference"] for line in lines], [line[role] for line in lines])


def paired(mine: NDArray[Any], other: NDArray[Any], words: NDArray[Any]) -> tuple[float, Interval]:
    """The difference of two pooled error rates, with its interval over the same utterances.

    Args:
        mine: errors, `(utterances,)`, or `(seeds, utterances)`, of which the mean counts.
        other: the same of what is compared with.
        words: `(utterances,)`.
    """
    means = np.atleast_2d(mine).mean(0), np.atleast_2d(other).mean(0)
    interval = paired_interval(*means, words, BootstrapConfig())
    return float((means[0] - means[1]).sum() / words.sum()), interval


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of a mean over seeds; none of a single seed.

    Args:
        differences: one for each seed.
    """
    count = len(differences)
    if count < 2:
        return None
    quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
    mean, reach = float(np.mean(differences)), quantile * float(np.std(differences, ddof=1)) / count**0.5
    return Interval(mean - reach, mean + reach)


@dataclass(frozen=True)
class Contender:
    """One way of making a model, at one size: reports and errors per utterance of every seed.

    Attributes:
        seeds: names of the folders, one for each seed.
        reports: the report.json of each seed.
        errors: `(seeds, utterances)`.
        baseline: `(seeds, utterances)`, of the model that each report has beside it, if they have one.
        folders: of the reports.
        words: `(utterances,)`, of the references.
    """

    seeds: tuple[str, ...]
    reports: list[dict[str, Any]]
    errors: NDArray[Any]
    baseline: NDArray[Any] | None
    words: NDArray[Any]
    folders: tuple[Path, ...] = ()

    @classmethod
    def read(cls, reports: Iterable[Path], baseline: str | None = "baseline") -> Contender | None:
        """Reads the reports of some models, one for each seed, whose folder bears its name; None where there is none.

        Args:
            reports: the report.json of each, within a folder `seed-N`.
            baseline: what the model beside it is called; None where there is none.
        """
        folders = sorted(path.parent for path in reports)
        if not folders:
            return None
        counts = [counted(folder) for folder in folders]
        beside = np.stack([counted(folder, baseline).errors for folder in folders]) if baseline else None
        seeds = tuple(next(part for part in folder.parts[::-1] if part.startswith("seed-")) for folder in folders)
        errors = np.stack([count.errors for count in counts])
        reports = [read(folder / REPORT) for folder in folders]
        return cls(seeds, reports, errors, beside, counts[0].words, tuple(folders))

    @property
    def wer(self) -> float:
        """Mean over the seeds."""
        return float(self.errors.sum() / (len(self.errors) * self.words.sum()))

    def show(self) -> str:
        """WER in percent, mean over the seeds, interval over utterances, and every seed."""
        interval = rate_interval(self.errors.sum(0), len(self.errors) * self.words, BootstrapConfig())
        seeds = ", ".join(f"{PERCENT * report['model']['wer']:.2f}" for report in self.reports)
        return f"{rate(self.wer, interval.to_list(), bold=True)}; {seeds}"

    def against(self, errors: NDArray[Any]) -> str:
        """The paired difference of this one's mean to other errors `(seeds, utterances)`, in points."""
        value, interval = paired(self.errors, errors, self.words)
        return difference(value, interval.to_list())

    def beside(self, other: Contender) -> tuple[NDArray[Any], NDArray[Any]]:
        """The errors of this one and of another, `(seeds, utterances)` each, of the seeds that both have."""
        common = [seed for seed in self.seeds if seed in other.seeds]
        mine, others = (of.errors[[of.seeds.index(seed) for seed in common]] for of in (self, other))
        return mine, others

    def by_seed(self, other: Contender) -> list[float]:
        """The differences of error rates to another contender, of each seed that both have."""
        mine, others = self.beside(other)
        return [float(value) for value in (mine.sum(1) - others.sum(1)) / self.words.sum()]


ONE_SEED, UNDECIDED, BETTER, WORSE = "one seed", "no significant difference", "better", "worse"


def verdict(mine: Contender, other: Contender) -> str:
    """Whether one is better than the other: only where the intervals over utterances and over seeds both say so."""
    seeds = over_seeds(mine.by_seed(other))
    if seeds is None:
        return ONE_SEED
    utterances = paired(*mine.beside(other), mine.words)[1]
    if max(seeds.high, utterances.high) < 0:
        return BETTER
    return WORSE if min(seeds.low, utterances.low) > 0 else UNDECIDED
