"""What a program does for the first time takes it half a second: done once in the process that programs are forks of.

Patterns are compiled, the file that travels and the card's template are put together, kernels for the meta device are
looked up. Nothing is trained: torch refuses gradients in the fork of a process that has computed some.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers.utils import logging

import compress
from compress.checkpoint import save
from tests.helpers.processors import save_tiny
from tests.helpers.tiny import batch, random_structure


def write_and_load() -> None:
    """A model and a smaller one are written, loaded and run."""
    with tempfile.TemporaryDirectory() as name, torch.random.fork_rng(), torch.no_grad():
        whole, smaller = (Path(name, part) for part in ("whole", "smaller"))
        save_tiny(whole)
        model, processor = compress.load_model(str(whole)), compress.load_processor(str(whole))
        save(compress.remove(model, random_structure(model, seed=0)), processor, smaller)
        compress.load_model(str(smaller))(**batch(model))


logging.disable_progress_bar()  # bars leave a thread, and forks have none of it
write_and_load()
logging.enable_progress_bar()
