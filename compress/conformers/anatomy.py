"""Reading a model through its family's description: blocks, modules, numbers of units, valid frames."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers.description import Attention, Convolution, Family, Module
from compress.conformers.registry import COMPRESSED_PREFIX, UnsupportedModelError, family_of_type, supported
from compress.structure import MODULES, Structure, StructureError, count_kept

ORIGINAL_DIMENSIONS = "original_dimensions"
"""Beside `structure` in the config of a compressed model of the original class: what its dimensions were before."""


def family_of(model: PreTrainedModel | PreTrainedConfig) -> Family:
    """The family of a model, compressed or not, or of a model's config.

    Raises:
        UnsupportedModelError: listing what is supported and saying why this model is not.
    """
    config = model if isinstance(model, PreTrainedConfig) else model.config
    family = family_of_type(str(config.model_type), type(model).__name__)
    if not isinstance(model, PreTrainedConfig | family.original_class):
        raise UnsupportedModelError(
            f"{type(model).__name__} is not supported: of its family only {family.model_class} is described. "
            f"{supported()}"
        )
    return family


def part(root: Any, path: str) -> Any:
    """Follows a dotted path of attributes from `root`; the empty path is `root` itself."""
    for name in path.split(".") if path else ():
        root = getattr(root, name)
    return root


def numbered_blocks(model: PreTrainedModel) -> dict[int, nn.Module]:
    """The model's blocks by their position in its list, in which dropped ones may have left placeholders."""
    blocks: nn.ModuleList = part(model, family_of(model).blocks)
    return {position: block for position, block in enumerate(blocks) if not getattr(block, "is_absent", False)}


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """The model's blocks, in running order."""
    return list(numbered_blocks(model).values())


def fixed_blocks(model: PreTrainedModel) -> set[int]:
    """The indices, among the model's blocks, of those that cannot be dropped."""
    family = family_of(model)
    fixed = part(model.config, family.fixed_blocks) if family.fixed_blocks else ()
    return {index for index, position in enumerate(numbered_blocks(model)) if position in fixed}


def submodule(block: nn.Module, module: Module) -> nn.Module | None:
    """The described module of a block; None if it has been removed."""
    found: nn.Module = part(block, module.path)
    return None if getattr(found, "is_absent", False) else found


def units_of(block: nn.Module, module: Module) -> int:
    """The number of units of a module of this block: heads, FFN units or channels; 0 if the module has been removed."""
    found = submodule(block, module)
    if found is None:
        return 0
    if isinstance(module, Attention):
        width: int = part(found, module.out).in_features
        return width // int(part(found, module.head_dim))
    if isinstance(module, Convolution):
        channels: int = part(found, module.depthwise).in_channels
        return channels
    size: int = part(found, module.down).in_features
    return size


def block_units(model: PreTrainedModel) -> list[dict[str, int]]:
    """Per block of this model, the number of units of each module (0: removed)."""
    family = family_of(model)
    return [{name: units_of(block, m) for name, m in family.modules.items()} for block in blocks_of(model)]


def structure_of(model: PreTrainedModel | PreTrainedConfig) -> Structure:
    """The Structure of a model with respect to its original: the saved one if compressed, else the full one."""
    config = model if isinstance(model, PreTrainedConfig) else model.config
    family = family_of(model)
    saved = getattr(config, "structure", None)
    return (
        Structure.from_dict(saved) if saved else Structure.full(family.name, len(part(skeleton(config), family.blocks)))
    )


def original_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of the config as it was before compression.

    Raises:
        StructureError: if a config of the original class holds a Structure, but not the dimensions it had before.
    """
    if str(config.model_type).startswith(COMPRESSED_PREFIX):
        config_class = family_of(config).original_class.config_class
        assert config_class is not None
        own = {field.name for field in fields(config)} - {field.name for field in fields(config_class)}
        own |= {"model_type", "auto_map"}
        values = {key: value for key, value in config.to_dict().items() if key not in own}
        original: PreTrainedConfig = config_class.from_dict(values)
        original._attn_implementation = config._attn_implementation
        return original
    original = copy.deepcopy(config)
    if getattr(config, "structure", None) is None:
        return original
    for path, value in _original_dimensions(config).items():
        set_dimension(original, path, value)
    for name in ("structure", ORIGINAL_DIMENSIONS):
        delattr(original, name)
    return original


def _original_dimensions(config: PreTrainedConfig) -> dict[str, Any]:
    """What the config of a compressed model of the original class says of the dimensions before, checked."""
    family, dimensions = family_of(config), getattr(config, ORIGINAL_DIMENSIONS, None)
    if not isinstance(dimensions, dict) or sorted(dimensions) != sorted(family.stock_paths):
        raise StructureError(
            f"config.json of a compressed {family.name} must hold {ORIGINAL_DIMENSIONS}, an object with the values "
            f"before compression of {', '.join(family.stock_paths)}; got {reprlib.repr(dimensions)}."
        )
    assert family.stock
    optional = (family.stock.head_dim, family.fixed_blocks, *family.stock.heads[1:])
    for path, value in dimensions.items():
        numbers = value if isinstance(value, list) and path == family.fixed_blocks else [value]
        absent = value is None and path in optional
        if not absent and any(type(number) is not int or number < 0 for number in numbers):
            raise StructureError(f"{ORIGINAL_DIMENSIONS}[{path!r}] must be a whole number from 0, got {value!r}.")
    blocks, structure = dimensions[str(family.block_count)], structure_of(config)
    if blocks != len(structure.blocks):
        raise StructureError(
            f"structure.blocks has {len(structure.blocks)} entries, but {ORIGINAL_DIMENSIONS}[{family.block_count!r}] "
            f"is {blocks!r}."
        )
    return dimensions


def set_dimension(config: PreTrainedConfig, path: str, value: Any) -> None:
    """Sets a value in a config by its dotted path; None takes an optional value out."""
    owner, _, name = path.rpartition(".")
    if value is None:
        vars(part(config, owner)).pop(name, None)
    else:
        setattr(part(config, owner), name, value)


def skeleton(config: PreTrainedConfig, *, original: bool = True) -> PreTrainedModel:
    """A model without memory (on the meta device) built from a config, in eval mode.

    Args:
        config: of a model of any family, compressed or not.
        original: build the model as it was before compression, also for a compressed one.
    """
    config = original_config(config) if original else copy.deepcopy(config)
    if hasattr(config, "has_lora_adapter"):
        config.has_lora_adapter = False  # an adapter has no part in the skeleton, and transformers would warn of it
    with torch.device("meta"):
        model: PreTrainedModel = family_of(config).auto.from_config(config, dtype=torch.float32)
    model.eval()
    return model


def kept_units(model: PreTrainedModel) -> list[dict[str, tuple[int, int]] | None]:
    """Per block of the original model, `(kept, original)` units of each module; None for a dropped block."""
    structure, original = structure_of(model), block_units(skeleton(model.config))
    return [
        {name: (count_kept(getattr(block, name), units[name]), units[name]) for name in MODULES} if block else None
        for block, units in zip(structure.blocks, original, strict=True)
    ]


def frame_lengths(model: PreTrainedModel, attention_mask: Tensor) -> Tensor:
    """The number of output frames of each utterance.

    Args:
        model: of any family.
        attention_mask: `(batch, input frames)`, 1 where the input is speech and 0 where it is padding.

    Returns:
        `(batch,)`, int64.
    """
    method = family_of(model).frame_lengths
    lengths: Tensor = attention_mask.sum(-1)
    if method:
        lengths = part(model, method)(lengths)
    return lengths.to(torch.int64)


def frame_outputs(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a model makes of each frame: the logits of its CTC head or, where it has none, the output of its encoder.

    Args:
        model: of any family.
        inputs: its features and their `attention_mask`.

    Returns:
        `(batch, frames, vocabulary)` or `(batch, frames, hidden)`.
    """
    family = family_of(model)
    if family.has_ctc:
        logits: Tensor = model(**inputs).logits
        return logits
    hidden = inputs[family.features]
    if family.projection:
        hidden = part(model, family.projection)(hidden)
    mask = {} if family.ignores_padding else {"attention_mask": inputs.get("attention_mask")}
    output = part(model, family.encoder)(hidden, **mask)
    encoded: Tensor = getattr(output, "last_hidden_state", output)
    return encoded


def frame_mask(model: PreTrainedModel, inputs: Mapping[str, Tensor], frames: int) -> Tensor:
    """Which output frames belong to speech, not to padding.

    Args:
        model: of any family.
        inputs: what the model was called with; without an `attention_mask` every frame counts.
        frames: number of frames of the output.

    Returns:
        `(batch, frames)`, bool.
    """
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        features = inputs[family_of(model).features]
        return torch.ones(features.shape[0], frames, dtype=torch.bool, device=features.device)
    positions = torch.arange(frames, device=attention_mask.device)
    return positions < frame_lengths(model, attention_mask)[:, None]
