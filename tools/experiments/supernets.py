"""Compares the sizes of supernets with models trained alone at those sizes, and learned selections with given orders.

    python -m tools.experiments.supernets run --data data/digits --out runs/supernet --seeds 3
    python -m tools.experiments.supernets table --out runs/supernet --title "..." --data "..." --note "..."

For every seed `run` trains a supernet with every selection (`recipes/train_supernet.py`), and with `recipes/train.py`,
for as many updates under the same settings, the whole model and, from new weights, the model of each size that the
selections in --alone have chosen. Each size and each model is evaluated on the test split. `table` appends an entry to
RESULTS.md. What is there already is not made again, so each can be started anew at any time. A small trial:

    python -m tools.experiments.supernets run --data data/digits --out runs/supernet-trial --seeds 1 \\
        --methods [top_k,random] --steps 20 --options="--dev_limit 20 --batch.seconds 20"
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


@dataclass(frozen=True)
class Way:
    """One way to a supernet.

    Attributes:
        title: How the table calls it.
        method: Its selection.
        options: More of its options.
        plainly: Share of the updates in which the whole model is trained plainly before it becomes a supernet.
    """

    title: str
    method: str
    options: tuple[str, ...] = ()
    plainly: float = 0.0


EQUAL = ("--selection.sub", "1.0", "--joint.smallest", "1.0", "--joint.middle", "1.0")
"""Weights of the smaller sizes as of the full one, instead of the published 0.3."""
WAYS = {
    "top_k": Way("Simple-Top-k", "top_k"),
    # In runs as short as these (see `SelectionConfig`). Tried with and without on a trained model, 180 steps, one seed:
    # 13 % WER of the size 33 % on 60 dev utterances instead of 23 %.
    "zero_out": Way("Iterative-Zero-Out", "zero_out", ("--selection.learning_rate", "0.1")),
    "ortho_softmax": Way("OrthoSoftmax", "ortho_softmax"),
    "fisher": Way("Fisher information", "fisher"),
    "fisher_equal": Way("Fisher information, equal weights", "fisher", EQUAL),
    "fisher_depth": Way("Fisher information, stochastic depth", "fisher", ("--joint.stochastic_depth", "0.3")),
    "fisher_warm": Way("Fisher information, from a model trained plainly", "fisher", plainly=0.4),
    "random": Way("random order", "random"),
    "every_other_block": Way("every other block", "every_other_block"),
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained.

    Attributes:
        data: A folder with train, dev and test, or `synthetic`.
        out: Folder for everything.
        train: Config of the supernets; the models trained alone take from it all that both recipes have.
        methods: Ways to a supernet; see `WAYS`.
        alone: Those of them whose sizes are trained alone, too.
        seeds: Seeds 0 to this number, exclusive.
        steps: Updates of every model.
        options: Of both recipes, e.g. "--batch.seconds 40".
        jobs: How many seeds at a time.
        threads: Of each run.
    """

    data: str
    out: str
    train: str = "configs/supernet/parakeet-small_digits.yaml"
    methods: tuple[str, ...] = ("top_k", "zero_out", "random", "every_other_block")
    alone: tuple[str, ...] = ("top_k",)
    seeds: int = 3
    steps: int = 1000
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
        self._train("train", self.folder / "plain.yaml", self.place(PLAIN), self.config.steps)
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
        output, way, config = self.place(method), WAYS[method], self.config
        plainly, options = round(way.plainly * config.steps), ["--selection.method", way.method, *way.options]
        settings = self.folder / "supernet.yaml"
        if plainly:
            self._train("train", self.folder / "plain.yaml", output / PLAIN, plainly)
            settings = self._from(output / PLAIN / "last", settings, output / "warm.yaml")
        self._train("train_supernet", settings, output, config.steps - plainly, *options)
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
        own = self._from(output / "new", self.folder / "plain.yaml", output / "alone.yaml")
        self._train("train", own, output, self.config.steps)
        self._evaluate(output / "best", output)

    @staticmethod
    def _from(checkpoint: Path, settings: Path, own: Path) -> Path:
        """Settings that begin with a checkpoint, written to a file of their own."""
        known = yaml.safe_load(settings.read_text())
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(yaml.safe_dump(known | {"model": {"checkpoint": str(checkpoint)}}))
        return own

    def _train(self, recipe: str, settings: Path, output: Path, steps: int, *options: str) -> None:
        config, of_seed = self.config, ("--seed", str(self.number), "--max_steps", str(steps))
        shared = ("--data.source", config.data, "--threads", str(config.threads), *of_seed)
        run_recipe(recipe, output, "--config", str(settings), *options, *shared, *shlex.split(config.options))

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
    for name, known in (("supernet", settings), ("plain", plain)):
        (experiment.folder / f"{name}.yaml").write_text(yaml.safe_dump(known))
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
        chooser = next((known for known in (method, *settings["alone"]) if known in settings["alone"]), method)
        alone = plain if full else _contender(folder / ALONE / chooser / size, "seed-*")
        rival = by_chance if method != "random" else None
        yield _row(size, f"supernet, {WAYS[method].title}", contender, alone, rival)
        if method in settings["alone"] and not full:
            yield _row(size, f"alone, as {WAYS[method].title} chose", alone, None, None)
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
        supernet, models, title = _mean_seconds(folder / method), len(alone) + 1, WAYS[method].title
        yield (
            f"Training time, {title}: {supernet:.0f} s for the supernet, {whole + sum(alone):.0f} s for the {models} "
            f"models of its sizes one by one: {supernet / (whole + sum(alone)):.2f} times."
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
        "points of WER: below 0 the supernet is better. Sizes for which nothing was trained alone as a supernet chose "
        "are held against those that the first did for which there is. MACs are of those of the whole model.",
    )


def _contender(folder: Path, pattern: str) -> Contender | None:
    return Contender.read(folder.glob(f"{pattern}/report/{REPORT}"))


def _sizes(output: Path) -> list[str]:
    """The sizes of a supernet, smallest first."""
    return list(read(output / "done.json")["sizes"])


if __name__ == "__main__":
    main(run, table)
