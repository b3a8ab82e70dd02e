"""Stochastic depth within blocks: in training each utterance does without a module, or a part of it, now and then.

Xu et al. 2024 (arXiv 2407.18930) for what the smallest size of a supernet lacks; Huang et al. 2016 (arXiv 1603.09382)
for whole layers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import block_units, blocks_of, family_of, part, submodule
from compress.structure import MODULES, Place, Structure, count_kept
from compress.training.loop import processes

SEEDS = 1 << 48
"""How many seeds there are for a forward pass."""


class StochasticModules:
    """Leaves units out with a probability, for each utterance and module by itself.

    Otherwise they are scaled by 1 / (1 - p). What is left out is multiplied by 0, so it gets a gradient, of 0. In
    evaluation nothing is left out.

    Args:
        model: its modules get hooks.
        always: by the place of a module, how many of its first units always run; 0: the module may be left out as
            a whole, with its bias.
        rate: the probability, at least 0 and below 1.
    """

    def __init__(self, model: PreTrainedModel, always: Mapping[Place, int], rate: float) -> None:
        self.always, self.rate = dict(always) if rate else {}, rate
        self._seed: int | None = 0
        self._generator = torch.Generator()
        family, blocks, units = family_of(model), blocks_of(model), block_units(model)
        for number, (place, count) in enumerate(self.always.items()):
            description, batch_dim = family.modules[place.name], int(place.name in family.frames_first)
            module = submodule(blocks[place.block], description)
            assert module is not None, "a removed module is never left out"
            if count:
                last: Any = part(module, description.last)
                columns = count * (last.in_features // units[place.block][place.name])
                last.register_forward_pre_hook(self._before_last(columns, batch_dim, number))
            else:
                module.register_forward_hook(self._after(batch_dim, number))

    def start(self, seed: int | None) -> None:
        """Call before every pass in training.

        Args:
            seed: below `SEEDS`, alike on every process; that of the noise follows from it and from the number of the
                process, whose utterances are its own. None: nothing is left out of this pass.
        """
        self._seed = None if seed is None else seed + processes.rank()

    def _before_last(self, columns: int, batch_dim: int, number: int) -> Any:
        def scale(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if not module.training:
                return None
            stay, others = inputs[0][..., :columns], inputs[0][..., columns:]
            return (torch.cat([stay, self._scaled(others, batch_dim, number)], dim=-1), *inputs[1:])

        return scale

    def _after(self, batch_dim: int, number: int) -> Any:
        def scale(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not module.training:
                return output
            if isinstance(output, tuple):
                return (self._scaled(output[0], batch_dim, number), *output[1:])
            return self._scaled(output, batch_dim, number)

        return scale

    def _scaled(self, output: Tensor, batch_dim: int, number: int) -> Tensor:
        """The noise follows from the pass and the module's number, so that a block can be computed again."""
        if self._seed is None:
            return output
        self._generator.manual_seed(zlib.crc32(f"{self._seed} {number}".encode()))  # of a seed 32 bits count
        shape = [1] * output.ndim
        shape[batch_dim] = output.shape[batch_dim]
        stays = torch.rand(shape, generator=self._generator) >= self.rate
        return output * (stays / (1 - self.rate)).to(output)


def lacking(model: PreTrainedModel, structure: Structure) -> dict[Place, int]:
    """The modules of which a Structure of an elastic model keeps less than all, and how many units it keeps there."""
    kept_there = {}
    for index, (block, units) in enumerate(zip(structure.blocks, block_units(model), strict=True)):
        for name in MODULES:
            kept = count_kept(getattr(block, name), units[name]) if block else 0
            if kept < units[name]:
                kept_there[Place.of(index, name)] = kept
    return kept_there
