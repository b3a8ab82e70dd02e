"""Loading models and processors, compressed or not, from a folder or the Hub."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from compress.checkpoint.errors import CheckpointError, reason_of
from compress.checkpoint.folders import nowhere, require_folder
from compress.checkpoint.limits import check_model_config
from compress.checkpoint.weights import FLOATING, checkpoint_folder
from compress.conformers import (
    UnsupportedModelError,
    blocks_of,
    family_of,
    part,
    skeleton,
    submodule,
    supported,
    units_of,
)
from compress.conformers.originals import ByContent
from compress.files.pages import read_in_turn
from compress.files.reading import ReadError, read_object, require_regular
from compress.files.writing import CONFIG_FILE
from compress.structure import StructureError
from compress.surgery.stock import check_stock, route_of

logger = logging.getLogger(__name__)


def load_config(model: str) -> PreTrainedConfig:
    """Loads the config of a checkpoint; no weights are read or downloaded.

    Raises:
        CheckpointError: naming the checkpoint, if there is none, and the field that describes no model.
        UnsupportedModelError: if no family describes the model.
        StructureError: naming a field of a compressed checkpoint that is malformed or does not fit the others.
    """
    return _described(model)[0]


def _described(model: str) -> tuple[PreTrainedConfig, PreTrainedModel]:
    """A checkpoint's config, and the model that it describes, on the meta device."""
    require_folder(model)
    try:
        return _checked_config(model)
    except StructureError as error:
        raise StructureError(f"{model}: {CONFIG_FILE}: {error}") from error


def _checked_config(model: str) -> tuple[PreTrainedConfig, PreTrainedModel]:
    path = Path(model, CONFIG_FILE)
    content = read_object(path) if path.is_file() else {}
    config = _read_config(model)
    _require_types_of_parts(model, content, config)
    if getattr(config, "structure", None) is not None and route_of(config) == "stock":
        check_stock(config)
    check_model_config(config.to_dict(), f"{model}: {CONFIG_FILE}")
    _require_known_class(model, config)
    try:
        bones = _bones(ByContent.of(config))
        _require_whole_heads(model, bones)
        return config, bones
    except (StructureError, UnsupportedModelError):
        raise
    except Exception as error:  # whatever a class of transformers makes of numbers that do not fit
        raise CheckpointError(f"{model}: {CONFIG_FILE} describes no model: {reason_of(error)}.") from error


def _require_known_class(model: str, config: PreTrainedConfig) -> None:
    """Refuses a checkpoint of a class that its family does not describe."""
    family, named = family_of(config), config.architectures or ()
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        raise CheckpointError(
            f"{model}: {CONFIG_FILE}: architectures is {named!r}; give a list with a class of the model."
        )
    classes = [name.removeprefix("Compressed") for name in named]
    if classes and not {family.model_class, *family.other_classes} & set(classes):
        raise UnsupportedModelError(f"{model!r} is a {classes[0]}, which is not supported. {supported()}")


def _require_types_of_parts(model: str, content: dict[str, Any], config: PreTrainedConfig) -> None:
    """Refuses a part of a config that calls itself of another kind than the part that transformers makes of it."""
    for name, part_of_config in content.items():
        said = part_of_config.get("model_type") if isinstance(part_of_config, dict) else None
        known = getattr(type(getattr(config, name, None)), "model_type", None)
        if said is not None and known and said != known:
            raise CheckpointError(f"{model}: {CONFIG_FILE}: {name}.model_type is {said!r}, and must be {known!r}.")


def _require_whole_heads(model: str, bones: PreTrainedModel) -> None:
    """Refuses heads that share keys and values, which could not be removed one by one."""
    attention = family_of(bones).attention
    for block in blocks_of(bones):
        module = submodule(block, attention)
        if module is None:
            continue
        heads, width = units_of(block, attention), int(part(module, attention.head_dim))
        rows = part(module, attention.key).weight.shape[0] // (2 if attention.key == attention.value else 1)
        if rows != heads * width:
            raise UnsupportedModelError(
                f"{model!r} has {rows // width} heads of keys and values (num_key_value_heads) for {heads} heads of "
                "queries; heads that share keys and values are not supported."
            )


def _read_config(model: str) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (StructureError, UnsupportedModelError):
        raise
    except (OSError, HFValidationError) as error:
        raise CheckpointError(f"No model can be loaded from {model!r}: {nowhere(model)}{reason_of(error)}.") from error
    except Exception as error:
        if type(error) is ValueError:  # a model_type that transformers does not know
            raise UnsupportedModelError(f"{model!r} is not supported: {error} {supported()}") from error
        raise CheckpointError(f"{model}: {CONFIG_FILE} cannot be used: {reason_of(error)}.") from error
    return config


def load_model(
    model: str, *, dtype: torch.dtype | Literal["auto"] = torch.float32, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Loads a model in eval mode; a checkpoint that does not fit its weights to the last tensor is refused.

    Nothing is unpickled and no code of the checkpoint is run: weights are read from safetensors files only, and the
    classes are those of transformers and of this package.

    Args:
        model: folder or Hub name.
        dtype: of the weights; `"auto"` leaves it as it was saved.
        device: where to put it.

    Raises:
        CheckpointError: naming the checkpoint and the tensors that are missing, left over, of another shape or type, or
            hold what no trained model holds.
        UnsupportedModelError: if no family describes the model.
    """
    config, bones = _described(model)
    if reason := obstacle(config):
        raise UnsupportedModelError(f"{model!r} cannot be compressed as it is: {reason}")
    checked = _check_weights(model, bones)
    options = {"config": config, "dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    try:
        with _without_their_report():
            loaded, info = family_of(config).auto.from_pretrained(model, output_loading_info=True, **options)
    except Exception as error:  # transformers lets through whatever its parts raise
        raise CheckpointError(f"The weights of {model!r} cannot be loaded: {reason_of(error)}.") from error
    if not checked:
        _check_weights(model, bones)
    _check_complete(model, loaded, info)
    _check_values(model, loaded)
    result: PreTrainedModel = loaded.to(device).eval()
    return result


def obstacle(config: PreTrainedConfig) -> str | None:
    """Says why a checkpoint of a supported class can be inspected but not compressed; None if it can."""
    if getattr(config, "has_lora_adapter", False):
        return (
            "its language model has a LoRA adapter, which would be lost; merge it (merge_and_unload of peft), set "
            "has_lora_adapter to false in its config, and save the model anew."
        )
    return None


def read_compression(model: str) -> dict[str, Any] | None:
    """Reads what `compression.json` in a checkpoint folder says of how it was made; None if there is none.

    Raises:
        ReadError: if the file is damaged.
    """
    path = Path(model) / COMPRESSION_FILE
    if not path.is_file():
        return None
    content = read_object(path, optional=COMPRESSION_FORM)
    _check_compression(path, content)
    return content


def _check_compression(path: Path, content: Mapping[str, Any]) -> None:
    """Refuses what cannot be said of a compression, or of one before it."""
    rates: Mapping[str, Any] = content.get("wer") or {}
    wrong = [f"wer.{split} is {rate!r}" for split, rate in rates.items() if not isinstance(rate, int | float)]
    if content.get("full") == 0:
        wrong.append("full is 0")
    while not wrong and (earlier := content.get("teacher_compression")) is not None:
        if not isinstance(earlier, dict):
            raise ReadError(f"{path}: teacher_compression is {earlier!r}, which cannot be.")
        numbers = [(name, earlier.get(name)) for name in COUNTS if earlier.get(name) is not None]
        wrong = [f"teacher_compression: {name} is {n!r}" for name, n in numbers if type(n) is not int]
        content = earlier
    if wrong:
        raise ReadError(f"{path}: {wrong[0]}, which cannot be.")


COMPRESSION_FILE = "compression.json"
COUNTS = ("parameters_before", "parameters")
COMPRESSION_FORM = {
    **dict.fromkeys((*COUNTS, "limit", "full", "achieved"), int),
    **dict.fromkeys(("method", "teacher", "requested"), str),
    "expected": float,
    "wer": dict,
    "teacher_compression": dict,
}
"""Of what is said of a compression, what pages and cards show."""
MOST_WEIGHT_BYTES = 1 << 44
VARIANCE = "running_var"


def _check_weights(model: str, bones: PreTrainedModel) -> bool:
    """Compares weights on disk with the model that the config describes, before memory is taken for either.

    Returns:
        Whether there were any: those of a Hub model may still have to be downloaded.
    """
    folder = _folder_of_weights(model)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    if not files and Path(model).is_dir():
        raise CheckpointError(
            f"{model!r} holds no weights in the safetensors format; other formats can run code when they are read. "
            "Convert them: load the model with transformers where you trust it, and save_pretrained."
        )
    for file in files:
        require_regular(file, MOST_WEIGHT_BYTES)
        _check_headers(model, file, bones.state_dict())
    return bool(files)


def _check_headers(model: str, file: Path, wanted: Mapping[str, Tensor]) -> None:
    for name, (shape, kind) in _headers(file).items():
        if name not in wanted:
            continue
        if shape != tuple(wanted[name].shape):
            raise CheckpointError(
                f"The checkpoint {model!r} does not fit its config: {name} is {shape} in {file.name}, and "
                f"{tuple(wanted[name].shape)} by config.json."
            )
        if wanted[name].is_floating_point() and kind not in FLOATING:
            raise CheckpointError(
                f"The checkpoint {model!r} cannot be used: {name} is of type {kind} in {file.name}; weights must "
                f"be {', '.join(FLOATING)}. Take the model as it was before it was quantised."
            )


def _folder_of_weights(model: str) -> Path | None:
    """Where the weights lie: the folder itself, or the snapshot of a Hub model, once it is there."""
    try:
        return checkpoint_folder(model)
    except ValueError:  # transformers downloads what it needs, and says what is wrong with the name
        return None


@lru_cache(maxsize=16)
def _bones(described: ByContent) -> PreTrainedModel:
    """A model by its config, without memory."""
    return skeleton(described.config, original=False)


def _headers(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor in a file."""
    try:
        with safe_open(file, "pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        raise CheckpointError(f"The weights in {file} cannot be loaded: {error}") from error


@contextmanager
def _without_their_report() -> Iterator[None]:
    """Leaves out the table of tensors that transformers logs; `_check_complete` refuses them in one line."""
    theirs = logging.getLogger("transformers.modeling_utils")

    def no_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    theirs.addFilter(no_report)
    try:
        yield
    finally:
        theirs.removeFilter(no_report)


def _check_complete(model: str, loaded: PreTrainedModel, info: dict[str, Any]) -> None:
    family = family_of(loaded)
    dead = (*family.dead, *family.left_out)
    problems = {
        kind: sorted(str(key) for key in info[kind] if not str(key).startswith(dead or ("\0",)))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind.replace('_', ' ')}: {keys[:5]}" for kind, keys in problems.items() if keys)
        raise CheckpointError(f"The checkpoint {model!r} does not fit its config: {listed}.")


def _check_values(model: str, loaded: PreTrainedModel) -> None:
    """Refuses weights that are not finite, and variances below 0.

    Args:
        model: its name, for messages.
        loaded: the model itself.

    Raises:
        CheckpointError: naming the tensor.
    """
    tensors = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    for name, tensor in read_in_turn(tensors):
        if tensor.is_floating_point() and tensor.numel():
            lowest, highest = (float(end) for end in tensor.detach().aminmax())
            if not math.isfinite(lowest + highest):
                raise CheckpointError(
                    f"The checkpoint {model!r} cannot be used: {name} holds values that are not finite."
                )
            if lowest < 0 and name.endswith(VARIANCE):
                raise CheckpointError(
                    f"The checkpoint {model!r} cannot be used: {name} is {lowest:g}, below 0, somewhere."
                )
