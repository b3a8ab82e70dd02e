"""The trackers of a run, such as TensorBoard: they are started once, with the settings of the run."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from compress.config import to_dict
from compress.files.writing import write_json
from compress.training.loop.same_run import flatten
from compress.training.run import SETTINGS_FILE, RunConfig


def start_trackers(accelerator: Accelerator, name: str, config: RunConfig, of_run: RunConfig | None = None) -> None:
    """Starts the trackers, if no earlier stage has, and writes settings to `config.json` in their folder.

    Args:
        accelerator: has the trackers.
        name: what they call the recipe.
        config: these settings, of a run or of a stage of it.
        of_run: what trackers are told in place of those of a stage.
    """
    if not accelerator.trackers:
        told = flatten(to_dict(of_run or config))
        accelerator.init_trackers(name, config={key: str(value) for key, value in told.items()})
    if accelerator.is_main_process:
        write_json(Path(config.output, SETTINGS_FILE), to_dict(config))
