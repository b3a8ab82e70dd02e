"""Stock checkpoints: what a Structure leaves, said by the original class's own config, so that no code need travel.

The original classes of transformers can hold fewer blocks, and fewer heads and FFN units if these are as many in every
block. Which values of the config say so is told by the family (`Stock`). The config keeps the Structure and the values
as they were, so that a stock checkpoint is known as compressed, and can be described and compressed again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from transformers import PreTrainedConfig

from compress.conformers import (
    COMPRESSED_PREFIX,
    Stock,
    blocks_of,
    family_of,
    fixed_blocks,
    original_config,
    part,
    skeleton,
    structure_of,
)
from compress.conformers.originals import (
    ORIGINAL_DIMENSIONS,
    original_front,
    original_units,
    set_dimension,
    stock_paths,
)
from compress.structure import MODULES, Structure, StructureError, count_kept

Route = Literal["stock", "code", "package"]

ROUTES: dict[Route, str] = {
    "stock": "loads with transformers alone",
    "code": "loads after `import compress`, or without it by trust_remote_code=True",
    "package": "loads after `import compress`",
}
"""What it takes to load a checkpoint."""


def route_of(config: PreTrainedConfig) -> Route:
    """Which route a checkpoint with this config needs."""
    if str(config.model_type).startswith(COMPRESSED_PREFIX):
        return "code"
    return "package" if family_of(config).own_class else "stock"


def stock_config(config: PreTrainedConfig, structure: Structure) -> PreTrainedConfig | None:
    """The config by which the original class holds what a Structure leaves; None if it cannot.

    Args:
        config: of the original model.
        structure: of the original model.
    """
    family = family_of(config)
    changed = _dimensions(family.stock, config, structure) if family.stock else None
    if changed is None:
        return None
    changed[family.block_count] = sum(block is not None for block in structure.blocks)
    small = copy.deepcopy(config)
    before = {path: _get(config, path) for path in changed}
    for path, value in changed.items():
        set_dimension(small, path, value)
    small.structure = structure.to_dict()
    setattr(small, ORIGINAL_DIMENSIONS, before)
    return small


def check_stock(config: PreTrainedConfig) -> None:
    """Checks that the dimensions of a compressed model of the original class are those that its Structure leaves.

    Raises:
        StructureError: naming the field that is malformed or does not fit.
    """
    original, structure, family = original_config(config), structure_of(config), family_of(config)
    structure.check(family.name, original_units(original), original_front(original))
    wanted = stock_config(original, structure)
    if wanted is None:
        raise StructureError(
            f"The structure in config.json is not one that {family.model_class} can hold: it needs as many heads and "
            "FFN units in every block, every convolution channel, and in front of the blocks what its config can say."
        )
    for path in stock_paths(config):
        if _get(config, path) != _get(wanted, path):
            raise StructureError(
                f"{path} in config.json is {_get(config, path)!r}, but its structure leaves {_get(wanted, path)!r}."
            )


def _can_say(stock: Stock, heads: set[int], widths: set[int], units: Mapping[str, int]) -> bool:
    """Whether the original's config has a value for what is not as it was."""
    return bool(stock.heads or heads == {units["attention"]}) and bool(stock.ffn_units or widths == {units["ffn1"]})


def _dimensions(stock: Stock, config: PreTrainedConfig, structure: Structure) -> dict[str, Any] | None:
    """The values of the original's config, by path, that say what a Structure leaves; None if no values can."""
    channels = _channels_of(stock, config, structure)
    if channels is None:
        return None
    pairs = [(block, units) for block, units in zip(structure.blocks, original_units(config), strict=True) if block]
    left = [{name: count_kept(getattr(block, name), units[name]) for name in MODULES} for block, units in pairs]
    widths = {counts[name] for counts in left for name in ("ffn1", "ffn2")}
    heads = {counts["attention"] for counts in left}
    if len(widths) != 1 or len(heads) != 1 or 0 in widths | heads:
        return None
    if any(counts["conv"] != units["conv"] for counts, (_, units) in zip(left, pairs, strict=True)):
        return None
    if not _can_say(stock, heads, widths, pairs[0][1]) or (stock.halves and not _halves_fit(structure)):
        return None
    values: dict[str, Any] = dict.fromkeys(stock.heads, heads.pop()) | channels
    if stock.ffn_units:
        values[stock.ffn_units] = widths.pop()
    family, original = family_of(config), skeleton(config)
    if stock.head_dim:
        attention = part(blocks_of(original)[0], family.attention.path)
        values[stock.head_dim] = part(attention, family.attention.head_dim)
    if family.fixed_blocks:
        values[family.fixed_blocks] = _renumbered(structure, fixed_blocks(original))
    return values | {path: _get(config, to) if isinstance(to, str) else to for path, to in stock.dead}


def _channels_of(stock: Stock, config: PreTrainedConfig, structure: Structure) -> dict[str, Any] | None:
    """What a config says of channels in front of the blocks, if some go; None if it cannot."""
    if not structure.front:
        return {}
    left = [count_kept(structure.of_front(name), channels) for name, channels in original_front(config).items()]
    if stock.front is None:
        return None
    if not isinstance(_get(config, stock.front), int):
        return {stock.front: left}
    return {stock.front: left[0]} if len(set(left)) == 1 else None


def _halves_fit(structure: Structure) -> bool:
    """Whether half of the blocks that are left are those left of the first half."""
    stays = [block is not None for block in structure.blocks]
    first = sum(stays[: len(stays) // 2])
    return first == sum(stays) // 2 and (first > 0 or len(stays) == 1)


def _renumbered(structure: Structure, fixed: set[int]) -> list[int]:
    return [number for number, index in enumerate(structure.survivors) if index in fixed]


def _get(config: PreTrainedConfig, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    value = getattr(part(config, owner), name, None)
    return list(value) if isinstance(value, tuple) else value
