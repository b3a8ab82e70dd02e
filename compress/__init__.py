"""Structured-pruning compression for Conformer speech recognisers.

Importing this package registers the compressed model classes with transformers, so that
`AutoModelForCTC.from_pretrained` loads a compressed checkpoint at its true, smaller size. Only the command `compress`
leaves that, and the seconds it takes to import torch and transformers, to those verbs that need a model.
"""

from typing import TYPE_CHECKING

from compress.files.command import is_the_command
from compress.files.shipped import __version__

if TYPE_CHECKING or not is_the_command():
    from compress.checkpoint import load_model, load_processor, save
    from compress.model import registration as _registration  # noqa: F401  (registers the model classes)
    from compress.model.removal import remove
    from compress.shrinking import shrink
    from compress.structure import Block, Structure, StructureError

__all__ = [
    "Block",
    "Structure",
    "StructureError",
    "__version__",
    "load_model",
    "load_processor",
    "remove",
    "save",
    "shrink",
]
