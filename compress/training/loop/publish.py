"""Pushing the result of a run: what can be checked beforehand is, and a push that fails costs nothing but itself."""

from __future__ import annotations

import logging
from pathlib import Path

from compress.checkpoint.push import HubConfig, PushConfig, PushError, check_push, push, push_command, staged
from compress.config import to_dict
from compress.files.reading import read_object
from compress.files.writing import write_json
from compress.training.loop import processes

logger = logging.getLogger(__name__)

PUSHED = "pushed.json"


def check_before(config: HubConfig | None, output: Path) -> None:
    """Refuses a run whose result could not be pushed, before it begins. All ranks must call it.

    Args:
        config: where to; None pushes nothing.
        output: folder of the run; once its result is pushed there is nothing to check.

    Raises:
        ValueError: on every rank, saying what is wrong with the name, the token or the network.
    """
    problem = ""
    if config and processes.rank() == 0 and not is_pushed(config, output):
        try:
            check_push(config)
        except PushError as error:
            problem = f"push: {error} Nothing was begun; --push null runs without pushing."
    if problem := processes.from_main(problem):
        raise PushError(problem)


def push_result(config: HubConfig | None, output: Path, name: str) -> None:
    """Pushes the model of a run that has ended, unless an earlier start of it did; for one process only.

    Args:
        config: where to; None pushes nothing.
        output: folder of the run; `pushed.json` there says that it was done.
        name: of the model's folder in it.

    Raises:
        PushError: with the command that repeats the push; the run is as complete as without it.
    """
    if not config or is_pushed(config, output):
        return
    try:
        settings = PushConfig(**to_dict(config) | {"datasets": config.datasets, "model": str(output / name)})
        with staged(settings) as stage:
            commit = push(settings, stage)
    except (ValueError, OSError) as error:
        raise PushError(
            f"The run in {output} has ended and {name}/ is complete, but it could not be pushed: {error} "
            f"Start the run again to try once more, or: {push_command(config, str(output / name))}"
        ) from error
    write_json(output / PUSHED, {"repo_id": config.repo_id, "commit": commit})
    logger.info("Pushed %s: %s", output / name, commit)


def is_pushed(config: HubConfig, output: Path) -> bool:
    """Whether the result of a run is in this repository already."""
    path = output / PUSHED
    return path.is_file() and read_object(path, {"repo_id": str})["repo_id"] == config.repo_id
