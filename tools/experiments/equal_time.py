"""Compares budgets in time with budgets in MACs and in parameters: error rates at the same measured time.

    python -m tools.experiments.equal_time run --teachers [a/best,b/best] --data data/digits --out runs/equal-time
    python -m tools.experiments.equal_time table --out runs/equal-time --title "..." --data "..." --note "..."

Nothing is trained. `run` profiles the first teacher on this machine (all must have its dimensions), shrinks each
teacher by curvature to sizes in every metric, and evaluates each size in turn with its teacher; with `--runtime onnx`
all of them are profiled, timed and evaluated as exports, in ONNX Runtime. What is there already is not made again.
Models of other metrics have the same time as none of those with a budget in time, so `table` reads their error rates
off between two neighbours, linear in time, and leaves out times that no two of them enclose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from compress.evaluation.rows import runtime_words
from compress.files.writing import MEBIBYTE
from compress.latency import LatencyProfile
from tools.commands import main
from tools.experiments.comparing import PERCENT, over_seeds
from tools.experiments.experiment import REPORT, Experiment, TableConfig, evaluate, listed, read, run_verb
from tools.results import grid

NAME = "equal_time"
LATENCY, OTHERS = "latency", ("macs", "params")
METRICS = (LATENCY, *OTHERS)
WHOLE, SIZES, REPORTS, PROFILE = "whole", "sizes", "reports", "latency.json"
GOAL = 0.95
"""At least so fast, of what a profile predicts, is a model with a budget in time."""
MEASURED_OTHERWISE = ("--dev_utterances", "1", "--speed.repetitions", "1")
"""Of a curve: its sizes are evaluated one by one."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is shrunk.

    Attributes:
        teachers: Models of the same dimensions, each from a training of its own.
        data: A folder with train, and the split that is measured.
        out: Folder for everything.
        runtime: What runs the models, "torch" or "onnx".
        times: Budgets in time, the largest first.
        sizes: Budgets in MACs and in parameters, the largest first.
        split: The split that is measured.
        threads: Of the timing.
        batch: Utterances in a timed pass.
        seconds: Of each of them.
        repetitions: Timed passes of each model, in turns with the teacher's.
    """

    teachers: tuple[str, ...]
    data: str
    out: str
    runtime: Literal["torch", "onnx"] = "torch"
    times: tuple[str, ...] = ("70%", "50%", "30%")
    sizes: tuple[str, ...] = ("80%", "65%", "50%", "38%", "28%", "20%", "14%", "10%")
    split: str = "test"
    threads: int = 1
    batch: int = 1
    seconds: float = 10.0
    repetitions: int = 20


def run(config: RunConfig) -> None:
    """Makes the profile, every curve and every report that is not there yet."""
    experiment = Experiment(config.out, NAME)
    budgets = {metric: list(config.times if metric == LATENCY else config.sizes) for metric in METRICS}
    experiment.note("run", teachers=len(config.teachers), batch=config.batch, seconds=config.seconds, budgets=budgets)
    profile, speed = experiment.folder / PROFILE, _speed(config)
    repetitions = ("--speed.repetitions", str(config.repetitions))
    run_verb("profile", profile, config.teachers[0], "--runtime", config.runtime, *speed, *repetitions)
    for number, teacher in enumerate(config.teachers):
        whole = _deployed(experiment, config, f"{WHOLE}-{number}", teacher)
        for metric, sizes in budgets.items():
            curve = experiment.folder / f"{metric}-{number}"
            options = ("--sizes.profile", str(profile)) if metric == LATENCY else ()
            options += (f"--sizes.{metric}", listed(sizes), "--dev_split", config.split, "--save", *MEASURED_OTHERWISE)
            run_verb("shrink", curve, teacher, "--data", config.data, *options, last=REPORT)
            for size in sizes:
                model = _deployed(experiment, config, _name(metric, number, size), curve / SIZES / size.rstrip("%"))
                beside = ("--baseline", whole, "--data.split", config.split, *speed)
                report = _report(experiment, metric, number, size)
                evaluate(model, config.data, report, *beside, repetitions=config.repetitions)


def _speed(config: RunConfig) -> tuple[str, ...]:
    """Under which conditions models are profiled, and timed."""
    given = {"threads": config.threads, "batch": config.batch, "seconds": f"{config.seconds:g}"}
    return tuple(word for name, value in given.items() for word in (f"--speed.{name}", str(value)))


def _deployed(experiment: Experiment, config: RunConfig, name: str, model: str | Path) -> str:
    """What is evaluated of a model: itself, or its export."""
    if config.runtime == "torch":
        return str(model)
    out = experiment.folder / config.runtime / name
    run_verb("export", out, str(model))
    return str(out)


def _name(metric: str, number: int, size: str) -> str:
    return f"{metric}-{number}-{size.rstrip('%')}"


def _report(experiment: Experiment, metric: str, number: int, size: str) -> Path:
    return experiment.folder / REPORTS / _name(metric, number, size)


@dataclass(frozen=True)
class Point:
    """A model of a curve.

    Attributes:
        size: its budget.
        time: measured, as a share of its teacher's.
        wer: its error rate, a fraction.
        milliseconds: measured.
        bytes: on disk, of what runs.
        predicted: share of the teacher's cost, in the terms of its budget.
    """

    size: str
    time: float
    wer: float
    milliseconds: float
    bytes: int
    predicted: float = 1.0

    @classmethod
    def of(cls, size: str, report: Mapping[str, Any], role: str = "model") -> Point:
        """What a report of `compress evaluate` says of one of its two models."""
        entry, teacher, given = report[role], report["baseline"], report["conditions"]
        milliseconds = 1e3 * entry["rtf"] * given["seconds"] * given["batch"]
        made = entry.get("compression") or {}
        predicted = made["achieved"] / made["full"] if role == "model" else 1.0
        return cls(size, entry["rtf"] / teacher["rtf"], entry["wer"], milliseconds, entry["bytes"], predicted)


Curves = Mapping[str, Sequence[Sequence[Point]]]
"""By metric, for each teacher: itself and its smaller forms."""


def table(config: TableConfig) -> None:
    """Appends the error rates of every metric at the times of the models with a budget in time."""
    experiment = Experiment(config.out, NAME)
    numbers, budgets = range(experiment.settings["teachers"]), experiment.settings["budgets"]
    curves = {
        metric: [_curve(experiment, metric, number, sizes) for number in numbers] for metric, sizes in budgets.items()
    }
    head = ["budget in time", "predicted time, % of the teacher's", "measured"]
    head += [f"real over predicted speed (goal: at least {GOAL})", "MiB", "WER %"]
    head += [text for metric in OTHERS for text in (f"WER % by {metric} at that time", "difference, points")]
    rows = [_row([curve[place] for curve in curves[LATENCY]], curves) for place in range(1, 1 + len(budgets[LATENCY]))]
    last = read(_report(experiment, LATENCY, 0, budgets[LATENCY][-1]) / REPORT)
    lines = [_conditions(experiment, last), "", *grid(head, rows), "What was measured:", "", *_measured(curves)]
    experiment.enter(config, lines, list(numbers))


def _curve(experiment: Experiment, metric: str, number: int, sizes: Sequence[str]) -> list[Point]:
    reports = {size: read(_report(experiment, metric, number, size) / REPORT) for size in sizes}
    whole = Point.of(WHOLE, next(iter(reports.values())), "baseline")
    return [whole, *(Point.of(size, report) for size, report in reports.items())]


def _conditions(experiment: Experiment, report: Mapping[str, Any]) -> str:
    """What ran the models, on what, and how well the profile foretells others."""
    profile, model, given = LatencyProfile.load(experiment.folder / PROFILE), report["model"], report["conditions"]
    error = profile.error
    return (
        f"{runtime_words(model)} (version {model['runtime']['version']}), {profile.summary}, on "
        f"{given['device_name']}; medians of {given['repetitions']} passes, in turns with the teacher's. The profile "
        f"is off by {error['mean']:.1%} on average, {error['worst']:.1%} at worst, for {error['structures']:g} models "
        "that were not fitted."
    )


def _row(models: Sequence[Point], curves: Curves) -> list[str]:
    rates = [model.wer for model in models]
    cells = [
        models[0].size,
        _shares(model.predicted for model in models),
        _shares(model.time for model in models),
        ", ".join(f"{model.predicted / model.time:.2f}" for model in models),
        f"{fmean(model.bytes for model in models) / MEBIBYTE:.2f}",
        _mean(rates),
    ]
    for metric in OTHERS:
        others = [at_time(curve, model.time) for curve, model in zip(curves[metric], models, strict=True)]
        pairs = [(rate, other) for rate, other in zip(rates, others, strict=True) if other is not None]
        cells += [_mean([other for _, other in pairs]), _difference([rate - other for rate, other in pairs])]
    return cells


def _measured(curves: Curves) -> list[str]:
    """Every model: means over the teachers, and the error rate of each."""
    teachers = [curve[0] for curve in curves[LATENCY]]
    smaller = [(metric, list(models)) for metric in METRICS for models in zip(*curves[metric], strict=True)]
    rows = [(WHOLE, teachers), *((metric, models) for metric, models in smaller if models[0].size != WHOLE)]
    head = ("budget in", "size", "time, % of the teacher's", "ms", "MiB", "WER %")
    return grid(head, [list(_cells(metric, models)) for metric, models in rows])


def _cells(metric: str, models: Sequence[Point]) -> Iterator[str]:
    yield from ("", WHOLE) if metric == WHOLE else (metric, models[0].size)
    yield _shares(model.time for model in models)
    yield f"{fmean(model.milliseconds for model in models):.2f}"
    yield f"{fmean(model.bytes for model in models) / MEBIBYTE:.2f}"
    yield _mean([model.wer for model in models])


def at_time(curve: Sequence[Point], time: float) -> float | None:
    """The error rate of a curve at a time, between the two neighbouring models; None outside of the curve."""
    for slower, faster in pairwise(sorted(curve, key=lambda point: -point.time)):
        if faster.time <= time <= slower.time:
            share = (slower.time - time) / ((slower.time - faster.time) or 1.0)
            return slower.wer + share * (faster.wer - slower.wer)
    return None


def _shares(values: Iterator[float]) -> str:
    return ", ".join(f"{PERCENT * value:.0f}" for value in values)


def _mean(rates: Sequence[float]) -> str:
    shown = ", ".join(f"{PERCENT * rate:.2f}" for rate in rates)
    return f"**{PERCENT * fmean(rates):.2f}**; {shown}" if rates else ""


def _difference(differences: Sequence[float]) -> str:
    if not differences:
        return ""
    interval = over_seeds(differences)
    spread = f" ({PERCENT * interval.low:+.2f} to {PERCENT * interval.high:+.2f})" if interval else ", one seed"
    return f"{PERCENT * fmean(differences):+.2f}{spread}"


if __name__ == "__main__":
    main(run, table)
