"""What an evaluation leaves, as far as the tables of experiments read it."""

from __future__ import annotations

import json
from pathlib import Path

from tools.experiments.experiment import TableConfig


def entry(out: Path, title: str) -> TableConfig:
    return TableConfig(out=str(out), title=title, data="digits", results=str(out / "R.md"))


REFERENCES = ["one two three four", "five six seven eight", "nine"]
TEACHER = ["one two three four", "five six seven eight", "ten"]
WRONG = ["one two", "five six seven eight", "ten"]
CONDITIONS = {"device": "cpu", "threads": 1, "repetitions": 10}


def leave(folder: Path, hypotheses: list[str], wer: float) -> None:
    """The part of a report that the comparison reads."""
    folder.mkdir(parents=True)
    model = {"wer": wer, "wer_ci95": [0.0, 0.5], "cer": wer / 2, "parameters": {"total": 50}}
    baseline = {"wer": 1 / 9, "wer_ci95": [0.0, 0.3], "cer": 0.05, "parameters": {"total": 100}}
    report = {"model": model, "baseline": baseline, "ratio": {"macs": 0.6, "speed": 1.5}, "conditions": CONDITIONS}
    (folder / "report.json").write_text(json.dumps(report))
    rows = zip("abc", REFERENCES, hypotheses, TEACHER, strict=True)
    keys = ("id", "reference", "model", "baseline")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    (folder / "transcripts.jsonl").write_text("\n".join(reversed(lines)))
