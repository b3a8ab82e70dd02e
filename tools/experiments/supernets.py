"""Compares the sizes of supernets with models trained alone at those sizes, and learned selections with given orders.

    python -m tools.experiments.supernets run --data data/digits --out runs/supernet --seeds 3
    python -m tools.experiments.supernets table --out runs/supernet --title "..." --data "..." --note "..."

For every seed `run` trains a supernet with every selection (`recipes/train_supernet.py`), and with `recipes/train.py`,
for as many updates under the same settings, the whole model and, from new weights, the model of each size that the
selections in --alone have chosen. Each size and each model is evaluated on the test split. `table` appends an entry to
RESULTS.md. What is there already is not made again, so each can be started anew at any time. A small trial:

    python -m tools.experiments.supernets run --data data/digits --out runs/supernet-trial --seeds 1 \\
        --methods [top_k,random] --options "--max_steps 20 --dev_limit 20 --batch.seconds 20"
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

import torch
import yaml
from transformers.utils.logging import disable_progress_bar

from compress.checkpoint import load_model, load_processor, save
from compress.elastic import standalone
from compress.training.new_models import fresh_model
from tools.commands import main
from tools.experiments.comparing import Contender
from tools.experiments.experiment import REPORT, Experiment, TableConfig, evaluate, read, run_recipe
from tools.results import REPOSITORY, grid

NAME = "supernets"
SUPERNET_ONLY = ("output", "sizes", "parts", "selection", "joint")
"""Settings that recipes/train.py does not have."""
PLAIN, ALONE = "plain", "alone"
DRAWING = Lock()  # new weights come from one generator
OPTIONS = {"zero_out": ("--selection.learning_rate", "0.1")}
"""What a selection needs in runs as short as these (see `SelectionConfig`). Tried with and without on a trained model,
180 steps, one seed: 13 % WER of the size 33 % on 60 dev utterances instead of 23 %."""
TITLES = {
    "top_k": "Simple-Top-k",
    "zero_out": "Iterative-Zero-Out",
    "ortho_softmax": "OrthoSoftmax",
    "fisher": "Fisher information",
    "random": "random order",
    "every_other_block": "every other block",
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained.

    Attributes:
        data: A folder with train, dev and test, or `synthetic`.
        out: Folder for everything.
        train: Config of the supernets; the models trained alone take from it all that both recipes have.
        methods: Selections.
        alone: Those of them whose sizes are trained alone, too.
        seeds: Seeds 0 to this number, exclusive.
        options: Of both recipes, e.g. "--max_steps 2000".
        jobs: How many seeds at a time.
        threads: Of each run.
    """

    data: str
    out: str
    train: str = "configs/supernet/parakeet-small_digits.yaml"
    methods: tuple[str, ...] = ("top_k", "zero_out", "random", "every_other_block")
    alone: tuple[str, ...] = ("top_k",)
    seeds: int = 3
    options: str = ""
    jobs: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Seed:
    """All runs of one seed.

    Attributes:
        folder: Of everything.
        number: The seed.
        config: What is trained.
    """

    folder: Path
    number: int
    config: RunConfig

    def train(self) -> None:
        """Makes every model and every report of this seed that is not there yet."""
        self._train("train", self.folder / "plain.yaml", self.place(PLAIN))
        self._evaluate(self.place(PLAIN) / "best", self.place(PLAIN))
        for method in self.config.methods:
            self._supernet(method)
        for method in self.config.alone:
            for name in _sizes(self.place(method))[:-1]:
                self._alone(method, name)

    def place(self, way: str | Path) -> Path:
        """The folder of this seed's model that was made in one way."""
        return self.folder / way / f"seed-{self.number}"

    def _supernet(self, method: str) -> None:
        """A supernet, and each of its sizes as a model of its own, evaluated."""
        output = self.place(method)
        selection = ("--selection.method", method, *OPTIONS.get(method, ()))
        self._train("train_supernet", Path(self.config.train), output, *selection)
        for name in _sizes(output):
            place = output / "sizes" / name
            if not (place / "model" / "config.json").exists():
                elastic, processor = load_model(str(output / "best")), load_processor(str(output / "best"))
                save(standalone(elastic, name), processor, place / "model")
            self._evaluate(place / "model", place)

    def _alone(self, method: str, size: str) -> None:
        """What a size keeps, trained from new weights by itself."""
        output, chosen = self.place(Path(ALONE) / method / size), self.place(method) / "sizes" / size / "model"
        if not (output / "new" / "config.json").exists():
            with DRAWING:
                torch.manual_seed(self.number)
                model = fresh_model(load_model(str(chosen)))
            save(model, load_processor(str(chosen)), output / "new")
        settings = yaml.safe_load((self.folder / "plain.yaml").read_text())
        own = output / "alone.yaml"
        own.write_text(yaml.safe_dump(settings | {"model": {"checkpoint": str(output / "new")}}))
        self._train("train", own, output)
        self._evaluate(output / "best", output)

    def _train(self, recipe: str, settings: Path, output: Path, *options: str) -> None:
        shared = ("--data.source", self.config.data, "--seed", str(self.number), "--threads", str(self.config.threads))
        run_recipe(recipe, output, "--config", str(settings), *options, *shared, *shlex.split(self.config.options))

    def _evaluate(self, model: Path, place: Path) -> None:
        """The report on the test split; the baseline is the whole model, trained plainly with the same seed."""
        baseline = self.place(PLAIN) / "best"
        report = evaluate(model, self.config.data, place / "report", "--baseline", str(baseline))
        print(f"{place}: WER {report['model']['wer']:.2%}", flush=True)


def run(config: RunConfig) -> None:
    """Makes every model and every report that is not there yet."""
    disable_progress_bar()
    experiment = Experiment(config.out, NAME)
    experiment.note("run", methods=config.methods, alone=config.alone)
    settings = yaml.safe_load((REPOSITORY / config.train).read_text())
    plain = {key: value for key, value in settings.items() if key not in SUPERNET_ONLY}
    (experiment.folder / "plain.yaml").write_text(yaml.safe_dump(plain))
    seeds = [Seed(experiment.folder, number, config) for number in range(config.seeds)]
    with ThreadPoolExecutor(config.jobs) as pool:
        list(pool.map(Seed.train, seeds))


def table(config: TableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    folder, settings = experiment.folder, experiment.settings
    seeds = sorted(path.name.removeprefix("seed-") for path in (folder / PLAIN).glob("seed-*") if path.is_dir())
    experiment.enter(config, [*_comparison(folder, settings), *_times(folder, settings), *_remarks()], seeds)


def _comparison(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Every size of every selection, beside the model of that size that was trained alone."""
    names = ("size", "how", "WER %", "parameters", "MACs", "minus trained alone", "minus random order")
    sizes = _sizes(next(iter(sorted((folder / settings["methods"][0]).glob("seed-*")))))
    return grid(names, [row for size in reversed(sizes) for row in _of_size(folder, settings, size, size == sizes[-1])])


def _of_size(folder: Path, settings: dict[str, Any], size: str, full: bool) -> Iterator[list[str]]:
    plain, by_chance = _contender(folder / PLAIN, "seed-*"), _contender(folder / "random", f"seed-*/sizes/{size}")
    for method in settings["methods"]:
        contender = _contender(folder / method, f"seed-*/sizes/{size}")
        alone = plain if full else _contender(folder / ALONE / method / size, "seed-*")
        rival = by_chance if method != "random" else None
        yield _row(size, f"supernet, {TITLES[method]}", contender, alone, rival)
        if method in settings["alone"] and not full:
            yield _row(size, f"alone, as {TITLES[method]} chose", alone, None, None)
    if full:
        yield _row(size, "plain training", plain, None, None)


def _row(size: str, how: str, contender: Contender | None, *others: Contender | None) -> list[str]:
    if contender is None:
        return [size, how, "not run", "", "", "", ""]
    parameters = round(fmean(report["model"]["parameters"]["total"] for report in contender.reports))
    macs = fmean(report["ratio"]["macs"] for report in contender.reports)
    differences = ("" if other is None else contender.against(other.errors) for other in others)
    return [size, how, contender.show(), f"{parameters:,}", f"{macs:.0%}", *differences]


def _times(folder: Path, settings: dict[str, Any]) -> Iterator[str]:
    """The training time of each supernet over the sum of those of the models trained alone."""
    whole = _mean_seconds(folder / PLAIN)
    for method in settings["alone"]:
        alone = [_mean_seconds(path) for path in sorted((folder / ALONE / method).iterdir())]
        supernet, models = _mean_seconds(folder / method), len(alone) + 1
        yield (
            f"Training time, {TITLES[method]}: {supernet:.0f} s for the supernet, {whole + sum(alone):.0f} s for the "
            f"{models} models of its sizes one by one: {supernet / (whole + sum(alone)):.2f} times."
        )


def _mean_seconds(folder: Path) -> float:
    """Seconds in steps, evaluation left out, mean over the seeds."""
    return fmean(
        sum(done[stage]["seconds"] for stage in ("select", "joint")) if "joint" in done else done["seconds"]
        for done in map(read, folder.glob("seed-*/done.json"))
    )


def _remarks() -> Sequence[str]:
    return (
        "",
        "All of a seed had the same number of updates, batches of the same speech, and the same schedule; an update of "
        "a supernet has two or three forward passes. WER of the test split: **mean over the seeds** (95 % bootstrap "
        "interval over utterances, errors pooled over the seeds); the WER of each seed. Differences are paired, in "
        "points of WER: below 0 the supernet is better. MACs are of those of the whole model.",
    )


def _contender(folder: Path, pattern: str) -> Contender | None:
    return Contender.read(folder.glob(f"{pattern}/report/{REPORT}"))


def _sizes(output: Path) -> list[str]:
    """The sizes of a supernet, smallest first."""
    return list(read(output / "done.json")["sizes"])


if __name__ == "__main__":
    main(run, table)
