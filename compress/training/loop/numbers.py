"""The numbers that every run or phase leaves at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.files.reading import read_object
from compress.files.writing import write_json
from compress.training.loop import processes
from compress.training.loop.finite import FiniteGuard, NotFiniteError
from compress.training.loop.progress import Progress
from compress.training.loop.unalignable import Unalignable

NUMBERS_FILE = "numbers.json"


def what_it_took(step: int, progress: Progress, guard: FiniteGuard, unalignable: Unalignable) -> dict[str, Any]:
    """The numbers at the end of a run or phase, JSON-able. All ranks must call it.

    Raises:
        NotFiniteError: if the gradient of not a single step was finite, so that nothing was learned.
    """
    if step and guard.skipped >= step:
        raise NotFiniteError(f"None of {step} steps had a finite gradient, so nothing was learned; see the log above.")
    ids: set[str] = set().union(*processes.gather(unalignable.ids))
    return {
        "steps": step,
        "seconds": round(progress.seconds, 1),
        "wait_share": round(progress.wait_share, 4),
        "skipped_steps": guard.skipped,
        "unalignable_utterances": sorted(ids),
    }


def leave_numbers(folder: Path, numbers: dict[str, Any]) -> None:
    """Keeps the numbers of a phase for the end of the run, which another start of it may see."""
    if processes.rank() == 0:
        write_json(folder / NUMBERS_FILE, numbers)


def numbers_of(output: Path, *phases: str) -> dict[str, Any]:
    """What `leave_numbers` has kept of the phases of a run, by their names."""
    return {phase: read_object(output / phase / NUMBERS_FILE) for phase in phases}
