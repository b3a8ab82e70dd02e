"""Compares the depths of elastic models with models that were trained at each depth.

    python -m tools.experiments.depths run --data data/digits --steps 1600 --out runs/depth
    python -m tools.experiments.depths table --corpus digits --out runs/depth --title "..." --data "..." --note "..."

`run` trains models of every depth for the same number of steps, and the deepest one also with intermediate CTC, whose
heads are shared or not, with stochastic depth, and with both. Each deep one is made elastic in three ways: by both
rules, and by `compress search` with SVCCA; where tapped blocks have heads of their own, only as it was trained. Every
depth is evaluated on dev and on test. At each depth the elastic model with the lowest error rate on dev is compared
with the one trained at that depth, on test, utterance by utterance. What is there already is not made again, so more
seeds, trainings and depths can be added. `table` appends an entry to RESULTS.md. tools/experiments/measure_depths.py
measures the speed.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.commands import main
from tools.experiments.comparing import PERCENT, Contender, difference, over_seeds, paired, rate
from tools.experiments.experiment import (
    BY_ADAMW,
    REPORT,
    Experiment,
    TableConfig,
    evaluate,
    listed,
    read,
    run_recipe,
    run_verb,
    search,
)
from tools.results import grid

NAME = "depths"
TAPS = ("--inter_ctc.blocks", "[3,5,8]")
"""Behind the first 4, 6 and 9 blocks of 12: the depths that are wanted."""
OWN_HEADS = ("--inter_ctc.heads", "separate", "--inter_ctc.weight", "0.75", "--elastic.depths", "[4,6,9]")
"""The four outputs weigh the same."""
DROPS = ("--stochastic_depth", "0.3")
OWN = "own_heads"
DEEPEST, BELOW = 12, (9, 6, 4)
DEPTHS = (DEEPEST, *BELOW)
SEARCHED = "svcca"
RULES = ("last_first", "every_other")
SPLITS = ("dev", "test")


@dataclass(frozen=True)
class Training:
    """One way of training.

    Attributes:
        name: Of its folder.
        blocks: Of the model.
        title: What a reader sees of its regularisers; nothing for models of one depth.
        options: Of recipes/train.py.
    """

    name: str
    blocks: int
    title: str = ""
    options: tuple[str, ...] = ()


ELASTIC = (
    Training("plain-12", DEEPEST, "neither"),
    Training("inter_ctc", DEEPEST, "intermediate CTC", TAPS),
    Training(OWN, DEEPEST, "intermediate CTC, own heads, weight 0.75", (*TAPS, *OWN_HEADS)),
    Training("stochastic", DEEPEST, "stochastic depth", DROPS),
    Training("both", DEEPEST, "both", (*TAPS, *DROPS)),
    Training("both-80", DEEPEST, "both, intermediate weight 0.8", (*TAPS, *DROPS, "--inter_ctc.weight", "0.8")),
)
INDIVIDUAL = {DEEPEST: ELASTIC[0], **{depth: Training(f"plain-{depth}", depth) for depth in BELOW}}
CHOICES = {"last_first": "first blocks", "every_other": "even distances", SEARCHED: "SVCCA search"}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained and measured.

    Attributes:
        data: A folder with train, dev and test, or `synthetic`.
        out: Folder for everything; the data set gets a folder there of its own name.
        steps: Of every training.
        training: Config of every training.
        options: Of every training, e.g. "--tokens.kind bpe".
        names: Of the deep trainings; null takes all.
        alone: Depths at which models are trained for themselves.
        choices: Of the blocks that run.
        utterances: Of the dev set in the searches.
        seeds: Seeds 0 to this number, exclusive.
        threads: Of every training.
    """

    data: str
    out: str
    steps: int
    training: str = "configs/demo/train.yaml"
    options: str = ""
    names: tuple[str, ...] | None = None
    alone: tuple[int, ...] = DEPTHS
    choices: tuple[str, ...] = tuple(CHOICES)
    utterances: int = 160
    seeds: int = 1
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class DepthTableConfig(TableConfig):
    """An entry of RESULTS.md from what `run` has left of one data set.

    Attributes:
        corpus: Name of the folder in `out`.
    """

    corpus: str


def run(config: RunConfig) -> None:
    """Makes every model and every report that is not there yet."""
    experiment = Experiment(Path(config.out) / Path(config.data).name, NAME)
    experiment.note("run", steps=config.steps)
    wanted = [training for training in ELASTIC if config.names is None or training.name in config.names]
    for seed in range(config.seeds):
        _train(config, experiment.folder, seed, wanted)
        for training in wanted:
            for choice in config.choices if training.name != OWN else RULES[:1]:
                _elastic(config, Place(experiment.folder, training.name, choice), seed)
    for depth in config.alone:
        for seed in range(config.seeds):
            _paired(experiment.folder, depth, seed, config.data)


def _train(config: RunConfig, folder: Path, seed: int, wanted: Sequence[Training]) -> None:
    """The models of a seed, and the reports of those of one depth."""
    length = ("--max_steps", str(config.steps), "--seed", str(seed), "--threads", str(config.threads))
    settings = ("--config", config.training, *BY_ADAMW, "--data.source", config.data)
    shared = (*settings, *length, *shlex.split(config.options))
    alone = [INDIVIDUAL[depth] for depth in config.alone]
    for training in {training.name: training for training in (*wanted, *alone)}.values():
        blocks = ("--model.settings.num_hidden_layers", str(training.blocks))
        run_recipe("train", _of(folder / training.name, seed), *shared, *blocks, *training.options)
    for training in alone:
        output = _of(folder / training.name, seed)
        evaluate(output / "best", config.data, output / "report")


def _of(folder: Path, seed: int) -> Path:
    """The folder of a seed."""
    return folder / f"seed-{seed}"


@dataclass(frozen=True)
class Place:
    """Where the elastic models of one training and one choice of blocks are.

    Attributes:
        folder: Of the experiment.
        name: Of the training.
        choice: Of the blocks.
    """

    folder: Path
    name: str
    choice: str

    @property
    def title(self) -> str:
        """What a reader sees of the training."""
        return next(training.title for training in ELASTIC if training.name == self.name)

    def model(self, seed: int) -> Path:
        """The folder of the model of a seed and its reports."""
        return _of(self.folder / "elastic" / f"{self.name}-{self.choice}", seed)

    def extracted(self, depth: int, seed: int) -> Path:
        """The folder of that model at one depth and of its report beside the one trained there."""
        return _of(self.folder / "extracted" / f"{self.name}-{self.choice}-{depth}", seed)

    def searched(self, depth: int, seed: int) -> Path:
        """The folder of the search for the blocks of a depth."""
        return _of(self.folder / "search" / f"{self.name}-{depth}", seed)

    def at(self, depth: int, split: str) -> list[dict[str, Any]]:
        """What `compress evaluate` says of a depth, for every seed."""
        reports = sorted(self.model(0).parent.glob(f"seed-*/report-{split}/{REPORT}"))
        sizes = (size for report in reports for size in read(report)["sizes"])
        return [size for size in sizes if int(size["size"]) == depth]


def _elastic(config: RunConfig, place: Place, seed: int) -> None:
    """Makes a trained model elastic, and evaluates every depth on dev and on test."""
    output, source = place.model(seed), _of(place.folder / place.name, seed) / "best"
    if place.name == OWN and not (output / "model").exists():
        shutil.copytree(source, output / "model")
    if not (output / "model").exists():
        run_verb("elastic", output / "model", str(source), *_blocks(config, place, seed))
    for split in SPLITS:
        evaluate(output / "model", config.data, output / f"report-{split}", "--data.split", split)
    rates = ", ".join(f"{size['size']}: {size['wer']:.2%}" for size in read(output / "report-test" / REPORT)["sizes"])
    print(f"{place.name}, {place.choice}, seed {seed}: {rates}", flush=True)


def _blocks(config: RunConfig, place: Place, seed: int) -> tuple[str, ...]:
    """The options of `compress elastic` that say which blocks run at which depth."""
    if place.choice in RULES:
        return ("--rule", place.choice, "--depths", listed(BELOW))
    source = _of(place.folder / place.name, seed) / "best"
    for depth in BELOW:
        options = ("--remove", str(DEEPEST - depth), "--measure", SEARCHED, "--utterances", str(config.utterances))
        search(source, config.data, place.searched(depth, seed), *options)
    return ("--structures", listed(place.searched(depth, seed) / "structure.json" for depth in BELOW))


def _paired(folder: Path, depth: int, seed: int, data: str) -> None:
    """The elastic model with the fewest errors on dev at a depth, extracted, against the one that was trained there."""
    best = _best(folder, depth)
    output, model = best.extracted(depth, seed), best.model(seed) / "model"
    run_verb("extract", output / "model", str(model), "--depth", str(depth))
    baseline = _of(folder / INDIVIDUAL[depth].name, seed) / "best"
    evaluate(output / "model", data, output / "report", "--baseline", str(baseline))


def _best(folder: Path, depth: int) -> Place:
    """Training and choice of blocks with the lowest error rate on dev, mean over the seeds; of equal ones the first."""
    return min(_measured(folder), key=lambda place: fmean(size["wer"] for size in place.at(depth, "dev")))


def _measured(folder: Path) -> list[Place]:
    """Training and choice of blocks of all elastic models that have their reports, in the order of the table."""
    every = (Place(folder, training.name, choice) for training, choice in itertools.product(ELASTIC, CHOICES))
    return [place for place in every if all(place.at(DEEPEST, split) for split in SPLITS)]


def table(config: DepthTableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(Path(config.out) / config.corpus, NAME)
    folder, settings = experiment.folder, experiment.settings
    lines = [*_rates(folder), *_removed(folder), *_differences(folder), *_remarks(settings["steps"])]
    experiment.enter(config, lines, sorted({path.name[len("seed-") :] for path in folder.glob("elastic/*/seed-*")}))


def _rates(folder: Path) -> list[str]:
    names = ("training", "blocks that run", *(f"WER % at depth {depth}" for depth in DEPTHS))
    own = [_shown([report["model"] for report in _alone(folder, depth)], bold=True) for depth in DEPTHS]
    rows = [["trained at that depth", "all", *own]]
    for place in _measured(folder):
        full = _shown(place.at(DEEPEST, "test")) if place.choice == RULES[0] else ""
        rows.append([place.title, CHOICES[place.choice], full, *(_shown(place.at(depth, "test")) for depth in BELOW)])
    return grid(names, rows)


def _alone(folder: Path, depth: int) -> Iterator[dict[str, Any]]:
    """The reports of the models that were trained at a depth, of every seed."""
    return map(read, sorted((folder / INDIVIDUAL[depth].name).glob(f"seed-*/report/{REPORT}")))


def _shown(reports: Sequence[dict[str, Any]], *, bold: bool = False) -> str:
    """An error rate with its interval; of several seeds the mean, and each."""
    if len(reports) < 2:
        return rate(reports[0]["wer"], reports[0]["wer_ci95"], bold=bold) if reports else ""
    mean = f"{PERCENT * fmean(report['wer'] for report in reports):.2f}"
    each = ", ".join(f"{PERCENT * report['wer']:.2f}" for report in reports)
    return f"{f'**{mean}**' if bold else mean}; {each}"


def _removed(folder: Path) -> list[str]:
    names = ("SVCCA search removed", *(f"for depth {depth}" for depth in BELOW))
    rows = []
    for place in [place for place in _measured(folder) if place.choice == SEARCHED]:
        searches = [sorted(place.searched(depth, 0).parent.glob("seed-*/search.json")) for depth in BELOW]
        removed = [["".join(f"{block} " for block in read(path)["best"]["removed"]) for path in of] for of in searches]
        rows.append([place.title, *("; ".join(map(str.strip, of_seeds)) for of_seeds in removed)])
    return grid(names, rows) if rows else []


def _differences(folder: Path) -> list[str]:
    names = ("depth", "best on dev", "its WER %", "trained at that depth", "difference", "the same over the seeds")
    rows = []
    for depth in DEPTHS:
        best = _best(folder, depth)
        contender = Contender.read(best.extracted(depth, 0).parent.glob(f"seed-*/report/{REPORT}"))
        if contender is None or contender.baseline is None:
            continue
        apart, interval = paired(contender.errors, contender.baseline, contender.words)
        of_seeds = (contender.errors - contender.baseline).sum(1) / contender.words.sum()
        seeds = over_seeds(of_seeds.tolist())
        rates = [_shown([report[role] for report in contender.reports]) for role in ("model", "baseline")]
        rows.append(
            [str(depth), f"{best.title}, {CHOICES[best.choice]}", *rates, difference(apart, interval.to_list()),
             difference(float(of_seeds.mean()), seeds.to_list()) if seeds else ""]
        )  # fmt: skip
    return grid(names, rows)


def _remarks(steps: int) -> list[str]:
    return [
        "WER on test, of one seed with its 95 % bootstrap interval over utterances, of several the mean and each. "
        f"Every model was trained for {steps} updates; an elastic one is one training for all depths. The differences "
        "are paired, in points of WER: below 0 the elastic model is better; over the seeds: Student's 95 % interval. "
        "Which row stands for the elastic models at a depth was chosen on dev."
    ]


if __name__ == "__main__":
    main(run, table)
