"""Writing the report: JSON for scripts, Markdown for a repository, HTML for a person, and every transcript."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from compress.evaluation.html import render_html
from compress.evaluation.markdown import render_markdown
from compress.evaluation.report import Report, Transcripts
from compress.files.writing import write_text

JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"
HTML_NAME = "report.html"
TRANSCRIPTS_NAME = "transcripts.jsonl"


def write_report(report: Report, transcripts: Mapping[str, Transcripts], out: Path) -> None:
    """Writes all files of a report into a folder, which is made where needed; each file appears whole or not at all.

    Args:
        report: from `build`.
        transcripts: by role, "model" and perhaps "baseline".
        out: the folder; files of an earlier report in it are replaced.
    """
    write_text(out / TRANSCRIPTS_NAME, _transcript_lines(transcripts))
    write_text(out / MARKDOWN_NAME, render_markdown(report))
    write_text(out / HTML_NAME, render_html(report))
    write_text(out / JSON_NAME, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _transcript_lines(transcripts: Mapping[str, Transcripts]) -> str:
    model = transcripts["model"]
    written = {role: dict(zip(one.ids, one.hypotheses, strict=True)) for role, one in transcripts.items()}
    return "".join(
        json.dumps(
            {"id": name, "seconds": seconds, "reference": reference}
            | {role: texts.get(name) for role, texts in written.items()},
            ensure_ascii=False,
        )
        + "\n"
        for name, seconds, reference, _ in model.rows()
    )
