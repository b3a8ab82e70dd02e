"""Channels in front of the blocks that go together: what a family's description names there, layer by layer.

The outputs of a layer that mixes its inputs (a linear layer, a convolution that is not depthwise) are one group with
everything behind it that treats them one by one (depthwise convolutions, norms), up to the next layer that mixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from compress.conformers.parts import family_of, part


class FrontGroup(NamedTuple):
    """A group of channels in front of the blocks.

    Attributes:
        name: such as `conv0`: the kind of the layer that gives them, and the number of the group.
        rows: paths of the layers whose outputs they are, in running order.
        last: path of the layer that mixes them, on whose input gates act.
        channels: how many there are.
        size: inputs of `last` for each channel: where it is given all bins of the frequency at once, their number.
    """

    name: str
    rows: tuple[str, ...]
    last: str
    channels: int
    size: int


def front_groups(model: PreTrainedModel) -> list[FrontGroup]:
    """The groups of channels in front of a model's blocks, in running order; none where its family has no such front.

    Args:
        model: of any family, compressed or not, without gates.
    """
    groups: list[FrontGroup] = []
    rows: list[str] = []
    for path, layer in _front_layers(model):
        if rows and _mixes(layer):
            first = part(model, rows[0])
            channels, inputs = first.weight.shape[0], layer.weight.shape[1]
            kind = "linear" if isinstance(first, nn.Linear) else "conv"
            groups.append(FrontGroup(f"{kind}{len(groups)}", tuple(rows), path, channels, inputs // channels))
            rows = []
        rows.append(path)
    return groups


def front_channels(model: PreTrainedModel) -> dict[str, int]:
    """How many channels each of the groups in front of a model's blocks has, by name."""
    return {group.name: group.channels for group in front_groups(model)}


def _front_layers(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    for root in family_of(model).front:
        for name, layer in part(model, root).named_modules(prefix=root):
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.LayerNorm | nn.GroupNorm):
                yield name, layer


def _mixes(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1)
