"""Intermediate CTC: the CTC loss also of inner blocks' outputs, so that a model cut short there still says something.

Lee and Watanabe 2021 (arXiv 2102.03216); with stochastic depth it makes layer pruning on demand possible (Lee, Kang and
Watanabe 2021, arXiv 2106.09216).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.config import check
from compress.conformers import blocks_of, ctc_head, fixed_blocks, head_logits
from compress.conformers.recording import BlockOutputs
from compress.running.slimmable import own_layer
from compress.running.subnets import subnets_of
from compress.structure import Structure

TAP_DISTANCE = 3
"""A new model is tapped behind every third block (the LibriSpeech config of ESPnet)."""


@dataclass(frozen=True)
class InterCtcConfig:
    """Where the intermediate losses are taken and what they weigh. The last block's own loss is always there.

    The defaults depend on where the run starts. A new model gets every third block and a weight of 0.5, as in ESPnet's
    LibriSpeech config with 18 blocks; a checkpoint is disturbed less: blocks at a third, half and two thirds, and 0.3.

    Attributes:
        blocks: numbers of the tapped blocks, counted from 0 among those that the model has; null: as said above.
        weight: share w of the mean intermediate loss: (1 - w) last + w mean(intermediate); null: as said above.
        heads: `shared`: the model's own CTC head, behind whatever stands before it, as a model cut short there would
            use it; `separate`: a head for each block, which begins as a copy of the model's. Of the models that
            the run leaves, elastic ones have it at sizes that end in this block, or in one nearest to it.
    """

    blocks: tuple[int, ...] | None = None
    weight: float | None = None
    heads: Literal["shared", "separate"] = "shared"

    def __post_init__(self) -> None:
        within = self.weight is None or 0 < self.weight < 1
        check(within, "inter_ctc.weight", self.weight, "give a number above 0 and below 1, or null for the usual one")
        named = self.blocks is None or len(self.blocks) == len(set(self.blocks)) > 0
        check(named, "inter_ctc.blocks", self.blocks and list(self.blocks), "name blocks, each once")


class InterCtc(nn.Module):
    """The taps of a model in training, and their heads if they have their own.

    Args:
        model: a CTC model.
        config: what to tap.
        new: whether its weights are new; chooses the defaults.

    Raises:
        ValueError: naming a block that cannot be tapped, and those that can.
        UnsupportedModelError: if the outputs of its blocks cannot be led to its head.
    """

    def __init__(self, model: PreTrainedModel, config: InterCtcConfig, *, new: bool) -> None:
        super().__init__()
        head, possible = ctc_head(model), tappable(model)
        self.weight = config.weight or (0.5 if new else 0.3)
        self.blocks = sorted(config.blocks or _default_blocks(len(blocks_of(model)), possible, new=new))
        if wrong := [block for block in self.blocks if block not in possible]:
            raise ValueError(
                f"inter_ctc.blocks names {wrong}, but of this model blocks {possible.start} to {possible.stop - 1} can "
                "be tapped: those behind the last change of the frame rate, without the last block."
            )
        begin = _places_by_last_block(model)
        self.heads = nn.ModuleList(
            own_layer(head, begin.get(block)) for block in self.blocks if config.heads == "separate"
        )
        self._outputs = BlockOutputs(model, self.blocks)

    def forward(self, model: PreTrainedModel) -> list[Tensor]:
        """The logits of the tapped blocks in the model's last forward pass, each `(batch, frames, vocabulary)`."""
        outputs = self._outputs.take()
        heads: Sequence[nn.Module | None] = list(self.heads) or [None] * len(self.blocks)
        return [head_logits(model, outputs[block], head) for block, head in zip(self.blocks, heads, strict=True)]

    def heads_of(self, sizes: Mapping[str, Structure]) -> dict[str, nn.Module]:
        """For sizes that end in an inner block, by name: the nearest head, where tapped blocks have their own."""
        own = dict(zip(self.blocks, self.heads, strict=False))
        ends = {name: _last_block(size) for name, size in sizes.items() if own and size.blocks[-1] is None}
        return {name: own[min(own, key=lambda block: abs(block - last))] for name, last in ends.items()}

    def combined(self, last: Tensor, intermediate: Tensor) -> Tensor:
        """The loss of the last block and the mean intermediate one, weighted."""
        return (1 - self.weight) * last + self.weight * intermediate


def tappable(model: PreTrainedModel) -> range:
    """The blocks whose outputs have the final frame rate, without the last."""
    return range(max(fixed_blocks(model), default=0), len(blocks_of(model)) - 1)


def _places_by_last_block(model: PreTrainedModel) -> dict[int, int]:
    """The places of an elastic model's sizes, the smallest first, by the last block that runs there."""
    return {_last_block(size): place for place, size in enumerate(subnets_of(model).values())}


def _last_block(structure: Structure) -> int:
    return max(index for index, block in enumerate(structure.blocks) if block is not None)


def _default_blocks(total: int, possible: range, *, new: bool) -> list[int]:
    """The blocks that `InterCtcConfig` promises where it names none, as many of them as can be tapped.

    Raises:
        ValueError: if none can.
    """
    counts = range(TAP_DISTANCE, total, TAP_DISTANCE) if new else (total // 3, total // 2, 2 * total // 3)
    chosen = sorted({count - 1 for count in counts} & set(possible))
    if not chosen and not possible:
        raise ValueError(f"A model of {total} block(s) has none that intermediate CTC could tap; leave inter_ctc out.")
    return chosen or [possible[len(possible) // 2]]


def mean_loss(losses: Sequence[Tensor]) -> Tensor:
    """The mean of scalars."""
    return torch.stack(list(losses)).mean()
