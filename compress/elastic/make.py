"""Making a model elastic: the same weights, and a config that says what runs at each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from compress.checkpoint import describe, load_model, load_processor, require_new, save
from compress.conformers import block_units, ctc_head, family_of, front_channels, structure_of
from compress.cost import cost_table, size_of
from compress.elastic.rules import ElasticConfig, rule_structures
from compress.model.registration import compressed_config
from compress.model.removal import rebuild
from compress.running.subnets import HEAD, SizeError, check_subnets, write_subnets
from compress.structure import MODULES, Block, Place, Structure, count_kept
from compress.surgery.unit_order import Orders, one_after_other, reorder_, unit_orders, write_orders


def make_elastic(
    model: PreTrainedModel,
    sizes: Mapping[str, Structure],
    own: Sequence[str] = (),
    heads: Mapping[str, nn.Module] | None = None,
) -> PreTrainedModel:
    """Builds the elastic form of a model; the given one stays untouched, and what sizes it had are replaced.

    The units of each module are put into another order, once, so that at every size the first ones run. It changes
    nothing of what the model computes, but Structures of the result, its sizes among them, count units in that order.

    Args:
        model: a CTC model of any family, compressed or not.
        sizes: by name, what runs there, in any order; refers to `model` as it is. The full size is always there: if it
            is not among them, the number of blocks is its name.
        own: of which layers each size gets its own, which begin as copies: `head`: the CTC head; `norm`: the batch
            norms of the blocks, whose statistics differ from size to size (slimmable networks, Yu et al. 2019, arXiv
            1812.08928).
        heads: by size, the CTC head whose weights it gets instead of a copy of the model's; if there are any, each size
            has its own.

    Returns:
        A new model at its full size on the same device, in the same dtype and mode, which shares no memory with the
        given one. It has `sizes`, `size` and `activate`; so has every model that is loaded from what it saves.

    Raises:
        SizeError: if there is no size but the full one, or two sizes keep different units of a module of which neither
            keeps all units of the other.
        StructureError: if a Structure does not fit the model.
    """
    family, units = family_of(model), block_units(model)
    full = Structure.full(family.name, len(units))
    for structure in sizes.values():
        structure.check(family.name, units, front_channels(model))
    if full not in sizes.values():
        if str(len(units)) in sizes:
            raise SizeError(f"Size {len(units)} has the name of the full size, all blocks, but keeps less.")
        sizes = {**sizes, str(len(units)): full}
    ordered = _ordered(model, sizes)
    if len(ordered) < 2:
        raise SizeError("An elastic model needs at least one size below the full one.")
    check_subnets(model, ordered)
    orders = _unit_orders(ordered, units)
    layers = dict.fromkeys((*own, HEAD) if heads else own)
    all_orders = one_after_other(unit_orders(model.config), orders)
    written = {
        "sizes": write_subnets(ordered, units),
        "own_by_size": list(layers) or None,
        "unit_order": write_orders(all_orders, len(units)),
    }
    made = rebuild(model, full, compressed_config(model.config, structure_of(model), written))
    reorder_(made, orders)
    for size, head in (heads or {}).items():
        of_sizes: Any = ctc_head(made).per_size
        of_sizes[list(ordered).index(size)].load_state_dict(head.state_dict())
    return made


def _ordered(model: PreTrainedModel, sizes: Mapping[str, Structure]) -> dict[str, Structure]:
    """The sizes by their number of parameters, the smallest first."""
    table = cost_table(model.config)
    return dict(sorted(sizes.items(), key=lambda entry: table.of(entry[1])))


def _unit_orders(sizes: Mapping[str, Structure], units: Sequence[Mapping[str, int]]) -> Orders:
    """Where units do not stand in the order in which sizes need them: that order.

    Raises:
        SizeError: naming the module, if there is none.
    """
    orders = {}
    for place in (Place(block, module) for block in range(len(units)) for module in range(len(MODULES))):
        count = units[place.block][place.name]
        order = _unit_order(sizes, place, count)
        if order != list(range(count)):
            orders[place] = order
    return orders


def _unit_order(sizes: Mapping[str, Structure], place: Place, units: int) -> list[int]:
    blocks = {size: structure.blocks[place.block] for size, structure in sizes.items()}
    kept = {size: getattr(block, place.name) for size, block in blocks.items() if block}
    order: list[int] = []
    for size, chosen in sorted(kept.items(), key=lambda entry: count_kept(entry[1], units)):
        wanted = set(range(units)) if chosen == "all" else set(chosen or ())
        if absent := set(order) - wanted:
            raise SizeError(
                f"Size {size} lacks units {sorted(absent)[:5]} of {place.name} in block {place.block} that a size with "
                "fewer units of it has. Of every module, a size must keep all units that a smaller one keeps."
            )
        order += sorted(wanted - set(order))
    return order + sorted(set(range(units)) - set(order))


def make_checkpoint(model: str, depths: Sequence[int], rule: str, structures: Sequence[str], out: str) -> None:
    """Writes the elastic form of a checkpoint, in the same dtype.

    Args:
        model: folder or Hub name.
        depths: those whose blocks the rule chooses.
        rule: which blocks run at a depth; one of those that `ElasticConfig` names.
        structures: files with the Structures of other sizes. The name of a size that only drops blocks is its depth;
            that of another one is the name of its file.
        out: folder to write.

    Raises:
        ValueError: if the model cannot run at such a size, or one is given twice.
        CheckpointError: if `out` exists already.
    """
    require_new(out)
    chosen = ElasticConfig(tuple(depths), rule) if depths else None  # type: ignore[arg-type]  # checked by the config
    original, processor = load_model(model, dtype="auto"), load_processor(model)
    sizes = rule_structures(original, chosen) if chosen else {}
    for path in structures:
        structure = Structure.load(path)
        name = name_of(structure, path)
        if name in sizes:
            raise SizeError(f"Size {name} is given twice; the second time by {path}.")
        sizes[name] = structure
    size = size_of(original)
    save(make_elastic(original, sizes), processor, out, describe("elastic", model, size, size))


def name_of(structure: Structure, path: str) -> str:
    """What a size is called whose Structure was read from a file."""
    whole = all(block in (None, Block()) for block in structure.blocks)
    return str(sum(block is not None for block in structure.blocks)) if whole else Path(path).stem
