"""Where the files of a checkpoint lie: a folder of this machine, or the cache of the Hub's client."""

from __future__ import annotations

from pathlib import Path

from compress.checkpoint.errors import CheckpointError
from compress.files.paths import is_local

CONFIG_FILE = "config.json"


def require_folder(model: str) -> None:
    """Refuses a local path at which there is no checkpoint; the name of a Hub model passes.

    Raises:
        CheckpointError: naming what is missing.
    """
    if not model:
        raise CheckpointError("The model's name is empty; give a checkpoint folder or the name of a Hub model.")
    if is_local(model) and not Path(model).expanduser().is_dir():
        what = f"{model!r} is no folder" if Path(model).expanduser().exists() else f"There is no folder {model!r}"
        raise CheckpointError(f"{what}; give a checkpoint folder or the name of a Hub model.")
    if Path(model).is_dir() and not (Path(model) / CONFIG_FILE).is_file():
        raise CheckpointError(f"The folder {model!r} holds no {CONFIG_FILE}; it is not a checkpoint.")


def nowhere(model: str) -> str:
    """Says where a model was looked for that could not be loaded; empty where there is its folder."""
    return "" if Path(model).is_dir() else "there is no such folder here, and nothing of that name came from the Hub: "
