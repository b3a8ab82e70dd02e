"""Where the files of a checkpoint lie: a folder of this machine, or the cache of the Hub's client."""

from __future__ import annotations

from pathlib import Path

from compress.checkpoint.errors import CheckpointError
from compress.checkpoint.exported import EXPORT_FILE
from compress.files.paths import is_local
from compress.files.writing import CONFIG_FILE, WEIGHTS, require_place_for_models


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
    if Path(model).is_dir():
        _refuse_a_run(Path(model))
    if Path(model).is_dir() and not (Path(model) / CONFIG_FILE).is_file():
        raise CheckpointError(f"The folder {model!r} holds no {CONFIG_FILE}; it is not a checkpoint.")


def require_new(out: str) -> None:
    """Refuses to write where there is something already, or where nothing can be written, before any work is done.

    Raises:
        CheckpointError: if `out` exists already.
        WriteError: naming the model that `out` lies in, or the reason why nothing can be written there.
    """
    if Path(out).exists():
        raise CheckpointError(f"{out} exists already; choose another folder or delete it.")
    require_place_for_models(out)


def _refuse_a_run(folder: Path) -> None:
    """Refuses the folder of a run, whose models lie in folders of their own, and graphs made of a model."""
    has_weights = any(path.suffix in WEIGHTS for path in folder.iterdir())
    if (folder / EXPORT_FILE).is_file() and not has_weights:
        raise CheckpointError(
            f"{str(folder)!r} is no checkpoint, but an export, which `compress evaluate` and other programs run; give "
            "the model that it was made from."
        )
    models = sorted(child.name for child in folder.iterdir() if (child / CONFIG_FILE).is_file())
    if models and not has_weights:
        raise CheckpointError(
            f"{str(folder)!r} is no checkpoint, but the folder of a run; give a model in it: "
            f"{', '.join(str(folder / name) for name in models)}."
        )


def nowhere(model: str) -> str:
    """Says where a model was looked for that could not be loaded; empty where there is its folder."""
    return "" if Path(model).is_dir() else "there is no such folder here, and nothing of that name came from the Hub: "
