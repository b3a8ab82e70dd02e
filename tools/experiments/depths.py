"""Compares the depths of elastic models with models that were trained at each depth.

    python -m tools.experiments.depths run --data data/digits --steps 1600 --out runs/depth
    python -m tools.experiments.depths table --corpus digits --out runs/depth --title "..." --data "..." --note "..."

`run` trains models of every depth for the same number of steps, and the deepest one also with intermediate CTC, whose
heads are shared or not, with stochastic depth, and with both. Each deep one is made elastic in three ways: by both
rules, and by `compress search` with SVCCA; where tapped blocks have heads of their own, only as it was trained. Every
depth is evaluated on dev and on test. At each depth the elastic model with the lowest error rate on dev is compared
with the one trained at that depth, on test, utterance by utterance. What is there already is not made again.
`table` appends an entry to RESULTS.md. tools/experiments/measure_depths.py measures the speed.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.commands import main
from tools.experiments.comparing import difference, rate
from tools.experiments.experiment import (
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
        names: Of the deep trainings; null takes all. `plain-12` is always among them.
        choices: Of the blocks that run.
        utterances: Of the dev set in the searches.
        seed: Of every training.
        threads: Of every training.
    """

    data: str
    out: str
    steps: int
    training: str = "configs/demo/train.yaml"
    options: str = ""
    names: tuple[str, ...] | None = None
    choices: tuple[str, ...] = tuple(CHOICES)
    utterances: int = 160
    seed: int = 0
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
    experiment.note("run", steps=config.steps, seed=config.seed)
    folder, data = experiment.folder, config.data
    length = ("--max_steps", str(config.steps), "--seed", str(config.seed), "--threads", str(config.threads))
    shared = ("--config", config.training, "--data.source", data, *length, *shlex.split(config.options))
    names = None if config.names is None else (*config.names, ELASTIC[0].name)
    wanted = [training for training in ELASTIC if names is None or training.name in names]
    for training in (*wanted, *(INDIVIDUAL[depth] for depth in BELOW)):
        blocks = ("--model.settings.num_hidden_layers", str(training.blocks))
        run_recipe("train", folder / training.name, *shared, *blocks, *training.options)
    for training in INDIVIDUAL.values():
        evaluate(folder / training.name / "best", data, folder / training.name / "report-test")
    for training in wanted:
        for choice in config.choices if training.name != OWN else RULES[:1]:
            _elastic(folder, training.name, choice, data, config.utterances)
    for depth in DEPTHS:
        report = _paired(folder, depth, data)["difference"]
        print(f"depth {depth}: {difference(report['wer'], report['wer_ci95'])}", flush=True)


def _elastic(folder: Path, name: str, choice: str, data: str, utterances: int) -> None:
    """Makes a trained model elastic, and evaluates every depth on dev and on test."""
    output, source = _place(folder, name, choice), folder / name / "best"
    if name == OWN and not (output / "model").exists():
        shutil.copytree(source, output / "model")
    if not (output / "model").exists():
        run_verb("elastic", output / "model", str(source), *_blocks(folder, name, choice, data, utterances))
    for split in SPLITS:
        evaluate(output / "model", data, output / f"report-{split}", "--data.split", split)
    rates = ", ".join(f"{depth}: {size['wer']:.2%}" for depth, size in _depths(folder, name, choice, "test").items())
    print(f"{name}, {choice}: {rates}", flush=True)


def _blocks(folder: Path, name: str, choice: str, data: str, utterances: int) -> tuple[str, ...]:
    """The options of `compress elastic` that say which blocks run at which depth."""
    if choice in RULES:
        return ("--rule", choice, "--depths", listed(BELOW))
    structures = [_searched(folder, name, depth, data, utterances) for depth in BELOW]
    return ("--structures", listed(structures))


def _searched(folder: Path, name: str, depth: int, data: str, utterances: int) -> Path:
    """The Structure that the search leaves of one depth."""
    out = folder / "search" / f"{name}-{depth}"
    options = ("--remove", str(DEEPEST - depth), "--measure", SEARCHED, "--utterances", str(utterances))
    search(folder / name / "best", data, out, *options)
    return out / "structure.json"


def _paired(folder: Path, depth: int, data: str) -> dict[str, Any]:
    """The elastic model with the fewest errors on dev at a depth, extracted, against the one that was trained there."""
    name, choice = _best(folder, depth)
    output = folder / "extracted" / f"{name}-{choice}-{depth}"
    run_verb("extract", output / "model", str(_place(folder, name, choice) / "model"), "--depth", str(depth))
    baseline = folder / INDIVIDUAL[depth].name / "best"
    return evaluate(output / "model", data, output / "report", "--baseline", str(baseline))


def _best(folder: Path, depth: int) -> tuple[str, str]:
    """Training and choice of blocks with the lowest error rate on dev; of equal ones the first."""
    return min(_measured(folder), key=lambda row: float(_depths(folder, row[0], row[1], "dev")[depth]["wer"]))


def _measured(folder: Path) -> list[tuple[str, str]]:
    """Training and choice of blocks of every elastic model that has its reports, in the order of the table."""
    every = itertools.product((training.name for training in ELASTIC), CHOICES)
    return [row for row in every if all(_report(folder, *row, split).exists() for split in SPLITS)]


def _title(name: str) -> str:
    return next(training.title for training in ELASTIC if training.name == name)


def _place(folder: Path, name: str, choice: str) -> Path:
    return folder / "elastic" / f"{name}-{choice}"


def _report(folder: Path, name: str, choice: str, split: str) -> Path:
    return _place(folder, name, choice) / f"report-{split}" / REPORT


def _depths(folder: Path, name: str, choice: str, split: str) -> dict[int, dict[str, Any]]:
    """What `compress evaluate` says of each depth, the deepest first."""
    report = read(_report(folder, name, choice, split))
    return {int(size["size"]): size for size in reversed(report["sizes"])}


def table(config: DepthTableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(Path(config.out) / config.corpus, NAME)
    folder, settings = experiment.folder, experiment.settings
    lines = [*_rates(folder), *_removed(folder), *_differences(folder, config.data), *_remarks(settings["steps"])]
    experiment.enter(config, lines, [settings["seed"]])


def _rates(folder: Path) -> list[str]:
    names = ("training", "blocks that run", *(f"WER % at depth {depth}" for depth in DEPTHS))
    own = [folder / training.name / "report-test" / REPORT for training in INDIVIDUAL.values()]
    models = [read(path)["model"] if path.exists() else None for path in own]
    rows = [["trained at that depth", "all", *(_shown(model, bold=True) for model in models)]]
    for name, choice in _measured(folder):
        at, title = _depths(folder, name, choice, "test"), _title(name)
        full = _shown(at[DEEPEST]) if choice == RULES[0] else ""
        rows.append([title, CHOICES[choice], full, *(_shown(at[depth]) for depth in BELOW)])
    return grid(names, rows)


def _shown(report: dict[str, Any] | None, *, bold: bool = False) -> str:
    return rate(report["wer"], report["wer_ci95"], bold=bold) if report else ""


def _removed(folder: Path) -> list[str]:
    names = ("SVCCA search removed", *(f"for depth {depth}" for depth in BELOW))
    rows = []
    for name in [name for name, choice in _measured(folder) if choice == SEARCHED]:
        searches = [folder / "search" / f"{name}-{depth}" / "search.json" for depth in BELOW]
        removed = [read(path)["best"]["removed"] for path in searches]
        rows.append([_title(name), *(" ".join(map(str, blocks)) for blocks in removed)])
    return grid(names, rows)


def _differences(folder: Path, data: str) -> list[str]:
    names = ("depth", "best on dev", "its WER %", "trained at that depth", "difference")
    rows = []
    for depth in [depth for depth in DEPTHS if (folder / INDIVIDUAL[depth].name / "done.json").exists()]:
        name, choice = _best(folder, depth)
        report = _paired(folder, depth, data)
        rates = [_shown(report[role]) for role in ("model", "baseline")]
        apart = difference(report["difference"]["wer"], report["difference"]["wer_ci95"])
        rows.append([str(depth), f"{_title(name)}, {CHOICES[choice]}", *rates, apart])
    return grid(names, rows)


def _remarks(steps: int) -> list[str]:
    return [
        f"WER on test with 95 % bootstrap intervals over utterances. Every model was trained for {steps} updates; an "
        "elastic one is one training for all depths. The differences are paired, in points of WER: below 0 the elastic "
        "model is better. Which row stands for the elastic models at a depth was chosen on dev."
    ]


if __name__ == "__main__":
    main(run, table)
