"""Measures what is free: error rates after `compress shrink` at falling sizes, by who decides, with and without refit.

    python -m tools.experiments.shrunk run --teacher runs/teacher/best --data data/digits --out runs/shrunk
    python -m tools.experiments.shrunk table --out runs/shrunk --title "..." --data "..." --note "..."

Nothing is trained. `run` makes one curve for each way to decide; what is there already is not made again. `table`
appends an entry to RESULTS.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compress.config import check_choice
from compress.reports import formats
from tools.commands import main
from tools.experiments.experiment import REPORT, Experiment, TableConfig, listed, read, run_verb
from tools.results import grid

NAME = "shrunk"
REFIT, NO_REFIT = (), ("--refit", "null")
WAYS: dict[str, tuple[str, ...]] = {
    "obs": REFIT,
    "fisher": REFIT,
    "variance": REFIT,
    "magnitude": REFIT,
    "obs, no refit": NO_REFIT,
    "magnitude, no refit": NO_REFIT,
}
"""By name, whose first word is the decision; the options beside it."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is shrunk.

    Attributes:
        teacher: The model.
        data: A folder with train, and the split that is measured.
        out: Folder for everything.
        ways: Who decides, and whether what is left is refitted.
        sizes: Shares of the parameters, the largest first.
        split: The split that is measured.
        repetitions: Timed passes of each model, in turns with the teacher's.
    """

    teacher: str
    data: str
    out: str
    ways: tuple[str, ...] = tuple(WAYS)
    sizes: tuple[str, ...] = ("90%", "75%", "60%", "50%", "35%", "25%", "15%")
    split: str = "test"
    repetitions: int = 10

    def __post_init__(self) -> None:
        for way in self.ways:
            check_choice("ways", way, tuple(WAYS))


def run(config: RunConfig) -> None:
    """Makes every curve that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run", ways=list(config.ways))
    for way in config.ways:
        options = ("--data", config.data, "--sizes.params", listed(config.sizes), "--dev_split", config.split)
        decision = ("--structure", way.partition(",")[0], *WAYS[way])
        speed = ("--speed.repetitions", str(config.repetitions))
        out = experiment.folder / _folder(way)
        run_verb("shrink", out, config.teacher, *options, *decision, *speed, last=REPORT)


def table(config: TableConfig) -> None:
    """Appends the error rates of every curve, and what each size of the first one costs and gains."""
    experiment = Experiment(config.out, NAME)
    curves = {way: read(experiment.folder / _folder(way) / "report.json") for way in experiment.settings["ways"]}
    first = next(iter(curves.values()))
    head = ("WER % by who decides", *(entry["name"] for entry in first["entries"]))
    rates = [[way, *(f"{100 * entry['wer']:.2f}" for entry in curve["entries"])] for way, curve in curves.items()]
    experiment.enter(config, [*grid(head, rates), *grid(("of the first row", *head[1:]), _costs(first))])


def _costs(curve: dict[str, Any]) -> list[list[str]]:
    columns = {
        "95 % interval of the WER": lambda entry: formats.interval(entry["wer_ci95"], 2),
        "parameters": lambda entry: f"{entry['parameters']:,}",
        "M MACs per second": lambda entry: f"{entry['macs_per_second'] / 1e6:.1f}",
        "times as fast": lambda entry: f"{entry['times_as_fast']:.2f}",
        "seconds, on top of the size before": lambda entry: f"{entry.get('seconds', 0):.0f}",
    }
    return [[name, *(shown(entry) for entry in curve["entries"])] for name, shown in columns.items()]


def _folder(way: str) -> str:
    return way.replace(", ", "-").replace(" ", "-")


if __name__ == "__main__":
    main(run, table)
