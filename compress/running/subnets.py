"""Sizes: what lets one model run as several Structures, switched at run time without moving a weight.

What runs at each size is in the config of a compressed model, `"sizes": [{"name": "33%", "blocks": [{"ffn1": 64,
"conv": 0}, {}, null]}, ..., {"name": "100%", "blocks": [{}, {}, {}]}]`, the smallest first and the full one last: per
block, counted among those that the model
has, null if the block is passed over, else the number of the first units that run of each module that does not run in
full. At a size that only passes blocks over, its depth names it as well. `"own_by_size"` says of which layers each
size has its own, `"unit_order"` how units stood before (see `compress.surgery.unit_order`). A model whose config has
sizes is elastic.

This module travels with checkpoints (see `compress.model.modelling_file`), so it imports nothing that they do not need.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import block_units, blocks_of, family_of, fixed_blocks, part
from compress.running.slimmable import Running, SkippableBlock, become, give_each_size_its_own_, make_slimmable_
from compress.structure import MODULES, Block, Kept, Structure, StructureError, count_kept

HEAD = "head"
NORM = "norm"
OWN = (HEAD, NORM)
"""What each size can have of its own: the CTC head; the batch norms, whose statistics differ from size to size."""


class SizeError(ValueError):
    """A size at which a model cannot run."""


def subnets_of(model: PreTrainedModel) -> dict[str, Structure]:
    """What runs at each size of a model, the smallest first; refers to the model as it is.

    The full one comes last; of a model that is not elastic it is the only one, and the number of blocks is its name.
    """
    units, family = block_units(model), family_of(model).name
    saved = getattr(model.config, "sizes", None)
    return read_subnets(saved, family, units) if saved else {str(len(units)): Structure.full(family, len(units))}


def subnet_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's sizes, the smallest first."""
    saved = getattr(model.config, "sizes", None)
    return [subnet["name"] for subnet in saved] if saved else [str(len(blocks_of(model)))]


def subnet_at_present(model: PreTrainedModel) -> str:
    """The name of the size at which a model runs."""
    running: Running | None = getattr(model, "running", None)
    return subnet_names(model)[running.index if running else 0]


def activate(model: PreTrainedModel, size: str) -> None:
    """Lets a compressed model run at another of its sizes from now on. Nothing is copied, and no weight moves.

    Raises:
        SizeError: listing the sizes that there are, if this is none of them.
    """
    names = subnet_names(model)
    if size not in names:
        raise SizeError(
            f"This model runs at size {', '.join(names)}, not at {size!r}. Choose one of these, or write a checkpoint "
            "that runs at others: compress elastic --help"
        )
    if len(names) > 1:
        running: Any = model.running
        running.index = names.index(size)


def depths_of(model: PreTrainedModel) -> dict[int, tuple[int, ...]]:
    """The blocks that run at those sizes of a model at which blocks run in full or not at all, by their number."""
    return {len(kept): kept for kept in _whole_blocks(model).values()}


def _whole_blocks(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """The blocks that run at each size at which they do so in full or not at all."""
    count = len(blocks_of(model))
    saved = getattr(model.config, "sizes", None) or [{"name": str(count), "blocks": [{}] * count}]
    return {
        subnet["name"]: tuple(index for index, block in enumerate(subnet["blocks"]) if block is not None)
        for subnet in saved
        if not any(subnet["blocks"])
    }


def subnet_at_depth(model: PreTrainedModel, depth: int) -> str:
    """The name of the size at which so many of a model's blocks run, in full.

    Raises:
        SizeError: listing the depths that there are, if this is none of them.
    """
    names = {len(kept): name for name, kept in _whole_blocks(model).items()}
    if depth not in names:
        known = ", ".join(map(str, names))
        raise SizeError(
            f"This model runs at depth {known}, not at {depth!r}. Choose one of these, or write a checkpoint that runs "
            "at others: compress elastic CKPT --depths [...] --out DIR"
        )
    return names[depth]


def prepare_subnets_(model: PreTrainedModel, sizes: Mapping[str, Structure]) -> None:
    """Makes a compressed model ready to run at sizes that fit it; it starts at the full one.

    Raises:
        StructureError: if its config names layers that sizes cannot have of their own.
    """
    family, structures, running = family_of(model), list(sizes.values()), Running(len(sizes) - 1)
    model.running = running  # type: ignore[assignment]
    for index, (block, units) in enumerate(zip(blocks_of(model), block_units(model), strict=True)):
        at = [structure.blocks[index] for structure in structures]
        if None in at:
            become(block, SkippableBlock, running=running, by_size=tuple(None if at_size else 0 for at_size in at))
        for name, module in family.modules.items():
            counts = [_part_that_runs(at_size, name, units[name]) for at_size in at]
            if any(count is not None for count in counts):
                make_slimmable_(block, module, counts, running)
    for layer in list(own_layers(model, model.config)):
        give_each_size_its_own_(layer, running, len(sizes))


def _part_that_runs(block: Block | None, name: str, units: int) -> int | None:
    """How many units of a module run; None: all of them, or the block does not run anyway."""
    count = count_kept(getattr(block, name), units) if block else units
    return None if count == units else count


def own_layers(model: PreTrainedModel, config: PreTrainedConfig) -> Iterator[nn.Module]:
    """The layers of a model of which each size has its own if its config is the one given.

    Raises:
        StructureError: if the config names something else.
    """
    family, own = family_of(model), getattr(config, "own_by_size", None) or ()
    if unknown := [name for name in own if name not in OWN]:
        raise StructureError(f"own_by_size names {unknown}; each size can have its own {' and '.join(OWN)}.")
    if HEAD in own:
        yield part(model, str(family.head))
    if NORM in own:
        blocks = nn.ModuleList(blocks_of(model))
        yield from (layer for layer in blocks.modules() if isinstance(layer, nn.BatchNorm1d))


def read_subnets(saved: Any, family: str, units: Sequence[Mapping[str, int]]) -> dict[str, Structure]:
    """The Structures of the sizes in a config.

    Args:
        saved: what the config has.
        family: name of the model's family.
        units: per block, the number of units of each module.

    Raises:
        StructureError: naming the entry that is malformed.
    """
    subnets = {}
    for name, blocks in _named(saved):
        if not isinstance(blocks, list) or len(blocks) != len(units):
            raise StructureError(
                f"sizes[{name!r}] must be a list with one entry for each of the {len(units)} blocks, "
                f"got {reprlib.repr(blocks)}."
            )
        places = [f"sizes[{name!r}][{index}]" for index in range(len(units))]
        subnets[name] = Structure(family, tuple(map(_read_subnet_block, blocks, units, places)))
    return subnets


def _named(saved: Any) -> Iterator[tuple[str, Any]]:
    names = set()
    for entry in saved if isinstance(saved, list) else [saved]:
        if not isinstance(entry, Mapping) or set(entry) != {"name", "blocks"} or not isinstance(entry["name"], str):
            raise StructureError(f"sizes must be a list of objects with a name and blocks, got {reprlib.repr(entry)}.")
        if entry["name"] in names:
            raise StructureError(f"sizes names {entry['name']!r} twice.")
        names.add(entry["name"])
        yield entry["name"], entry["blocks"]


def _read_subnet_block(saved: Any, units: Mapping[str, int], where: str) -> Block | None:
    if saved is None:
        return None
    if not isinstance(saved, Mapping) or set(saved) - set(MODULES):
        raise StructureError(f"{where} must be null, or an object of {', '.join(MODULES)}, got {reprlib.repr(saved)}.")
    for name, count in saved.items():
        if type(count) is not int or not 0 <= count <= units[name]:
            raise StructureError(f"{where}[{name!r}] must be 0 to {units[name]} units, got {count!r}.")
    return Block(**{name: _first_units(count, units[name]) for name, count in saved.items()})


def _first_units(count: int, units: int) -> Kept:
    return "all" if count == units else tuple(range(count)) or None


def write_subnets(sizes: Mapping[str, Structure], units: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
    """The form in which a config holds sizes that keep first units only; `read_subnets` is its inverse."""
    return [
        {"name": name, "blocks": [_write_subnet_block(*pair) for pair in zip(structure.blocks, units, strict=True)]}
        for name, structure in sizes.items()
    ]


def _write_subnet_block(block: Block | None, units: Mapping[str, int]) -> dict[str, int] | None:
    if block is None:
        return None
    counts = {name: count_kept(kept, units[name]) for name, kept in block.items()}
    return {name: count for name, count in counts.items() if count != units[name]}


def check_subnets(model: PreTrainedModel, sizes: Mapping[str, Structure]) -> None:
    """Checks that a model can run at some sizes.

    Raises:
        StructureError: naming the size that does not fit.
    """
    family, units, fixed = family_of(model), block_units(model), fixed_blocks(model)
    if not family.has_ctc:
        raise StructureError(f"A {family.name} cannot be elastic: only models with a CTC head run at several sizes.")
    for name, structure in sizes.items():
        if not any(structure.blocks):
            raise StructureError(f"Size {name} leaves no block; at least one must run.")
        if structure.front:
            raise StructureError(
                f"Size {name} runs a part of {', '.join(structure.front)} in front of the blocks, which is whole at "
                "every size: remove those channels first (compress apply)."
            )
        if absent := sorted(index for index in fixed if structure.blocks[index] is None):
            raise StructureError(
                f"Size {name} leaves out blocks {absent} of a {family.name}, but they change the frame rate."
            )
        for index, (block, counts) in enumerate(zip(structure.blocks, units, strict=True)):
            if block and block.conv is not None and count_kept(block.conv, counts["conv"]) != counts["conv"]:
                raise StructureError(f"Size {name} runs a part of the conv of block {index}; it runs whole or not.")
    *_, (last, full) = sizes.items()
    if full != Structure.full(family.name, len(units)):
        raise StructureError(f"Size {last} comes last and must be the full one.")


def structure_at(model: PreTrainedModel, size: str) -> Structure:
    """What runs at a size of an elastic model; refers to the model as it is.

    Raises:
        SizeError: if the model has no such size.
    """
    sizes = subnets_of(model)
    if size not in sizes:
        known = f"its sizes are {', '.join(sizes)}" if len(sizes) > 1 else "it is not elastic"
        raise SizeError(f"The model has no size {size}: {known}. Make one that has it: compress elastic --help")
    return sizes[size]
