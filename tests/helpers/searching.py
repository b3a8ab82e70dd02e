"""Command lines of `compress search` and `compress analyze` that end soon."""

from __future__ import annotations

from pathlib import Path

QUICK = ["--batch.workers", "0", "--batch.seconds", "4", "--bootstrap.resamples", "100", "--jobs", "1"]


def options(speech: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(speech), "--data.cache_dir", str(speech / "cache"), "--out", str(out), *QUICK, *more]
