"""Last projections as matrices: linear layers or pointwise convolutions, with a bias or without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import Attention, block_units, part, structure_of
from compress.curvature.moments import Moments
from compress.curvature.passage import Passage
from compress.structure import Place
from compress.surgery.unit_order import unit_orders


def with_bias(layer: nn.Module) -> Tensor:
    """The weights of a projection, `(outputs, inputs)`, float64, with its bias, if it has one, as the last column."""
    projection: Any = layer
    weight: Tensor = projection.weight.detach().flatten(1).double()
    bias = projection.bias
    return weight if bias is None else torch.cat([weight, bias.detach().double()[:, None]], dim=1)


@torch.no_grad()
def set_with_bias_(layer: nn.Module, weight: Tensor) -> None:
    """Gives a projection weights as `with_bias` has them, in place."""
    projection: Any = layer
    columns = projection.weight.shape[1]
    projection.weight.copy_(weight[:, :columns].view_as(projection.weight))
    if projection.bias is not None:
        projection.bias.copy_(weight[:, columns])


def moments_at(layer: Any, weight: Tensor | None = None) -> Moments:
    """Moments, without a frame as yet, of the inputs of a projection.

    Args:
        layer: the projection; where it has a bias, a constant counts among its inputs.
        weight: its weights as `with_bias` has them, if there are targets.
    """
    constant, place = layer.bias is not None, layer.weight.device
    return Moments(layer.weight.shape[1], constant=constant, device=place, weight=weight)


def inputs_per_unit(passage: Passage, name: str) -> int:
    """How many inputs of a last projection belong to one unit: the size of a head, otherwise one.

    Args:
        passage: at the block in question.
        name: of the module.
    """
    description = passage.family.modules[name]
    return int(part(passage.branch(name), description.head_dim)) if isinstance(description, Attention) else 1


def units_left(small: PreTrainedModel, whole: PreTrainedModel, place: Place) -> list[int]:
    """Which units of a module of a model stand, in order, in what a smaller one has of it.

    Args:
        small: removed from `whole`.
        whole: compressed or not, elastic or not.
        place: of the module in the whole model.
    """
    before, after = structure_of(whole), structure_of(small)
    index = before.survivors[place.block]
    there, kept = (getattr(structure.blocks[index], place.name) for structure in (before, after))
    units = list(range(block_units(whole)[place.block][place.name])) if there == "all" else list(there)
    order = unit_orders(whole.config).get(place)
    in_order = units if order is None else [units[unit] for unit in order]
    return [in_order.index(unit) for unit in (units if kept == "all" else kept)]
