"""The parts of a model, found through its family's description: blocks, modules, numbers of units."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers.description import Attention, Convolution, Family, Module
from compress.conformers.registry import UnsupportedModelError, family_of_type, supported


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


def submodule(block: nn.Module, description: Module) -> nn.Module | None:
    """The described module of a block; None if it has been removed."""
    module: nn.Module = part(block, description.path)
    return None if getattr(module, "is_absent", False) else module


def units_of(block: nn.Module, description: Module) -> int:
    """The number of units of a module of this block: heads, FFN units or channels; 0 if the module has been removed."""
    module = submodule(block, description)
    if module is None:
        return 0
    if isinstance(description, Attention):
        width: int = part(module, description.out).in_features
        return width // int(part(module, description.head_dim))
    if isinstance(description, Convolution):
        channels: int = part(module, description.depthwise).in_channels
        return channels
    size: int = part(module, description.down).in_features
    return size


def block_units(model: PreTrainedModel) -> list[dict[str, int]]:
    """Per block of this model, the number of units of each module (0: removed)."""
    family = family_of(model)
    return [{name: units_of(block, m) for name, m in family.modules.items()} for block in blocks_of(model)]
