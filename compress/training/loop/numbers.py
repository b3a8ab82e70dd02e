"""The numbers that every run or phase leaves at its end."""

from __future__ import annotations

from typing import Any

from compress.training.loop import processes
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.progress import Progress
from compress.training.loop.unalignable import Unalignable


def what_it_took(step: int, progress: Progress, guard: FiniteGuard, unalignable: Unalignable) -> dict[str, Any]:
    """The numbers at the end of a run or phase, JSON-able. All ranks must call it."""
    ids: set[str] = set().union(*processes.gather(unalignable.ids))
    return {
        "steps": step,
        "seconds": round(progress.seconds, 1),
        "wait_share": round(progress.wait_share, 4),
        "skipped_steps": guard.skipped,
        "unalignable_utterances": sorted(ids),
    }
