"""What gates put into a model, and where: scales on weights, and norms that leave closed channels out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from compress.conformers import Attention, Convolution, FrontGroup, blocks_of, family_of, part, submodule
from compress.structure import Place


class Scale(nn.Module):
    """Parametrisation of a weight or bias: the product with a scale that is set before every forward pass."""

    value: Tensor | None = None

    def forward(self, tensor: Tensor) -> Tensor:
        """The scaled tensor; as it is while no scale is set."""
        return tensor if self.value is None else tensor * self.value.to(tensor.dtype)


class KeptNorm(nn.Module):
    """Stands for a norm whose statistics run over channels: those whose gates are closed do not count.

    A removed channel does not enter the statistics of the smaller model; this is what makes a closed gate the same.

    Args:
        norm: LayerNorm, `(..., channels)`, or GroupNorm of one group, `(batch, channels, time)`; its parameters are
            shared.
    """

    kept: Tensor | None = None
    """`(channels,)`, 1 where a gate is not closed; None counts all channels."""

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.norm = norm.weight, norm.bias, norm.eps, (norm,)

    def forward(self, hidden: Tensor) -> Tensor:
        """The normed activations, of the shape of the input; those of closed channels mean nothing."""
        if self.kept is None:
            whole: Tensor = functional_call(self.norm[0], dict[str, Tensor](self.named_parameters()), hidden)
            return whole
        over_time = isinstance(self.norm[0], nn.GroupNorm)
        dims, shape = ((1, 2), (-1, 1)) if over_time else ((-1,), (-1,))
        kept, values = self.kept.view(shape), hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        count = self.kept.sum().clamp_min(1.0) * (hidden.shape[-1] if over_time else 1)
        centred = values - (values * kept).sum(dims, keepdim=True) / count
        variance = (centred.square() * kept).sum(dims, keepdim=True) / count
        normed = centred * torch.rsqrt(variance + self.eps) * self.weight.view(shape)
        return (normed if self.bias is None else normed + self.bias.view(shape)).to(hidden.dtype)

    def without(self) -> nn.Module:
        """The norm that it stands for, with the parameters as they are now."""
        (norm,) = self.norm
        norm.weight, norm.bias = self.weight, self.bias
        return norm


def runs_over_channels(norm: nn.Module) -> bool:
    """Whether the statistics of a norm run over channels, so that those which are gone must not count."""
    return isinstance(norm, nn.LayerNorm) or (isinstance(norm, nn.GroupNorm) and norm.num_groups == 1)


@dataclass(frozen=True)
class Site:
    """Where the gates of a module, or of a group of channels in front of the blocks, act in a model.

    Attributes:
        owner: the module, or the model.
        last: path of the last projection, or of the layer that mixes the channels.
        norms: paths of norms whose statistics run over the units.
        size: inputs of `last` for each unit.
    """

    owner: nn.Module
    last: str
    norms: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, model: PreTrainedModel, place: Place, front: FrontGroup | None = None) -> Site:
        """The site of a module that has not been removed, or of a group in front of the blocks."""
        if front is not None:
            norms = tuple(path for path in front.rows if runs_over_channels(part(model, path)))
            return cls(model, front.last, norms, front.size)
        description = family_of(model).modules[place.name]
        branch = submodule(blocks_of(model)[place.block], description)
        assert branch is not None, "removed modules have no gates"
        inner = description.inner_norm if isinstance(description, Convolution) else None
        norms = (inner,) if inner and runs_over_channels(part(branch, inner)) else ()
        size = int(part(branch, description.head_dim)) if isinstance(description, Attention) else 1
        return cls(branch, description.last, norms, size)

    @property
    def projection(self) -> Any:
        """The layer on whose input gates act."""
        return part(self.owner, self.last)

    @property
    def shape(self) -> ColumnShape:
        """What values of units have to become to multiply its weight."""
        return ColumnShape(self.size, self.projection.weight.ndim)


class ColumnShape(NamedTuple):
    """How values of units become what multiplies the weight that reads them.

    Attributes:
        size: inputs for each unit.
        dimensions: of the weight: 2 for a matrix, more for a kernel.
    """

    size: int
    dimensions: int

    def columns(self, units: Tensor) -> Tensor:
        """Values of units, `(units,)`, in the shape that multiplies the weight, `(outputs, inputs, ...)`."""
        values = units.repeat_interleave(self.size) if self.size > 1 else units
        return values.view(-1, *[1] * (self.dimensions - 2))
