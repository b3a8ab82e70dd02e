"""What a model was before it was compressed: its Structure, its original's config, and a skeleton of either."""

from __future__ import annotations

import copy
import json
import reprlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers.description import Family
from compress.conformers.front_groups import front_channels
from compress.conformers.parts import block_units, family_of, part
from compress.conformers.registry import COMPRESSED_PREFIX
from compress.structure import MODULES, Structure, StructureError, count_kept

_BESIDE_THE_MODEL = ("_name_or_path", "architectures", "auto_map", "dtype", "transformers_version")
ORIGINAL_DIMENSIONS = "original_dimensions"
"""Beside `structure` in the config of a compressed model of the original class: what its dimensions were before."""


def structure_of(model: PreTrainedModel | PreTrainedConfig) -> Structure:
    """The Structure of a model with respect to its original: the saved one if compressed, else the full one."""
    config = model if isinstance(model, PreTrainedConfig) else model.config
    family = family_of(model)
    saved = getattr(config, "structure", None)
    return Structure.from_dict(saved) if saved else Structure.full(family.name, part(config, family.block_count))


def original_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of the config as it was before compression.

    Raises:
        StructureError: if a config of the original class holds a Structure, but not the dimensions it had before.
    """
    if str(config.model_type).startswith(COMPRESSED_PREFIX):
        config_class = family_of(config).original_class.config_class
        assert config_class is not None
        own = {entry.name for entry in fields(config)} - {entry.name for entry in fields(config_class)}
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
    paths, structure = stock_paths(config), structure_of(config)
    if not isinstance(dimensions, dict) or sorted(dimensions) != sorted(paths):
        raise StructureError(
            f"config.json of a compressed {family.name} must hold {ORIGINAL_DIMENSIONS}, an object with the values "
            f"before compression of {', '.join(paths)}; got {reprlib.repr(dimensions)}."
        )
    _check_numbers(family, dimensions)
    blocks = dimensions[family.block_count]
    if blocks != len(structure.blocks):
        raise StructureError(
            f"structure.blocks has {len(structure.blocks)} entries, but {ORIGINAL_DIMENSIONS}[{family.block_count!r}] "
            f"is {blocks!r}."
        )
    return dimensions


def _check_numbers(family: Family, dimensions: Mapping[str, Any]) -> None:
    assert family.stock
    lists = (family.fixed_blocks, family.stock.front)
    optional = (family.stock.head_dim, family.fixed_blocks, *family.stock.heads[1:])
    for path, value in dimensions.items():
        numbers = value if isinstance(value, list) and path in lists else [value]
        absent = value is None and path in optional
        if not absent and any(type(number) is not int or number < 0 for number in numbers):
            raise StructureError(f"{ORIGINAL_DIMENSIONS}[{path!r}] must be a whole number from 0, got {value!r}.")


def stock_paths(config: PreTrainedConfig) -> tuple[str, ...]:
    """Paths in the config of a compressed model of the original class of everything that the compression changed."""
    family = family_of(config)
    front = family.stock and structure_of(config).front and family.stock.front
    return (*family.stock_paths, front) if front else family.stock_paths


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


def original_units(config: PreTrainedConfig) -> list[dict[str, int]]:
    """Per block of the original model, the number of units of each module; to be read only."""
    return _units(ByContent.of(original_config(config)))


@lru_cache(maxsize=64)
def _units(original: ByContent) -> list[dict[str, int]]:
    return block_units(skeleton(original.config))


def original_front(config: PreTrainedConfig) -> dict[str, int]:
    """How many channels each group in front of the blocks of the original model has, by name; to be read only."""
    return _channels(ByContent.of(original_config(config)))


@lru_cache(maxsize=64)
def _channels(original: ByContent) -> dict[str, int]:
    return front_channels(skeleton(original.config))


@dataclass(frozen=True)
class ByContent:
    """A config that is equal to others of its class that say the same: what is known of one is known of all.

    Attributes:
        config: itself.
        content: what counts when it is compared.
    """

    config: PreTrainedConfig = field(compare=False)
    content: tuple[Hashable, ...]

    @classmethod
    def of(cls, config: PreTrainedConfig) -> ByContent:
        """The config as it is now."""
        kind, said = cast(Hashable, type(config)), json.dumps(_about_the_model(config.to_dict()), default=str)
        return cls(config, (kind, said))


def _about_the_model(said: Any) -> Any:
    """What a config says without where it came from, which differs once a model is saved and loaded."""
    if not isinstance(said, dict):
        return said
    return {key: _about_the_model(value) for key, value in said.items() if key not in _BESIDE_THE_MODEL}


def kept_units(model: PreTrainedModel) -> list[dict[str, tuple[int, int]] | None]:
    """Per block of the original model, `(kept, original)` units of each module; None for a dropped block."""
    structure, original = structure_of(model), original_units(model.config)
    return [
        {name: (count_kept(getattr(block, name), units[name]), units[name]) for name in MODULES} if block else None
        for block, units in zip(structure.blocks, original, strict=True)
    ]


def kept_channels(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Per group in front of the blocks of the original model, `(kept, original)` channels."""
    structure, original = structure_of(model), original_front(model.config)
    return {name: (count_kept(structure.of_front(name), channels), channels) for name, channels in original.items()}
