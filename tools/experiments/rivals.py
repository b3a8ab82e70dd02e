"""Compares ways of making a model smaller: same teacher, same number of update steps, same distillation, several seeds.

    python -m tools.experiments.rivals run --data data/digits --out runs/rivals --sizes [25%,10%] --seeds 1
    python -m tools.experiments.rivals table --out runs/rivals --title "..." --data "..." --note "..."

`run` trains a teacher for every seed, from which all models of that seed are made: intervals over utterances of one
teacher are not intervals of a method. It launches `recipes/prune.py` for every row, size and seed, and then, one after
another, since they measure time, `compress evaluate`; it can be started again at any time, with more rows, sizes and
seeds. `table` appends an entry to RESULTS.md, of the report.json and transcripts.jsonl of those evaluations: error
rates, MACs and measured speed, since equal parameters are not equal compute. A row counts as better or worse only where
the seeds agree on it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from compress.config import check_choice
from tools.commands import main
from tools.experiments.comparing import PERCENT, Contender, difference, over_seeds, paired, verdict
from tools.experiments.experiment import (
    BY_ADAMW,
    LAUNCH,
    LAUNCH_TWO,
    REPORT,
    Experiment,
    TableConfig,
    evaluate,
    execute,
    log_of,
    read,
    run_recipe,
)
from tools.results import grid

NAME = "rivals"
FRESH = ("--fresh_weights", "true", "--recover.learning_rate", "3e-3", "--recover.warmup_steps", "50")
"""New weights want a higher learning rate: the best of 1e-3, 2e-3 and 3e-3 at 25 % (digits, dev set, one seed)."""
FRESH_BY_MUON = (*FRESH, "--recover.learning_rate", "8e-3", "--optim", "muon")
"""Half of the best rate of 300 updates, since these are more; not tuned at this size."""
RATE = "2e-3"
"""Of recovery, the best of 5e-4, 1e-3 and 2e-3 at 25 % for magnitude as well as for learned gates without a refit."""
RATES = {"50%": "5e-4", "25%": "1e-3"}
"""Of rows that know how little a refit leaves to recover at larger sizes."""
RATES_BY_MUON = {"50%": "4e-3", "25%": "8e-3", "10%": "8e-3"}
"""Of rows that recover by Muon, for teachers that Muon has trained; tried at 50 % only (2e-3 to 8e-3 were alike)."""
SIZES = ("50%", "25%", "10%")
BELOW_HALF = ("25%", "10%", "5%")
GATED = 0.6
SECONDS = 60.0
CONDITIONS = ("device", "threads", "dtype", "batch", "seconds", "repetitions")


@dataclass(frozen=True)
class Row:
    """One way of making a model smaller.

    Attributes:
        name: Short, for folders.
        title: What a reader sees.
        options: Of recipes/prune.py.
        learned: Whether there is a gate-learning phase; without one, its steps are added to the other phase's.
        control: Which of `tools.experiments.controls` decides; None: the recipe.
        gated: Share of the updates that are made with gates.
        with_teachers: Whether it takes as many updates as the teacher and its compression together.
        launch: How the recipe is started.
        seeds: How many of the seeds; None: all.
        sizes: The only sizes that it can have or that it is run at; None: all.
        rates: The learning rate of recovery at some sizes.
    """

    name: str
    title: str
    options: tuple[str, ...] = ()
    learned: bool = True
    control: str | None = None
    gated: float = GATED
    with_teachers: bool = False
    launch: tuple[str, ...] = LAUNCH
    seeds: int | None = None
    sizes: tuple[str, ...] | None = None
    rates: Mapping[str, str] = field(default_factory=dict)


ALONE = ("--distill.layers", "0", "--distill.output", "0", "--distill.ctc", "1")
NO_REFIT = ("--refit", "null")
OBS = ("--structure", "obs", "--budget.front", "false")
OBS_BY_MUON = ("--structure", "obs", "--optim", "muon")
SPEEDS = ("--augment.speed", "[0.9,1.0,1.1]")
GATES = (
    "--structure", "learned", "--learn.learning_rate", "2e-3", "--learn.warmup_steps", "20",
    "--learn.final_fraction", "0.3", "--learn.gate_learning_rate", "0.1",
    "--learn.multiplier_learning_rate", "0.02", "--learn.budget_warmup", "0.4",
)  # fmt: skip
GATES_BY_MUON = (*GATES, "--learn.learning_rate", "8e-3", "--optim", "muon", *SPEEDS)
COFI = (
    "--gates.ffn_drop_rate", "0.5", "--learn.gate_learning_rate", "0.01", "--learn.multiplier_learning_rate", "0.01",
    "--learn.quadratic_start", "0", "--learn.budget_warmup", "0.1", "--learn.final_fraction", "0",
    "--distill.distance", "mse", "--distill.layers", "0.9", "--distill.output", "0.1", "--distill.temperature", "2",
    "--distill.ctc", "0",
)  # fmt: skip
"""As in its code for large data sets (Xia et al. 2022): initial rates, rates of gates and multipliers, ramp, distances,
weights, as many epochs with gates as without. Rates of the weights and optimizer are those of the other rows."""
DPHUBERT = (
    "--gates.units", "[head,ffn_unit]", "--gates.ffn_drop_rate", "0.5", "--learn.gate_learning_rate", "0.02",
    "--learn.multiplier_learning_rate", "0.02", "--learn.quadratic_start", "0", "--learn.budget_warmup", "0.1",
    "--learn.final_fraction", "0", "--distill.output", "0", "--distill.ctc", "0",
)  # fmt: skip
"""As in its code (Peng et al. 2023): heads and FFN units alone, layerwise losses alone, two thirds of the updates with
gates. Rates of the weights and optimizer are those of the other rows."""

ROWS = (
    Row("gates", "learned gates, all kinds", GATES),
    Row("modules", "learned gates, modules only", (*GATES, "--gates.units", "[module]")),
    Row("gates-from-obs", "learned gates that start from OBS", (*GATES, "--gates.start", "obs")),
    Row("gates-from-fisher", "learned gates that start from Fisher", (*GATES, "--gates.start", "fisher")),
    Row("gates-muon-speeds", "learned gates, all by Muon at three speeds", GATES_BY_MUON, rates=RATES_BY_MUON),
    Row("gates-refit", "learned gates, then the refit", (*GATES, "--refit.after_gates", "true")),
    Row("gates-stages", "learned gates, by way of 50 %", (*GATES, "--budget.stages", "[50%]"), sizes=BELOW_HALF),
    Row("obs-rates", "OBS in rounds, refit, a rate by size (the default)", ("--structure", "obs"), False, rates=RATES),
    Row("magnitude-rates", "magnitude, refit, a rate by size", ("--structure", "magnitude"), False, rates=RATES),
    Row("obs-speeds", "the default, at three speeds", ("--structure", "obs", *SPEEDS), False, rates=RATES),
    Row("obs-muon", "OBS in rounds, refit, recovery by Muon", OBS_BY_MUON, False, rates=RATES_BY_MUON),
    Row("obs-muon-speeds", "OBS in rounds, refit, recovery by Muon at three speeds", (*OBS_BY_MUON, *SPEEDS), False,
        rates=RATES_BY_MUON),
    Row("obs-front", "OBS in rounds, refit", ("--structure", "obs"), False),
    Row("obs", "OBS in rounds, refit, the front whole", OBS, False),
    Row("obs-bare", "OBS in rounds, no refit, the front whole", (*OBS, *NO_REFIT), False),
    Row("obs-stages", "OBS in rounds, refit, by way of 50 %, the front whole", (*OBS, "--budget.stages", "[50%]"),
        False, sizes=BELOW_HALF),
    Row("fisher", "Fisher in rounds, refit", ("--structure", "fisher"), False),
    Row("fisher-bare", "Fisher in rounds, no refit", ("--structure", "fisher", *NO_REFIT), False),
    Row("variance", "output variance in rounds, refit", ("--structure", "variance"), False),
    Row("magnitude", "magnitude, refit", ("--structure", "magnitude"), False),
    Row("magnitude-bare", "magnitude, no refit", ("--structure", "magnitude", *NO_REFIT), False),
    Row("taylor", "first-order Taylor, refit", learned=False, control="taylor"),
    Row("random", "random units, refit", learned=False, control="random"),
    Row("cofi", "settings of CoFi", (*GATES, *COFI, *NO_REFIT), gated=0.5),
    Row("dphubert", "settings of DPHuBERT", (*GATES, *DPHUBERT, *NO_REFIT), gated=2 / 3, sizes=("50%", "25%")),
    Row("scratch", "from scratch, the teacher's updates as well",
        ("--structure", "proportional", *FRESH, *ALONE), False, with_teachers=True),
    Row("scratch-muon", "from scratch by Muon, the teacher's updates as well",
        ("--structure", "proportional", *FRESH_BY_MUON, *ALONE), False, with_teachers=True),
    Row("scratch-muon-speeds", "from scratch by Muon at three speeds, the teacher's updates as well",
        ("--structure", "proportional", *FRESH_BY_MUON, *ALONE, *SPEEDS), False, with_teachers=True),
    Row("scratch-distilled-muon", "from scratch by Muon, distilled, the teacher's updates as well",
        ("--structure", "proportional", *FRESH_BY_MUON), False, with_teachers=True),
    Row("all-blocks", "the default, all blocks matched", ("--structure", "obs", "--distill.blocks", "null"), False,
        rates=RATES),
    Row("inner", "the default, an inner block says what the teacher says",
        ("--structure", "obs", "--distill.inner", "1"), False, rates=RATES),
    Row("near-spikes", "the default, of blank frames only those beside tokens",
        ("--structure", "obs", "--distill.blank_neighbours", "1"), False, rates=RATES),
    Row("two", "learned gates, two processes", (*GATES, "--batch.seconds", "20"), launch=LAUNCH_TWO, seeds=1,
        sizes=("50%",)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is compared.

    Attributes:
        data: A folder with train, dev and test.
        out: Folder for everything.
        train: Config of the teacher.
        prune: Config of the compression.
        teacher: A model that all compress; null trains one for every seed.
        teacher_steps: Of its training.
        teacher_options: Of its training, beside the config.
        steps: Of every compression.
        metric: Of the sizes, `params` or `macs`.
        rows: Names of rows; null takes all.
        sizes: Shares of the teacher.
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
    teacher_options: str = shlex.join(BY_ADAMW)
    steps: int = 500
    metric: Literal["params", "macs"] = "params"
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
    folder, trials = experiment.folder, list(_trials(config))
    with ThreadPoolExecutor(config.jobs) as pool:
        teachers = list(pool.map(lambda seed: _teacher_of(seed, folder, config), range(config.seeds)))
        for task in [pool.submit(_compress, trial, folder, teachers[trial.seed], config) for trial in trials]:
            task.result()
    for trial in trials:
        output = trial.output(folder)
        options = ("--baseline", teachers[trial.seed], "--speed.threads", str(config.threads))
        repetitions = config.repetitions
        report = evaluate(output / "final", config.data, output / "report", *options, repetitions=repetitions)
        print(f"{trial.row.name} {trial.size} seed {trial.seed}: WER {report['model']['wer']:.2%}", flush=True)


def _teacher_of(seed: int, folder: Path, config: RunConfig) -> str:
    """The model of a seed, trained unless there is one."""
    if config.teacher:
        return config.teacher
    output = folder / f"teacher-{seed}"
    own = ("--max_steps", str(config.teacher_steps), "--optimizer.warmup_steps", "100", "--seed", str(seed))
    shared = ("--config", config.train, "--data.source", config.data, "--threads", str(config.threads))
    run_recipe("train", output, *shared, *shlex.split(config.teacher_options), *own)
    return str(output / "best")


def _trials(config: RunConfig) -> Iterator[Trial]:
    rows = [row for row in ROWS if config.rows is None or row.name in config.rows]
    for seed in range(config.seeds):
        for size in config.sizes:
            for row in rows:
                if size in (row.sizes or config.sizes) and seed < (row.seeds or config.seeds):
                    yield Trial(row, size, seed)


def _compress(trial: Trial, folder: Path, teacher: str, config: RunConfig) -> None:
    output = trial.output(folder)
    shared = ("--config", config.prune, "--teacher", teacher, "--data.source", config.data)
    own = ("--seed", str(trial.seed), "--threads", str(config.threads))
    own += ("--recover.learning_rate", trial.row.rates.get(trial.size, RATE))
    decided = _budget(trial, config) if trial.row.control is None else _control(trial, output, teacher, config)
    options = (*shared, *own, *decided, *trial.row.options, *_length(trial.row, config))
    run_recipe("prune", output, *options, launch=trial.row.launch)


def _length(row: Row, config: RunConfig) -> tuple[str, ...]:
    """The options for as many steps as asked for; a row may say itself how they are shared out."""
    total = config.steps
    if not row.learned:
        return ("--recover.steps", str(total + row.with_teachers * config.teacher_steps))
    gated = round(row.gated * total)
    return ("--learn.steps", str(gated), "--recover.steps", str(total - gated))


def _budget(trial: Trial, config: RunConfig) -> tuple[str, ...]:
    others = ("--budget.params", "null") if config.metric != "params" else ()
    return (*others, f"--budget.{config.metric}", trial.size)


def _control(trial: Trial, output: Path, teacher: str, config: RunConfig) -> tuple[str, ...]:
    """The options for what a control decides, which is decided unless it has been."""
    file = output.with_name(f"{output.name}.structure.json")
    if not file.exists():
        words = ("--by", str(trial.row.control), "--size", trial.size, "--seed", str(trial.seed), "--data", config.data)
        control = (sys.executable, "-m", "tools.experiments.controls", *words, "--model", teacher, "--out", str(file))
        execute(control, log_of(output))
    return ("--structure", str(file), "--budget", "null")


@dataclass(frozen=True, kw_only=True)
class RivalsTableConfig(TableConfig):
    """The comparison, and whose it is.

    Attributes:
        ours: Name of the row that the others are compared with.
    """

    ours: str = "obs"

    def __post_init__(self) -> None:
        check_choice("ours", self.ours, tuple(row.name for row in ROWS))


def table(config: RivalsTableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    contenders = _contenders(experiment.folder)
    if not contenders:
        raise ValueError(f"There are no reports in {experiment.folder}: `run` makes them.")
    seeds = sorted({seed.removeprefix("seed-") for contender in contenders.values() for seed in contender.seeds})
    experiment.enter(config, [*_table(contenders, config.ours), *_remarks(contenders)], seeds)


def _contenders(folder: Path) -> dict[tuple[str, str], Contender]:
    """By row and size, the largest size first."""
    sizes = {int(path.parent.name.rpartition("-")[2]) for path in folder.glob("*-*/seed-*") if path.is_dir()}
    return {
        (row.name, f"{size}%"): contender
        for size in sorted(sizes, reverse=True)
        for row in ROWS
        if (contender := Contender.read(folder.glob(f"{row.name}-{size}/seed-*/report/{REPORT}")))
    }


def _table(contenders: dict[tuple[str, str], Contender], ours: str) -> list[str]:
    names = ("row", "size", "WER %", "CER %", "parameters", "MACs", "times as fast", "minutes")
    differences = ("minus teacher", f"{_title(ours)} minus this", "the same over the seeds", f"{_title(ours)} is")
    rows = [_teacher(max(contenders.values(), key=lambda contender: len(contender.seeds)))]
    for (name, size), contender in contenders.items():
        mine = contenders.get((ours, size)) if name != ours else None
        cells = [_title(name), size, contender.show(), *_costs(contender.reports), _minutes(contender)]
        assert contender.baseline is not None
        rows.append([*cells, contender.against(contender.baseline), *_versus(mine, contender)])
    return grid((*names, *differences), rows)


def _title(name: str) -> str:
    return next(row.title for row in ROWS if row.name == name)


def _teacher(contender: Contender) -> list[str]:
    """The row of the teachers, one for each seed where they differ."""
    baselines = [report["baseline"] for report in contender.reports]
    teachers = replace(contender, reports=[{"model": report} for report in baselines], errors=contender.baseline)
    cer = fmean(report["cer"] for report in baselines)
    cells = ["teacher", "100%", teachers.show(), f"{PERCENT * cer:.2f}", f"{baselines[0]['parameters']['total']:,}"]
    return [*cells, "100%", "1.00", "", "", "", "", ""]


def _minutes(contender: Contender) -> str:
    """What making a model took, the training of its teacher left out."""
    seconds = [sum(_seconds(read(folder.parent / "done.json"))) for folder in contender.folders]
    return f"{fmean(seconds) / SECONDS:.1f}"


def _seconds(numbers: Any) -> Iterator[float]:
    """Every `seconds` in the numbers of a run, wherever they stand."""
    if isinstance(numbers, dict):
        for key, value in numbers.items():
            if key == "seconds" and isinstance(value, (int, float)):
                yield float(value)
            else:
                yield from _seconds(value)


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
    value, interval = paired(*ours.beside(other), ours.words)
    return [difference(value, interval.to_list()), shown, verdict(ours, other)]


def _remarks(contenders: dict[tuple[str, str], Contender]) -> list[str]:
    conditions = next(iter(contenders.values())).reports[0].get("conditions", {})
    shown = ", ".join(f"{key} {conditions[key]}" for key in CONDITIONS if key in conditions)
    return [
        "WER: **mean over the seeds** (95 % bootstrap interval over utterances, errors pooled over the seeds); the WER "
        "of each seed. Differences are paired, in points of WER, over the seeds that both rows have: below 0 the "
        "first of the two is better. Over the seeds: mean of the differences of each seed (Student's 95 % interval). "
        "One row is better or worse only where both intervals say so. Minutes: of deciding and training, without the "
        "teacher. Equal parameters are not equal compute: MACs are of those of the teacher; times as fast as the "
        "teacher, with which each model took turns in one process on one machine, mean (slowest to fastest seed)"
        f"{f': {shown}' if shown else ''}.",
    ]


if __name__ == "__main__":
    main(run, table)
