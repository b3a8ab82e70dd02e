"""What gates put into a model: scales on weights, and norms that leave closed channels out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
            whole: Tensor = self.norm[0](hidden)
            return whole
        over_time = isinstance(self.norm[0], nn.GroupNorm)
        dims, shape = ((1, 2), (-1, 1)) if over_time else ((-1,), (-1,))
        kept, values = self.kept.view(shape), hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        count = self.kept.sum().clamp_min(1.0) * (hidden.shape[-1] if over_time else 1)
        centred = values - (values * kept).sum(dims, keepdim=True) / count
        variance = (centred.square() * kept).sum(dims, keepdim=True) / count
        normed = centred * torch.rsqrt(variance + self.eps) * self.weight.view(shape)
        return (normed if self.bias is None else normed + self.bias.view(shape)).to(hidden.dtype)
