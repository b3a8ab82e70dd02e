"""What config files of checkpoints may hold: checked before transformers builds anything of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from compress.checkpoint.errors import CheckpointError
from compress.checkpoint.weights import FLOATING

MOST_BLOCKS = 1000
LARGEST = 1_000_000
"""Of any size, width or number of units; the largest vocabularies have a quarter of it."""
MOST_BINS = 10_000
MOST_SAMPLES = 1_000_000
DEEPEST = 50
_BLOCKS = re.compile(r"(^|_)layers$")
_SIZES = re.compile(
    r"(size|dim|dims|heads|channels|units|positions|embeddings|groups|kernel|factor|mult|bins|features)$"
)
_EXTRACTOR_SIZES = re.compile(r"(feature_size|n_fft|bins|mels|_length|stride|window_size|downsample_rate)$")
_WHOLE = ("feature_size", "n_fft", "hop_length", "win_length", "num_mel_bins", "n_mels", "sampling_rate")
_RATE = "sampling_rate"
_TYPES_OF_WEIGHTS = ("dtype", "torch_dtype")
TYPES = tuple(str(dtype).removeprefix("torch.") for dtype in FLOATING.values())


def check_model_config(content: Any, where: str) -> None:
    """Refuses numbers in the config of a model that no model has, since building it would take all memory or for ever.

    Args:
        content: of `config.json`.
        where: the file, for messages.

    Raises:
        CheckpointError: naming the field.
    """
    if isinstance(content, dict) and content.get("quantization_config") is not None:
        raise CheckpointError(
            f"{where}: quantization_config says that the weights are quantised; take the model as it was before."
        )
    _require_types_of_weights(content, where)
    for path, name, value in _numbers(content, where):
        most = MOST_BLOCKS if _BLOCKS.search(name) else LARGEST
        if abs(value) > most and (_SIZES.search(name) or _BLOCKS.search(name)):
            raise CheckpointError(f"{where}: {path} is {value!r}; models have no more than {most:,}.")


def _require_types_of_weights(content: Any, where: str) -> None:
    parts = [content, *content.values()] if isinstance(content, dict) else []
    for part in filter(lambda part: isinstance(part, dict), parts):
        for key in _TYPES_OF_WEIGHTS:
            said = part.get(key)
            if said is not None and str(said).removeprefix("torch.") not in TYPES:
                raise CheckpointError(f"{where}: {key} is {said!r}; give the type of the weights: {', '.join(TYPES)}.")


def check_extractor_config(content: Any, where: str) -> None:
    """Refuses numbers in the config of a feature extractor that none has.

    Args:
        content: of `processor_config.json` or `preprocessor_config.json`.
        where: the file, for messages.

    Raises:
        CheckpointError: naming the field.
    """
    for path, name, value in _numbers(content, where):
        most = MOST_SAMPLES if name == _RATE or name.endswith("_length") else MOST_BINS
        least = 0 if name.endswith("_length") else 1
        if (name == _RATE or _EXTRACTOR_SIZES.search(name)) and not least <= value <= most:
            raise CheckpointError(f"{where}: {path} is {value!r}; give {least} to {most:,}.")
        if name in _WHOLE and not isinstance(value, int):
            raise CheckpointError(f"{where}: {path} is {value!r}; give a whole number.")


def _numbers(
    content: Any, where: str, path: str = "", name: str = "", depth: int = 0
) -> Iterator[tuple[str, str, float]]:
    """Yields every number with its dotted path and the name that it stands under."""
    if depth > DEEPEST:
        raise CheckpointError(f"{where}: {path} is nested more than {DEEPEST} deep.")
    if isinstance(content, dict):
        for key, value in content.items():
            last = str(key).rpartition(".")[2]
            yield from _numbers(value, where, f"{path}.{key}" if path else str(key), last, depth + 1)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, where, path, name, depth + 1)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, name, content
