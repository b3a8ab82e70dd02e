"""Stochastic depth: in training whole blocks are left out at random, so that the model learns to do without them.

Huang et al. 2016 (arXiv 1603.09382) for Conformers as in ESPnet (`stochastic_depth_rate`), which Lee, Kang and Watanabe
2021 (arXiv 2106.09216) use for layer pruning on demand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.config import check
from compress.conformers import family_of, fixed_blocks, submodule
from compress.running.slimmable import make_skippable
from compress.training.loop.noise import Noise


class StochasticDepth:
    """Drops block b of L, from 0, with probability `p = rate * (b + 1) / L` in every training batch.

    The four branches of a block that runs in training are scaled by 1 / (1 - p), so that the expected branch is the
    branch itself. A dropped block is left out as a whole, its final norm too, and its weights get no gradient. Blocks
    that change the frame rate are never dropped.

    The random numbers, one per block and batch, come from `noise`, which draws alike on every process, so that all of
    them leave out the same blocks.

    Args:
        model: a CTC model, whose blocks are made skippable in place; at a rate of 0 it is left alone.
        rate: at least 0 and below 1: the probability of the last block.
        seed: of the noise.

    Raises:
        ValueError: if the rate is none.
    """

    def __init__(self, model: PreTrainedModel, rate: float, seed: int) -> None:
        check_rate(rate)
        self.noise = Noise(seed, "stochastic depth")
        self._blocks = make_skippable(model) if rate else []
        fixed, total = fixed_blocks(model), len(self._blocks)
        self.probabilities = [0.0 if index in fixed else rate * (index + 1) / total for index in range(total)]
        for block, probability in zip(self._blocks, self.probabilities, strict=True):
            for module in family_of(model).modules.values():
                branch = submodule(block, module)
                if branch is not None:
                    branch.register_forward_hook(_scaling(1 / (1 - probability)))

    def draw(self) -> None:
        """Draws which blocks the next forward pass leaves out; call it before every pass in training."""
        if self._blocks:
            numbers = torch.rand(len(self._blocks), generator=self.noise.generator).tolist()
            for block, number, probability in zip(self._blocks, numbers, self.probabilities, strict=True):
                block.dropped = number < probability


def check_rate(rate: float) -> None:
    """Refuses a rate that is no probability below 1.

    Raises:
        ValueError: naming the key.
    """
    remedy = "give the probability to drop the last block, from 0 to below 1"
    check(0 <= rate < 1, "stochastic_depth", rate, remedy)


def _scaling(factor: float) -> Any:
    """A forward hook that multiplies a branch's output in training; attention weights beside it stay."""

    def scale(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not module.training:
            return output
        return (_scaled(output[0], factor), *output[1:]) if isinstance(output, tuple) else _scaled(output, factor)

    return scale


def _scaled(output: Tensor, factor: float) -> Tensor:
    return output * factor
