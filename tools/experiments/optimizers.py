"""Compares optimizers: the same model from new weights, with every optimizer at every learning rate, for every length.

    python -m tools.experiments.optimizers run --data synthetic --out runs/optimizers --steps [300,600]
    python -m tools.experiments.optimizers table --out runs/optimizers --title "..." --data "..." --note "..."

`run` launches `recipes/train.py` for all of them and evaluates each model on the test split; what is there already is
not made again. `table` appends an entry to RESULTS.md, in which every row is held against AdamW for as many updates at
the rate that did best on dev. A small trial:

    python -m tools.experiments.optimizers run --data data/digits --out runs/optimizers-trial --steps [20] \\
        --rates [2e-3] --options="--dev_limit 20 --batch.seconds 20"
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import get_args

from compress.training.loop.optimizer import OptimizerName
from tools.commands import main
from tools.experiments.comparing import PERCENT, Contender
from tools.experiments.experiment import REPORT, Experiment, TableConfig, evaluate, read, run_recipe
from tools.results import grid

NAME = "optimizers"
RIVAL = "adamw"
HEAD = (
    "updates",
    "optimizer",
    "learning rate",
    "dev WER %",
    "WER %",
    "CER %",
    "ms per update",
    "minus AdamW, best rate",
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained.

    Attributes:
        data: A folder with train, dev and test, or `synthetic`.
        out: Folder for everything.
        train: Config of the model.
        optimizers: Each of the recipes'.
        rates: Peaks of the learning rate.
        steps: Numbers of updates, each a schedule of its own.
        seeds: Seeds 0 to this number, exclusive.
        options: Of the recipe, e.g. "--batch.seconds 40".
        threads: Of each run.
    """

    data: str
    out: str
    train: str = "configs/demo/train.yaml"
    optimizers: tuple[OptimizerName, ...] = ("adamw", "muon")
    rates: tuple[str, ...] = ("2e-3", "4e-3")
    steps: tuple[int, ...] = (300, 600)
    seeds: int = 1
    options: str = ""
    threads: int = 1


def run(config: RunConfig) -> None:
    """Makes every model and every report that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run")
    for seed, steps, name, rate in product(range(config.seeds), config.steps, config.optimizers, config.rates):
        output = experiment.folder / f"{name}-{rate}-{steps}" / f"seed-{seed}"
        length = ("--max_steps", str(steps), "--seed", str(seed), "--threads", str(config.threads))
        how = ("--optim", name, "--optimizer.learning_rate", rate, *length, *shlex.split(config.options))
        run_recipe("train", output, "--config", config.train, "--data.source", config.data, *how)
        report = evaluate(output / "best", config.data, output / "report")
        print(f"{name} at {rate}, {steps} updates, seed {seed}: WER {report['model']['wer']:.2%}", flush=True)


@dataclass(frozen=True)
class Trained:
    """An optimizer at a rate for a number of updates.

    Attributes:
        steps: The updates.
        optimizer: Its name.
        rate: Peak of the learning rate, as it was typed.
        models: Those of all seeds.
    """

    steps: int
    optimizer: str
    rate: str
    models: Contender

    @property
    def dev(self) -> float:
        """The best error rate on dev, mean over the seeds."""
        return fmean(self._done("best_dev_wer"))

    @property
    def _milliseconds(self) -> float:
        return 1000 * fmean(self._done("seconds")) / self.steps

    def _done(self, key: str) -> Iterator[float]:
        return (read(folder.parent / "done.json")[key] for folder in self.models.folders)

    def row(self, rival: Trained | None) -> list[str]:
        """What the table says."""
        cer = PERCENT * fmean(report["model"]["cer"] for report in self.models.reports)
        cells = [f"{PERCENT * self.dev:.2f}", self.models.show(), f"{cer:.2f}", f"{self._milliseconds:.0f}"]
        apart = self.models.against(rival.models.errors) if rival and rival is not self else ""
        return [str(self.steps), self.optimizer, self.rate, *cells, apart]


def table(config: TableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    trained = list(_trained(experiment.folder))
    seeds = sorted({seed.removeprefix("seed-") for each in trained for seed in each.models.seeds})
    rows = [each.row(_best(trained, each.steps)) for each in trained]
    experiment.enter(config, [*grid(HEAD, rows), *_remarks()], seeds)


def _trained(folder: Path) -> Iterator[Trained]:
    """What has been trained, by length, optimizer and rate."""
    names = [path.name.split("-", 1) for path in folder.glob("*-*/") if path.is_dir()]
    cells = [(int(rest.rpartition("-")[2]), name, rest.rpartition("-")[0]) for name, rest in names]
    known = get_args(OptimizerName)
    for steps, name, rate in sorted(cells, key=lambda cell: (cell[0], known.index(cell[1]), float(cell[2]))):
        models = Contender.read(folder.glob(f"{name}-{rate}-{steps}/seed-*/report/{REPORT}"), baseline=None)
        if models is not None:
            yield Trained(steps, name, rate, models)


def _best(trained: Sequence[Trained], steps: int) -> Trained | None:
    """AdamW for so many updates, at the rate that did best on dev."""
    rivals = (each for each in trained if each.optimizer == RIVAL and each.steps == steps)
    return min(rivals, key=lambda each: each.dev, default=None)


def _remarks() -> list[str]:
    return [
        "WER and CER are of the test split: **mean over the seeds** (95 % bootstrap interval over utterances, errors "
        "pooled over the seeds); the WER of each seed. Differences are paired, in points of WER: below 0 better than "
        "AdamW for as many updates at the rate that did best on dev. Each number of updates is a schedule of its own."
    ]


if __name__ == "__main__":
    main(run, table)
