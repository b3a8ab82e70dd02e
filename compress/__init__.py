"""Structured-pruning compression for Conformer speech recognisers.

Importing this package registers the compressed model classes with transformers, so that
`AutoModelForCTC.from_pretrained` loads a compressed checkpoint at its true, smaller size.
"""

from compress.model import registration as _compressed  # noqa: F401  (registers the model classes)
from compress.model.removal import remove
from compress.structure import Block, Structure, StructureError

__version__ = "0.1.0"

__all__ = ["Block", "Structure", "StructureError", "__version__", "remove"]
