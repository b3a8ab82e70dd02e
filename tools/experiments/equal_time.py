"""Compares budgets in time with budgets in MACs and in parameters: error rates at the same measured time.

    python -m tools.experiments.equal_time run --teachers [a/best,b/best] --data data/digits --out runs/equal-time
    python -m tools.experiments.equal_time table --out runs/equal-time --title "..." --data "..." --note "..."

Nothing is trained. `run` profiles the first teacher on this machine (all must have its dimensions) and shrinks each
teacher by curvature to sizes in every metric; what is there already is not made again. Models of other metrics have the
same time as none of those with a budget in time, so `table` reads their error rates off between two neighbours, linear
in time, and leaves out times that no two of them enclose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from tools.commands import main
from tools.experiments.comparing import PERCENT, over_seeds
from tools.experiments.experiment import Experiment, TableConfig, listed, read, run_verb
from tools.results import grid

NAME = "equal_time"
LATENCY, OTHERS = "latency", ("macs", "params")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is shrunk.

    Attributes:
        teachers: Models of the same dimensions, each from a training of its own.
        data: A folder with train, and the split that is measured.
        out: Folder for everything.
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
    times: tuple[str, ...] = ("70%", "50%", "30%")
    sizes: tuple[str, ...] = ("80%", "65%", "50%", "38%", "28%", "20%", "14%", "10%")
    split: str = "test"
    threads: int = 1
    batch: int = 1
    seconds: float = 10.0
    repetitions: int = 20


def run(config: RunConfig) -> None:
    """Makes the profile and every curve that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run", teachers=len(config.teachers), batch=config.batch, seconds=config.seconds)
    speed = ("--speed.threads", str(config.threads), "--speed.batch", str(config.batch))
    speed += ("--speed.seconds", f"{config.seconds:g}", "--speed.repetitions", str(config.repetitions))
    profile = experiment.folder / "latency.json"
    run_verb("profile", profile, config.teachers[0], *speed)
    for number, teacher in enumerate(config.teachers):
        for metric in (LATENCY, *OTHERS):
            sizes = ("--sizes.profile", str(profile)) if metric == LATENCY else ()
            sizes += (f"--sizes.{metric}", listed(config.times if metric == LATENCY else config.sizes))
            options = ("--data", config.data, "--dev_split", config.split, *sizes, *speed)
            run_verb("shrink", experiment.folder / f"{metric}-{number}", teacher, *options)


def table(config: TableConfig) -> None:
    """Appends the error rates of every metric at the times of the models with a budget in time."""
    experiment = Experiment(config.out, NAME)
    numbers = range(experiment.settings["teachers"])
    curves = {
        metric: [_points(read(experiment.folder / f"{metric}-{number}" / "report.json")) for number in numbers]
        for metric in (LATENCY, *OTHERS)
    }
    names = [entry["name"] for entry in curves[LATENCY][0][1:]]
    rows = [_row(name, [curve[place] for curve in curves[LATENCY]], curves) for place, name in enumerate(names, 1)]
    head = ["budget in time", "measured time, % of the teacher's", "WER %"]
    head += [text for metric in OTHERS for text in (f"WER % by {metric} at that time", "difference, points")]
    experiment.enter(config, grid(head, rows), list(numbers))


def _points(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, share of the teacher's measured time and error rate of each size, the whole model first."""
    return [
        {"name": entry["name"], "time": 1 / entry["times_as_fast"], "wer": entry["wer"]} for entry in report["entries"]
    ]


def _row(name: str, models: Sequence[Mapping[str, Any]], curves: Mapping[str, Any]) -> list[str]:
    rates = [model["wer"] for model in models]
    times = [model["time"] for model in models]
    cells = [name, ", ".join(f"{PERCENT * time:.0f}" for time in times), _mean(rates)]
    for metric in OTHERS:
        others = [at_time(curve, time) for curve, time in zip(curves[metric], times, strict=True)]
        pairs = [(rate, other) for rate, other in zip(rates, others, strict=True) if other is not None]
        cells += [_mean([other for _, other in pairs]), _difference([rate - other for rate, other in pairs])]
    return cells


def at_time(curve: Sequence[Mapping[str, Any]], time: float) -> float | None:
    """The error rate of a curve at a time, between the two neighbouring models; None outside of the curve."""
    for slower, faster in pairwise(sorted(curve, key=lambda point: -point["time"])):
        if faster["time"] <= time <= slower["time"]:
            share = (slower["time"] - time) / ((slower["time"] - faster["time"]) or 1.0)
            return float(slower["wer"] + share * (faster["wer"] - slower["wer"]))
    return None


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
