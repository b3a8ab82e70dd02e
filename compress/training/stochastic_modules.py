"""Stochastic depth of single modules: in training each utterance does without them now and then.

Xu et al. 2024 (arXiv 2407.18930) for those modules of a supernet that its smallest size lacks; Huang et al. 2016 (arXiv
1603.09382) for whole layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, submodule
from compress.student import Noise
from compress.training import processes

SEEDS = 1 << 48
"""How many seeds there are for a forward pass."""


class StochasticModules:
    """Leaves modules out with a probability, for each utterance by itself, and scales them by 1 / (1 - p) otherwise.

    A module that is left out is multiplied by 0, so it gets a gradient, of 0. In evaluation nothing is left out.

    The noise of a forward pass follows from one number, which is drawn alike on every process, and from the number of
    the process, whose utterances are its own.

    Args:
        model: its modules get hooks.
        places: block and name of each module that may be left out.
        rate: the probability, at least 0 and below 1.
        noise: where the numbers come from; part of a run's checkpoints.
    """

    def __init__(self, model: PreTrainedModel, places: Iterable[tuple[int, str]], rate: float, noise: Noise) -> None:
        self.rate, self.noise, self._generator = rate, noise, torch.Generator()
        family, blocks = family_of(model), blocks_of(model)
        self.places = [
            (block, name) for block, name in places if rate and submodule(blocks[block], family.modules[name])
        ]
        for block, name in self.places:
            found = submodule(blocks[block], family.modules[name])
            assert found is not None
            found.register_forward_hook(self._hook(batch_dim=1 if name in family.frames_first else 0))

    def draw(self) -> None:
        """Prepares the noise of the next forward pass; call it before every pass in training."""
        if self.places:
            seed = int(torch.randint(SEEDS, (), generator=self.noise.generator))
            self._generator.manual_seed(seed + processes.rank())

    def _hook(self, batch_dim: int) -> Any:
        def scale(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not module.training:
                return output
            if isinstance(output, tuple):
                return (self._scaled(output[0], batch_dim), *output[1:])
            return self._scaled(output, batch_dim)

        return scale

    def _scaled(self, output: Tensor, batch_dim: int) -> Tensor:
        shape = [1] * output.ndim
        shape[batch_dim] = output.shape[batch_dim]
        stays = torch.rand(shape, generator=self._generator) >= self.rate
        return output * (stays / (1 - self.rate)).to(output)
