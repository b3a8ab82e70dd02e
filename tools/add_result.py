"""Appends an entry to RESULTS.md from the report.json of `compress evaluate` and the done.json of the recipes' runs.

    python -m tools.add_result --title "Digits, 50 %" --command "compress demo --data DIR" --data "connected digits" \\
        --report demo/report.json --runs [demo/teacher,demo/student] --note "2 CPU cores" \\
        --question "What does half the size cost?" --answer "2.69 % WER"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.files.reading import read_object
from tools.commands import main
from tools.results import RESULTS, EntryConfig, add, facts, grid

CONDITIONS = ("device", "threads", "dtype", "batch", "seconds", "warmup", "repetitions")


@dataclass(frozen=True, kw_only=True)
class ReportConfig(EntryConfig):
    """An entry from one evaluation.

    Attributes:
        command: What was run, commands separated by " ; ".
        data: The data set, splits, and what a reader must know about it.
        report: The report.json of the evaluation.
        runs: Output folders of the recipes, whose done.json and config.json are read.
    """

    command: str
    data: str
    report: str
    runs: tuple[str, ...] = ()
    results: str | None = str(RESULTS)


def add_result(config: ReportConfig) -> None:
    """Appends one entry."""
    report = read_object(config.report, {"model": dict})
    lines = [*facts(config.command, config.data, config.note), *table(report), *difference(report), *conditions(report)]
    add(config, [*lines, *map(run_line, map(Path, config.runs))])


def table(report: dict[str, Any]) -> list[str]:
    """What was measured of model and baseline."""
    roles = [role for role in ("baseline", "model") if role in report]
    return grid(("", *roles), [[label, *(show(report[role]) for role in roles)] for label, show in ROWS])


def difference(report: dict[str, Any]) -> list[str]:
    """Model against baseline, where there is one."""
    if "difference" not in report:
        return []
    low, high = (100 * value for value in report["difference"]["wer_ci95"])
    value, ratio = 100 * report["difference"]["wer"], report["ratio"]
    return [
        f"Paired difference of WER: {value:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}.",
        f"Ratios to the baseline: parameters {ratio['parameters']:.3f}, MACs {ratio['macs']:.3f}, "
        f"speed {ratio['speed']:.2f} times.",
    ]


def conditions(report: dict[str, Any]) -> list[str]:
    """How the speed was measured."""
    given = report["conditions"]
    return ["Real-time factor: " + ", ".join(f"{key} {given[key]}" for key in CONDITIONS if key in given) + ".", ""]


ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("WER %", lambda m: f"{100 * m['wer']:.2f} ({100 * m['wer_ci95'][0]:.2f} to {100 * m['wer_ci95'][1]:.2f})"),
    ("CER %", lambda m: f"{100 * m['cer']:.2f}"),
    ("words", lambda m: f"{m['words']:,}"),
    ("substituted, deleted, inserted", lambda m: f"{m['substitutions']}, {m['deletions']}, {m['insertions']}"),
    ("parameters", lambda m: f"{m['parameters']['total']:,}"),
    ("of these in the encoder", lambda m: f"{m['parameters']['encoder']:,}"),
    ("bytes on disk", lambda m: f"{m['bytes']:,}"),
    ("MACs per second of audio", lambda m: f"{m['macs_per_second'] / 1e6:,.1f} M"),
    ("real-time factor", lambda m: f"{m['rtf']:.5f}"),
)  # fmt: skip
"""Labels, and how each is read of what report.json says of a model."""


def run_line(run: Path) -> str:
    """The final numbers of a recipe's run."""
    done = read_object(run / "done.json")
    seed = read_object(run / "config.json", {"seed": int})["seed"]
    shown = ", ".join(f"{key} {_short(value)}" for key, value in done.items() if value not in (None, [], {}))
    return f"- `{run.name}` (seed {seed}): {shown}"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


if __name__ == "__main__":
    main(add_result)
