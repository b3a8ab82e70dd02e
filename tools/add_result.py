"""Appends an entry to RESULTS.md from the report.json of `compress evaluate` and the done.json of the recipes' runs.

python tools/add_result.py --title "Digits, 50 %" --command "compress demo --data DIR" --data "connected digits" \
    --report demo/report.json --runs demo/teacher,demo/student --note "2 CPU cores"
"""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonargparse

RESULTS = Path(__file__).resolve().parent.parent / "RESULTS.md"
TEMPLATE_HEAD = (
    "# Results\n\nEvery entry is written by a program in `tools/`, from the files that the commands leave.\n"
)


def main(
    *, title: str, command: str, data: str, report: str, runs: str = "", note: str = "", results: str = str(RESULTS)
) -> None:
    """Appends one entry.

    Args:
        title: heading of the entry.
        command: what was run, commands separated by " ; ".
        data: the data set, splits, and what a reader must know about it.
        report: report.json of the evaluation.
        runs: output folders of the recipes, separated by commas; their done.json and config.json are read.
        note: machine and remarks.
        results: the file to append to.
    """
    entry = [*facts(command, data, note), *table(json.loads(Path(report).read_text()))]
    for run in filter(None, runs.split(",")):
        entry += run_lines(Path(run))
    append_entry(Path(results), title, entry)


def append_entry(path: Path, title: str, entry: list[str]) -> None:
    text = path.read_text() if path.exists() else TEMPLATE_HEAD
    lines = "\n".join([f"## {title}", "", *entry])
    path.write_text(text.rstrip("\n") + "\n\n" + lines.rstrip("\n") + "\n")


def head_commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def facts(command: str, data: str, note: str, commit: str | None = None) -> list[str]:
    lines = [f"- date {datetime.date.today()}, commit {commit or head_commit()}", f"- data: {data}"]
    if note:
        lines.append(f"- {note}")
    return [*lines, "", *(f"    {part.strip()}" for part in command.split(" ; ")), ""]


def table(report: dict[str, Any]) -> list[str]:
    roles = [role for role in ("baseline", "model") if role in report]
    lines = ["| | " + " | ".join(roles) + " |", "|---|" + "---|" * len(roles)]
    for label, show in ROWS:
        lines.append(f"| {label} | " + " | ".join(show(report[role]) for role in roles) + " |")
    if "difference" in report:
        low, high = (100 * value for value in report["difference"]["wer_ci95"])
        difference = 100 * report["difference"]["wer"]
        ratio = report["ratio"]
        lines += ["", f"Paired difference of WER: {difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}."]
        lines += [
            f"Ratios to the baseline: parameters {ratio['parameters']:.3f}, MACs {ratio['macs']:.3f}, "
            f"speed {ratio['speed']:.2f} times."
        ]
    conditions = report["conditions"]
    shown = ("device", "threads", "dtype", "batch", "seconds", "warmup", "repetitions")
    lines.append(
        "Real-time factor: " + ", ".join(f"{key} {conditions[key]}" for key in shown if key in conditions) + "."
    )
    return [*lines, ""]


ROWS = (
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


def run_lines(run: Path) -> list[str]:
    done = json.loads((run / "done.json").read_text())
    seed = json.loads((run / "config.json").read_text())["seed"]
    shown = ", ".join(f"{key} {_short(value)}" for key, value in done.items() if value not in (None, [], {}))
    return [f"- `{run.name}` (seed {seed}): {shown}"]


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
