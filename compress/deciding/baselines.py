"""Baselines: scores that take no learning, for what a user would do instead of learning gates.

They pass through the same decision, removal and distillation as learned scores, so that only the choice differs.
"""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import Module, block_units, blocks_of, family_of, part, submodule
from compress.deciding.selection import Scores
from compress.structure import MODULES, Place
from compress.surgery.slicing import unit_slices


def magnitude(model: PreTrainedModel) -> Scores:
    """Scores each unit by the Euclidean norm of all weights that go with it (its rows and columns).

    Heads, FFN units and convolution channels have weights of different number and size, so the norms of each kind of
    module are divided by their mean over the model: the units of all modules then compete with each other.
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
    return Scores(family.name, dict.fromkeys(units, 1.0), units)


def proportional(model: PreTrainedModel) -> Scores:
    """Scores by which every module keeps the same share of its units: the first ones."""
    units = {
        Place(index, m): [1 - unit / counts[name] for unit in range(counts[name])]
        for index, counts in enumerate(block_units(model))
        for m, name in enumerate(MODULES)
        if counts[name]
    }
    return Scores(family_of(model).name, dict.fromkeys(units, 1.0), units)


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
