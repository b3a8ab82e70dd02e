"""Writing the report: JSON for scripts, Markdown for a repository, HTML for a person, and every transcript."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from compress.evaluation.page import page_of
from compress.evaluation.report import Report, Transcripts
from compress.files.writing import write_text
from compress.reports.saving import save_page

REPORT_NAME = "report"
REPORT_JSON = f"{REPORT_NAME}.json"
TRANSCRIPTS_NAME = "transcripts.jsonl"
EVALUATION_FILES = (REPORT_JSON, f"{REPORT_NAME}.md", f"{REPORT_NAME}.html", TRANSCRIPTS_NAME)


def write_report(report: Report, transcripts: Mapping[str, Transcripts], out: Path) -> None:
    """Writes all files of a report into a folder, which is made where needed; each file appears whole or not at all.

    Args:
        report: from `build`.
        transcripts: by role, "model" and perhaps "baseline".
        out: the folder; files of an earlier report in it are replaced.
    """
    write_text(out / TRANSCRIPTS_NAME, _transcript_lines(transcripts))
    save_page(page_of(report), out, REPORT_NAME)
    write_text(out / REPORT_JSON, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _transcript_lines(transcripts: Mapping[str, Transcripts]) -> str:
    model = transcripts["model"]
    written = {role: dict(zip(texts.ids, texts.hypotheses, strict=True)) for role, texts in transcripts.items()}
    return "".join(
        json.dumps(
            {"id": name, "seconds": seconds, "reference": reference}
            | {role: texts.get(name) for role, texts in written.items()},
            ensure_ascii=False,
        )
        + "\n"
        for name, seconds, reference, _ in model.rows()
    )
