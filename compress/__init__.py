"""Structured-pruning compression for Conformer speech recognisers.

Importing this package registers the compressed model classes with transformers, so that
`AutoModelForCTC.from_pretrained` loads a compressed checkpoint at its true, smaller size.
"""

from compress.checkpoint import load_model, load_processor, save
from compress.files.shipped import __version__
from compress.model import registration as _registration  # noqa: F401  (registers the model classes)
from compress.model.removal import remove
from compress.structure import Block, Structure, StructureError

__all__ = ["Block", "Structure", "StructureError", "__version__", "load_model", "load_processor", "remove", "save"]
