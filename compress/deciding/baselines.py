"""Baselines: scores that take no learning, for what a user would do instead of learning gates.

They pass through the same decision, removal and distillation as learned scores, so that only the choice differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import FrontGroup, Module, block_units, blocks_of, family_of, front_groups, part, submodule
from compress.deciding.selection import Scores
from compress.structure import IN_FRONT, MODULES, Place
from compress.surgery.slicing import unit_slices


def magnitude(model: PreTrainedModel, *, front: bool = False) -> Scores:
    """Scores each unit by the Euclidean norm of all weights that go with it (its rows and columns).

    Heads, FFN units and convolution channels have weights of different number and size, so the norms of each kind of
    module are divided by their mean over the model: the units of all modules then compete with each other.

    Args:
        model: of any family.
        front: whether channels in front of the blocks get scores, too; each group there is a kind of its own.
    """
    family = family_of(model)
    norms: dict[str, dict[int, list[float]]] = {name: {} for name in MODULES}
    for index, block in enumerate(blocks_of(model)):
        for name, module in family.modules.items():
            branch = submodule(block, module)
            if branch is not None:
                norms[name][index] = _unit_norms(branch, module).tolist()
    units: dict[Place, list[float]] = {}
    for m, name in enumerate(MODULES):
        values = [norm for in_block in norms[name].values() for norm in in_block]
        mean = fmean(values) if values else 1.0
        units.update({Place(index, m): [norm / mean for norm in in_block] for index, in_block in norms[name].items()})
    for number, group in enumerate(front_groups(model) if front else ()):
        of_group = _channel_norms(model, group)
        units[Place(IN_FRONT, number)] = (of_group / of_group.mean()).tolist()
    return Scores(family.name, _may_go(units), units)


def proportional(model: PreTrainedModel, *, front: bool = False) -> Scores:
    """Scores by which every module keeps the same share of its units: the first ones; `front` as above."""
    units = {
        Place(index, m): [1 - unit / counts[name] for unit in range(counts[name])]
        for index, counts in enumerate(block_units(model))
        for m, name in enumerate(MODULES)
        if counts[name]
    }
    for number, group in enumerate(front_groups(model) if front else ()):
        units[Place(IN_FRONT, number)] = [1 - channel / group.channels for channel in range(group.channels)]
    return Scores(family_of(model).name, _may_go(units), units)


def _may_go(units: Mapping[Place, list[float]]) -> dict[Place, float]:
    """Scores of whole modules, all alike; channels in front of the blocks never go all."""
    return {place: 1.0 for place in units if not place.in_front}


@torch.no_grad()
def _channel_norms(model: PreTrainedModel, group: FrontGroup) -> Tensor:
    """`(channels,)`: the norm of each channel's slices of the kernels and matrices around it."""
    total = torch.zeros(group.channels, dtype=torch.float64)
    for path in group.rows:
        weight: Tensor = part(model, path).weight
        if weight.ndim > 1:
            total += weight.double().square().flatten(1).sum(1).cpu()
    columns: Tensor = part(model, group.last).weight.double().square().movedim(1, 0).flatten(1).sum(1).cpu()
    return (total + columns.view(-1, group.size).sum(1)).sqrt()


@torch.no_grad()
def _unit_norms(branch: nn.Module, module: Module) -> Tensor:
    """`(units,)`: the norm of the matrices' and kernels' slices of each unit; biases and norms do not count."""
    total = torch.zeros(())
    for path, dim, places in unit_slices(branch, module):
        weight: Tensor = part(branch, path).weight
        if weight.ndim > 1:
            squares = weight.double().square().movedim(dim, 0).flatten(1).sum(1).cpu()
            total = total + squares[places].sum(1)
    return total.sqrt()
