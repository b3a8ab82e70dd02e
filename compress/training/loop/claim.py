"""One run at a time in one output folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from compress.files.writing import explained, recover_folder, require_place_for_models
from compress.training.loop import processes

LOCK = ".lock"


def require_apart(model: str | None, output: Path, *folders: str) -> None:
    """Refuses a run that would replace the model from which it begins, or files of it.

    Args:
        model: folder or Hub name of that model; None: there is none.
        output: folder of the run.
        *folders: models in it, which are swapped in whole.

    Raises:
        ValueError: naming the folder.
    """
    begun = Path(model).expanduser().resolve() if model else None
    if begun == output.resolve():
        raise ValueError(f"The run begins from {model} and would write among its files; give another output folder.")
    for place in ((output / name).resolve() for name in folders):
        if begun is not None and (begun == place or place in begun.parents):
            raise ValueError(f"The run begins from {model} and would replace it; give another output folder.")


@contextmanager
def claimed(output: Path, *folders: str) -> Iterator[None]:
    """Makes this run the only one that writes to its folder, and ends what a killed one left undone there.

    A launcher that is killed can leave its processes running; without this a second start would write among them. The
    lock goes with the process that holds it, however that ends. All ranks must enter together.

    Args:
        output: folder of the run.
        *folders: models in it, which are swapped in whole.

    Raises:
        WriteError: if nothing can be written there, or it is part of a model.
        ValueError: on every rank, if another run holds the folder, or not every machine of this run sees it.
    """
    require_place_for_models(output)
    with explained(output):
        output.mkdir(parents=True, exist_ok=True)
    lock, problem = FileLock(output / LOCK), ""
    if processes.rank() == 0:
        try:
            lock.acquire(timeout=0)
            for name in folders:
                recover_folder(output / name)
        except Timeout:
            problem = f"Another run is writing to {output}: wait until it has ended, or stop its processes."
    if problem := processes.from_main(problem) or _not_shared(output):
        raise ValueError(problem)
    try:
        yield
    finally:
        lock.release()


def _not_shared(output: Path) -> str:
    """What to say where some rank does not find what the first one has just written."""
    token = output / f"{LOCK}.{processes.from_main(secrets.token_hex(8))}"
    if processes.rank() == 0:
        token.touch()
    processes.gather(None)
    without = [rank for rank, sees in enumerate(processes.gather(token.exists())) if not sees]
    if processes.rank() == 0:
        token.unlink()
    if not without:
        return ""
    return (
        f"{output} is not the same folder on every machine: process {without[0]} does not see what the first one "
        "writes there. Give a folder on a file system that all machines share."
    )
