"""Checkpoints: loading, saving and describing compressed models."""

from compress.checkpoint.errors import CheckpointError
from compress.checkpoint.folders import require_new
from compress.checkpoint.loading import COMPRESSION_FILE, load_config, load_model, obstacle, read_compression
from compress.checkpoint.matching import load_recogniser, require_match
from compress.checkpoint.processors import load_processor
from compress.checkpoint.saving import apply_structure, describe, save

__all__ = [
    "COMPRESSION_FILE",
    "CheckpointError",
    "apply_structure",
    "describe",
    "load_config",
    "load_model",
    "load_processor",
    "load_recogniser",
    "obstacle",
    "read_compression",
    "require_match",
    "require_new",
    "save",
]
