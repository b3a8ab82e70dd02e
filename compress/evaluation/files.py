"""Writing the report: JSON for scripts, Markdown for a repository, HTML for a person, and every transcript."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compress.evaluation.html import render_html
from compress.evaluation.markdown import render_markdown
from compress.evaluation.report import Report, Transcripts

JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"
HTML_NAME = "report.html"
TRANSCRIPTS_NAME = "transcripts.jsonl"


def write_report(report: Report, transcripts: Mapping[str, Transcripts], out: Path) -> None:
    """Writes all files of a report into a folder, which is made; each file appears whole or not at all.

    Args:
        report: from `build`.
        transcripts: by role, "model" and perhaps "baseline".
        out: the folder; files of an earlier report in it are replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / TRANSCRIPTS_NAME, _transcript_lines(transcripts))
    write_atomically(out / MARKDOWN_NAME, render_markdown(report))
    write_atomically(out / HTML_NAME, render_html(report))
    write_atomically(out / JSON_NAME, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file under a temporary name beside it and renames it, so that no reader sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's mask; the system only tells it while setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
