"""Unit order: an elastic model has the units of its modules in another order than the model that it was made from.

Its config says which, `"unit_order": [{"ffn1": [2, 0, 1, 3]}, {}, ...]`: per block that the model has, and per module
whose units were put into another order, which of its units stands at each place.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import blocks_of, family_of, submodule
from compress.structure import Kept, Place, Structure, StructureError
from compress.surgery.slicing import take_units_

Orders = Mapping[Place, list[int]]
"""By the place of a module, which of its units stands first, second, ...; other modules have kept their order."""


def unit_orders(config: PreTrainedConfig) -> Orders:
    """The orders that a config holds.

    Raises:
        StructureError: naming the block and module whose entry is not an order.
    """
    saved = getattr(config, "unit_order", None) or []
    orders = {Place.of(index, name): order for index, block in enumerate(saved) for name, order in block.items()}
    for place, order in orders.items():
        if not isinstance(order, list) or sorted(order) != list(range(len(order))):
            raise StructureError(
                f"unit_order[{place.block}].{place.name} must hold every unit from 0 once, got {reprlib.repr(order)}."
            )
    return orders


def write_orders(orders: Orders, blocks: int) -> list[dict[str, list[int]]] | None:
    """The form in which a config holds orders of a model of so many blocks; `unit_orders` is its inverse."""
    if not orders:
        return None
    return [{place.name: order for place, order in orders.items() if place.block == block} for block in range(blocks)]


def one_after_other(first: Orders, then: Orders) -> Orders:
    """The orders that come of putting units into one order, and what results into another."""
    both = {place: [first[place][unit] for unit in then[place]] for place in first.keys() & then.keys()}
    return {**first, **then, **both}


def reorder_(model: PreTrainedModel, orders: Orders) -> None:
    """Puts the units of modules into another order, in place. What the model computes stays the same."""
    blocks, modules = blocks_of(model), family_of(model).modules
    for place, order in orders.items():
        description = modules[place.name]
        module = submodule(blocks[place.block], description)
        assert module is not None
        take_units_(module, description, order)


def in_first_order(structure: Structure, orders: Orders) -> Structure:
    """What a Structure of a model with other orders keeps, said of the model as it was before."""
    blocks = list(structure.blocks)
    for place, order in orders.items():
        if block := blocks[place.block]:
            kept = _units_before(getattr(block, place.name), order)
            blocks[place.block] = replace(block, **{place.name: kept})
    return replace(structure, blocks=tuple(blocks))


def _units_before(kept: Kept, order: list[int]) -> Kept:
    return tuple(sorted(order[unit] for unit in kept)) if isinstance(kept, tuple) else kept


def orders_back(structure: Structure, orders: Orders) -> Orders:
    """The orders that put what a Structure has left of a model with other orders back as it was before."""
    back, survivors = {}, structure.survivors
    for place, order in orders.items():
        block = structure.blocks[place.block]
        kept: Any = block and getattr(block, place.name)
        if kept:
            units = order if kept == "all" else [order[unit] for unit in kept]
            left = Place(survivors.index(place.block), place.module)
            back[left] = sorted(range(len(units)), key=units.__getitem__)
    return back
