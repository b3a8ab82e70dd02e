"""Slicing: what a Structure does to the tensors of a model, in place.

Which tensor is sliced where is told by the family's description; how a tensor is sliced is written here, once, for
removing parts of a model and for shaping the skeleton (on the meta device) into which a compressed checkpoint is
loaded. The rules are those under which a closed gate and a removed part are the same function (see
`compress.deciding.gates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import (
    Attention,
    Family,
    FeedForward,
    Module,
    block_units,
    blocks_of,
    family_of,
    fixed_blocks,
    front_channels,
    front_groups,
    numbered_blocks,
    part,
    submodule,
)
from compress.structure import Block, Structure, StructureError


class Absent(nn.Module):
    """Stands where a module was removed and adds nothing to the residual stream."""

    is_absent = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """A zero, `(1, 1, 1)`, whatever it is given."""
        return nothing(*args, **kwargs)


def nothing(*args: Any, **kwargs: Any) -> Tensor:
    """A zero, `(1, 1, 1)`, in the dtype of the first tensor given, whatever else a module that is gone used to take."""
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)).new_zeros(1, 1, 1)


class AbsentAttention(Absent):
    """An absent attention module; like the original it returns `(output, attention weights)`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """A zero, `(1, 1, 1)`, and no attention weights."""
        return super().forward(*args, **kwargs), None


class AbsentBlock(nn.Module):
    """Stands where a block was dropped from an encoder that counts its blocks, and changes nothing."""

    is_absent = True

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The hidden states as they came."""
        return hidden_states


class ConfigView:
    """A module's view of the model's config in which some values are its own; everything else stays shared and live."""

    def __init__(self, shared: Any, **own: Any) -> None:
        self.__dict__.update(own, _shared=shared)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_shared" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


def shrink_(model: PreTrainedModel, structure: Structure) -> None:
    """Removes parts of a model in place, on any device, the meta device included. Sliced tensors are new ones.

    Raises:
        StructureError: if the structure does not fit the model.
    """
    family = family_of(model)
    structure.check(family.name, block_units(model), front_channels(model))
    for index in fixed_blocks(model):
        if structure.blocks[index] is None:
            raise StructureError(
                f"blocks[{index}] of a {family.name} changes the frame rate and cannot be dropped; "
                "keep it, and set its modules to null instead."
            )
    for (position, block), what in zip(numbered_blocks(model).items(), structure.blocks, strict=True):
        if what:
            _shrink_block(family, block, what)
        else:
            part(model, family.blocks)[position] = AbsentBlock()
    _shrink_front(model, structure)
    if not family.numbered_blocks:
        place_blocks_(model, range(len(blocks_of(model))))
    renumber_caches(family, model)
    drop_dead_(model)


def place_blocks_(model: PreTrainedModel, positions: Iterable[int]) -> None:
    """Numbers the blocks that are left anew, in place; placeholders stand at the positions between them."""
    by_position = dict(zip(positions, blocks_of(model), strict=True))
    blocks = [by_position.get(position, AbsentBlock()) for position in range(max(by_position) + 1)]
    assign(model, family_of(model).blocks, nn.ModuleList(blocks))


def renumber_caches(family: Family, model: PreTrainedModel) -> None:
    """Numbers what attention is left from 0 on without gaps: a cache's length is read where number 0 writes."""
    name = family.attention.cache_number
    modules = (submodule(block, family.attention) for block in blocks_of(model)) if name else ()
    for number, attention in enumerate(module for module in modules if module is not None):
        setattr(attention, str(name), number)


def drop_dead_(model: PreTrainedModel) -> None:
    """Deletes the parts that no forward pass uses, in place."""
    for path in family_of(model).dead:
        owner, _, name = path.rpartition(".")
        if hasattr(part(model, owner), name):
            delattr(part(model, owner), name)


def _shrink_front(model: PreTrainedModel, structure: Structure) -> None:
    for group in front_groups(model):
        kept = structure.of_front(group.name)
        if isinstance(kept, tuple):
            for path in group.rows:
                keep_rows_(part(model, path), kept)
            columns = [channel * group.size + place for channel in kept for place in range(group.size)]
            keep_columns_(part(model, group.last), columns)


def _shrink_block(family: Family, block: nn.Module, what: Block) -> None:
    for name, kept in what.items():
        description = family.modules[name]
        module = part(block, description.path)
        if isinstance(module, Absent):
            continue
        if kept is None:
            _remove_module(block, description)
        elif kept != "all":
            _slice(module, description, kept)


def _remove_module(block: nn.Module, description: Module) -> None:
    if not description.norm.startswith(description.path + "."):
        assign(block, description.norm, nn.Identity())
    returns_weights = isinstance(description, Attention) and description.returns_weights
    assign(block, description.path, AbsentAttention() if returns_weights else Absent())


def unit_slices(
    module: nn.Module, description: Module, units: Sequence[int] | None = None
) -> Iterator[tuple[str, int, Tensor]]:
    """Where the units of a module lie in its layers.

    Args:
        module: the module itself.
        description: its description.
        units: some of its units; all if None.

    Yields:
        `(layer, dim, places)`: the layer's path in the module; 0 for its outputs (rows), 1 for its inputs (columns);
        and `(units, places per unit)`, int64, the rows or columns of each unit.
    """
    size = int(part(module, description.head_dim)) if isinstance(description, Attention) else 1
    count = part(module, description.last).weight.shape[1] // size
    chosen = torch.tensor(range(count) if units is None else units, device="cpu")[:, None]
    if isinstance(description, FeedForward):
        yield from ((description.up, 0, chosen), (description.down, 1, chosen))
    elif isinstance(description, Attention):
        rows = chosen * size + torch.arange(size, device="cpu")
        for name in (description.query, description.key, description.value, description.position):
            if name and hasattr(module, name) and not (name == description.key == description.value):
                yield name, 0, rows
        if description.key == description.value:
            yield description.key, 0, torch.cat([rows, count * size + rows], dim=1)
        yield description.out, 1, rows
    else:
        yield description.glu, 0, torch.cat([chosen, count + chosen], dim=1)
        yield from (
            (description.depthwise, 0, chosen),
            (description.inner_norm, 0, chosen),
            (description.out, 1, chosen),
        )


def _slice(module: nn.Module, description: Module, kept: tuple[int, ...]) -> None:
    take_units_(module, description, kept)
    if isinstance(description, Attention):
        _count_heads(module, description, len(kept))


def take_units_(module: nn.Module, description: Module, units: Sequence[int]) -> None:
    """Takes some units of a module in the given order, in place; of attention, the number of heads is set elsewhere."""
    for path, dim, places in list(unit_slices(module, description, units)):
        (keep_columns_ if dim else keep_rows_)(part(module, path), _in_order(places))
    for name in description.per_head if isinstance(description, Attention) else ():
        if hasattr(module, name):
            assign(module, name, _taken(part(module, name), 0, units))


def _in_order(places: Tensor) -> list[int]:
    """The rows or columns of units: unit by unit in each run of places that every unit has, run after run."""
    gaps = (torch.nonzero(places[0].diff() != 1).flatten() + 1).tolist()
    return [place for run in places.tensor_split(gaps, dim=1) for place in run.flatten().tolist()]


def _count_heads(module: nn.Module, description: Attention, count: int) -> None:
    if description.head_count:
        shared = vars(module.config).get("_shared", module.config)
        assign(module, "config", ConfigView(shared, **{description.head_count: count}))
    if description.own_head_count:
        assign(module, description.own_head_count, count)


def keep_rows_(layer: nn.Module, rows: Iterable[int]) -> None:
    """Keeps only some outputs of a linear, convolution or norm layer, in place (grouped: depthwise only)."""
    index = list(rows)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(layer, name, None) is not None:
            setattr(layer, name, _taken(getattr(layer, name), 0, index))
    _set_outputs_(layer, len(index))


def _set_outputs_(layer: nn.Module, outputs: int) -> None:
    """Says in a layer's attributes how many outputs it has."""
    if isinstance(layer, nn.Linear):
        layer.out_features = outputs
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        layer.out_channels = outputs
        if layer.groups > 1:
            layer.in_channels = layer.groups = outputs
    elif isinstance(layer, nn.BatchNorm1d):
        layer.num_features = outputs
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (outputs,)
    elif isinstance(layer, nn.GroupNorm) and layer.num_groups in (1, layer.num_channels):
        layer.num_groups = outputs if layer.num_groups > 1 else 1
        layer.num_channels = outputs
    else:
        known = "Linear, Conv1d, Conv2d, BatchNorm1d, LayerNorm, GroupNorm of one group or of a group for each channel"
        raise TypeError(f"Cannot keep some outputs of a {type(layer).__name__}; known: {known}.")


def keep_columns_(layer: nn.Module, columns: Iterable[int]) -> None:
    """Keeps only some inputs of a linear or convolution layer that mixes them, in place; the bias stays."""
    index = list(columns)
    if isinstance(layer, nn.Linear):
        layer.in_features = len(index)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        layer.in_channels = len(index)
    else:
        raise TypeError(f"Cannot keep some inputs of a {type(layer).__name__}; known: Linear, Conv1d, Conv2d.")
    layer.weight = _taken(layer.weight, 1, index)


def _taken(tensor: Any, dim: int, index: Iterable[int]) -> Any:
    """The chosen slices as a new tensor; a parameter stays a parameter."""
    chosen = tensor.detach().index_select(dim, torch.tensor(list(index), device=tensor.device))
    return nn.Parameter(chosen, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else chosen


def assign(root: Any, path: str, value: Any) -> None:
    """Sets the attribute at a dotted path."""
    owner, _, name = path.rpartition(".")
    setattr(part(root, owner), name, value)
