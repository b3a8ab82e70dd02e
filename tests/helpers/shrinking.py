"""Command lines of `compress shrink` that end soon."""

from __future__ import annotations

from pathlib import Path

QUICK = ["--batch.workers", "0", "--refit.utterances", "6"]


def words(speech: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(speech), "--data.cache_dir", str(speech / "cache"), "--out", str(out), *QUICK, *more]
