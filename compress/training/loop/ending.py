"""How a run ends: final numbers that say that it has, and models from which a later start goes on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from compress.checkpoint import CheckpointError
from compress.files.reading import ReadError, read_object
from compress.files.writing import write_json
from compress.reports.formats import percent, significant

logger = logging.getLogger(__name__)

INTERRUPTED_EXIT_CODE = 130
PROGRAM_KEY = "program"
FROM_WHOLE = 1000
"""From here on, digits behind the point say nothing."""
RATES = ("wer", "cer", "share")
DONE_FILE = "done.json"
"""The final numbers of a run; it has ended once they are there."""


def has_ended(output: Path, program: str) -> bool:
    """Whether a run has ended before, which is then said.

    Args:
        output: folder of the run.
        program: that runs.

    Raises:
        ValueError: if the final numbers there are damaged, or those of another program.
    """
    done = output / DONE_FILE
    if not done.exists():
        return False
    try:
        by = read_object(done).get(PROGRAM_KEY, program)
    except ReadError as error:
        raise ReadError(f"{error} Delete it, and run the same command again to make it anew.") from error
    if by != program:
        raise ValueError(f"{output} holds a finished run of {by}, not of {program}; give another output folder.")
    logger.info("%s has already ended; its numbers are in %s.", output, done)
    return True


def end(output: Path, numbers: Mapping[str, Any], program: str, *models: str) -> None:
    """Writes the final numbers of a run, as the last thing that it does; for one process only.

    Args:
        output: folder of the run.
        numbers: JSON-able.
        program: that has run.
        *models: folders of the models that the run leaves.

    Raises:
        CheckpointError: if one of them is not there in full, which deleting it behind the last checkpoint leads to.
    """
    for name in models:
        if not _is_whole(output / name):
            raise CheckpointError(
                f"{output / name} is not there in full, though the run has made all of its steps: delete "
                f"{output / 'checkpoints'} and run the same command again to make it anew."
            )
    write_json(output / DONE_FILE, {**numbers, PROGRAM_KEY: program})
    plain = {name: value for name, value in numbers.items() if isinstance(value, str | int | float)}
    shown = "  ".join(f"{name} {_shown(name, value)}" for name, value in plain.items())
    logger.info("Done: %s  (all numbers: %s)", shown, output / DONE_FILE)


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a model whose files are not cut off."""
    files = list(folder.glob("*.safetensors"))
    try:
        for file in files:
            with safe_open(file, "pt"):
                pass
    except (SafetensorError, OSError):
        return False
    return has_model(folder) and bool(files)


def _shown(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if name.endswith(RATES):
        return percent(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= FROM_WHOLE else significant(value)


def interrupted(program: str) -> NoReturn:
    """Ends a program that somebody has stopped by Ctrl-C, in one line instead of a traceback."""
    sys.stderr.write(f"{program}: interrupted; the same command goes on from the last checkpoint\n")
    sys.exit(INTERRUPTED_EXIT_CODE)


def has_model(folder: Path) -> bool:
    """Whether an earlier start of a run has left a model there; folders of models appear whole or not at all."""
    return (folder / "config.json").exists()


@contextmanager
def read_back(folder: Path) -> Iterator[None]:
    """Names the remedy where a phase begins with a model that the one before it has left.

    Args:
        folder: of that model, which is read inside the context.

    Raises:
        CheckpointError: if what is read there is damaged.
    """
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{error} Delete {folder} and run the same command again to make it anew.") from error
