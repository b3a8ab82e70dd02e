"""Compares ways of making a model smaller: same teacher, same number of update steps, same distillation, several seeds.

    python -m tools.experiments.rivals run --data data/digits --out runs/rivals --jobs 2
    python -m tools.experiments.rivals table --out runs/rivals --title "..." --data "..." --note "..."

`run` trains the teacher, launches `recipes/prune.py` for every row, size and seed, and then, one after another, since
they measure time, `compress evaluate`; it can be started again at any time. `table` appends an entry to RESULTS.md, of
the report.json and transcripts.jsonl of those evaluations: error rates, MACs and measured speed, since equal parameters
are not equal compute. A row counts as better or worse only where the seeds agree on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from tools.commands import main
from tools.experiments.comparing import PERCENT, Contender, difference, over_seeds, rate, verdict
from tools.experiments.experiment import (
    LAUNCH,
    LAUNCH_TWO,
    REPORT,
    Experiment,
    TableConfig,
    evaluate,
    run_recipe,
)
from tools.results import REPOSITORY, grid

NAME = "rivals"
FRESH = ("--fresh_weights", "true", "--recover.learning_rate", "3e-3", "--recover.warmup_steps", "50")
"""New weights want a higher learning rate: the best of 1e-3, 2e-3 and 3e-3 at 25 % (digits, dev set, one seed). That of
the other rows, in configs/demo/prune.yaml, was the best of 5e-4, 1e-3 and 2e-3 for magnitude as well as for ours."""
OURS = "ours"
SIZES = ("50%", "25%", "10%")
CONDITIONS = ("device", "threads", "dtype", "batch", "seconds", "repetitions")


@dataclass(frozen=True)
class Row:
    """One way of making a model smaller.

    Attributes:
        name: Short, for folders.
        title: What a reader sees.
        sizes: Shares of the teacher's parameters.
        options: Of recipes/prune.py.
        learned: Whether there is a gate-learning phase; without one, its steps are added to the other phase's.
        launch: How the recipe is started.
        seeds: How many of the seeds.
    """

    name: str
    title: str
    sizes: tuple[str, ...]
    options: tuple[str, ...] = ()
    learned: bool = True
    launch: tuple[str, ...] = LAUNCH
    seeds: int | None = None


ROWS = (
    Row(OURS, "ours, module + fine gates", SIZES),
    Row("modules", "ours, module gates only", ("50%", "25%"), ("--gates.units", "[module]")),
    Row("magnitude", "magnitude, removed once", SIZES, ("--structure", "magnitude", "--refit", "null"), False),
    Row("proportional", "proportional, from scratch, without the teacher's updates", SIZES,
        ("--structure", "proportional", *FRESH), False),
    Row("no-layers", "ours without layerwise distillation", ("25%",), ("--distill.layers", "0")),
    Row("two", "ours, two processes", ("50%",), ("--batch.seconds", "20"), launch=LAUNCH_TWO, seeds=1),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is compared.

    Attributes:
        data: A folder with train, dev and test.
        out: Folder for everything.
        train: Config of the teacher.
        prune: Config of the compression; baselines take its total number of steps.
        teacher: A model to compress; null trains one.
        teacher_steps: Of its training.
        rows: Names of rows; null takes all.
        sizes: Shares of the parameters.
        seeds: Seeds 0 to this number, exclusive.
        jobs: How many compressions at a time.
        threads: Of each.
        repetitions: Timed passes of each model, in turns with the teacher's.
    """

    data: str
    out: str
    train: str = "configs/demo/train.yaml"
    prune: str = "configs/demo/prune.yaml"
    teacher: str | None = None
    teacher_steps: int = 1600
    rows: tuple[str, ...] | None = None
    sizes: tuple[str, ...] = SIZES
    seeds: int = 3
    jobs: int = 1
    threads: int = 1
    repetitions: int = 10


@dataclass(frozen=True)
class Trial:
    """One model: a row at one size with one seed."""

    row: Row
    size: str
    seed: int

    def output(self, folder: Path) -> Path:
        """Its folder."""
        return folder / f"{self.row.name}-{self.size.rstrip('%')}" / f"seed-{self.seed}"


def run(config: RunConfig) -> None:
    """Makes every model and every report that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run", prune=config.prune)
    folder, teacher = experiment.folder, config.teacher or _train_teacher(experiment.folder, config)
    trials = list(_trials(config))
    with ThreadPoolExecutor(config.jobs) as pool:
        for task in [pool.submit(_compress, trial, folder, teacher, config) for trial in trials]:
            task.result()
    for trial in trials:
        output = trial.output(folder)
        options = ("--baseline", teacher, "--speed.threads", str(config.threads))
        repetitions = config.repetitions
        report = evaluate(output / "final", config.data, output / "report", *options, repetitions=repetitions)
        print(f"{trial.row.name} {trial.size} seed {trial.seed}: WER {report['model']['wer']:.2%}", flush=True)


def _train_teacher(folder: Path, config: RunConfig) -> str:
    length = ("--max_steps", str(config.teacher_steps))
    run_recipe("train", folder / "teacher", "--config", config.train, "--data.source", config.data, *length)
    return str(folder / "teacher" / "best")


def _trials(config: RunConfig) -> Iterator[Trial]:
    rows = [row for row in ROWS if config.rows is None or row.name in config.rows]
    for seed in range(config.seeds):
        for size in config.sizes:
            yield from (
                Trial(row, size, seed) for row in rows if size in row.sizes and seed < (row.seeds or config.seeds)
            )


def _compress(trial: Trial, folder: Path, teacher: str, config: RunConfig) -> None:
    settings = yaml.safe_load((REPOSITORY / config.prune).read_text())
    steps = settings["learn"]["steps"] + settings["recover"]["steps"]
    shared = ("--config", config.prune, "--teacher", teacher, "--data.source", config.data)
    length = () if trial.row.learned else ("--recover.steps", str(steps))
    own = ("--budget.params", trial.size, "--seed", str(trial.seed), "--threads", str(config.threads))
    options = (*shared, *own, *length, *trial.row.options)
    run_recipe("prune", trial.output(folder), *options, launch=trial.row.launch)


def table(config: TableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    contenders = {
        (row.name, size): contender
        for row in ROWS
        for size in row.sizes
        if (contender := _contender(experiment.folder, row.name, size))
    }
    if not contenders:
        raise ValueError(f"There are no reports in {experiment.folder}: `run` makes them.")
    seeds = sorted({seed.removeprefix("seed-") for contender in contenders.values() for seed in contender.seeds})
    experiment.enter(config, [*_table(contenders), *_remarks(contenders)], seeds)


def _contender(folder: Path, row: str, size: str) -> Contender | None:
    return Contender.read(folder.glob(f"{row}-{size.rstrip('%')}/seed-*/report/{REPORT}"))


def _table(contenders: dict[tuple[str, str], Contender]) -> list[str]:
    names = ("row", "size", "WER %", "CER %", "parameters", "MACs", "times as fast")
    differences = ("minus teacher", "ours minus this", "the same over the seeds", "ours is")
    rows = [_teacher(next(iter(contenders.values())).reports[0]["baseline"])]
    titles = {row.name: row.title for row in ROWS}
    for (name, size), contender in sorted(contenders.items(), key=lambda item: -int(item[0][1].rstrip("%"))):
        ours = contenders.get((OURS, size)) if name != OURS else None
        cells = [titles[name], size, contender.show(), *_costs(contender.reports)]
        assert contender.baseline is not None
        rows.append([*cells, contender.against(contender.baseline), *_versus(ours, contender)])
    return grid((*names, *differences), rows)


def _teacher(report: dict[str, Any]) -> list[str]:
    wer = rate(report["wer"], report["wer_ci95"], bold=True)
    cells = ["teacher", "100%", wer, f"{PERCENT * report['cer']:.2f}", f"{report['parameters']['total']:,}"]
    return [*cells, "100%", "1.00", "", "", "", ""]


def _costs(reports: Sequence[dict[str, Any]]) -> list[str]:
    """CER, parameters, MACs and speed, means over the seeds; of speed the slowest and fastest as well."""
    cer = fmean(report["model"]["cer"] for report in reports)
    parameters = round(fmean(report["model"]["parameters"]["total"] for report in reports))
    macs, speeds = ([report["ratio"][key] for report in reports] for key in ("macs", "speed"))
    spread = f" ({min(speeds):.2f} to {max(speeds):.2f})" if len(speeds) > 1 else ""
    return [f"{PERCENT * cer:.2f}", f"{parameters:,}", f"{fmean(macs):.0%}", f"{fmean(speeds):.2f}{spread}"]


def _versus(ours: Contender | None, other: Contender) -> list[str]:
    if ours is None:
        return ["", "", ""]
    apart = ours.by_seed(other)
    seeds = over_seeds(apart)
    shown = difference(fmean(apart), seeds.to_list()) if seeds else ""
    return [ours.against(other.errors), shown, verdict(ours, other)]


def _remarks(contenders: dict[tuple[str, str], Contender]) -> list[str]:
    conditions = next(iter(contenders.values())).reports[0].get("conditions", {})
    shown = ", ".join(f"{key} {conditions[key]}" for key in CONDITIONS if key in conditions)
    return [
        "WER: **mean over the seeds** (95 % bootstrap interval over utterances, errors pooled over the seeds); the WER "
        "of each seed. Differences are paired, in points of WER: below 0 the first of the two is better. Over the "
        "seeds: mean of the differences of each seed (Student's 95 % interval). Ours is better or worse only where "
        "both intervals say so. Equal parameters are not equal compute: MACs are of those of the teacher; times as "
        "fast as the teacher, with which each model took turns in one process on one machine, mean (slowest to fastest "
        f"seed){f': {shown}' if shown else ''}.",
    ]


if __name__ == "__main__":
    main(run, table)
