"""Checkpoints: loading, saving and describing compressed models."""

from compress.checkpoint.loading import (
    COMPRESSION_FILE,
    CheckpointError,
    load_config,
    load_model,
    load_processor,
    obstacle,
    read_compression,
)
from compress.checkpoint.matching import load_recogniser, require_match
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
    "save",
]
