"""Running statistics of batch norms, which a removal before them leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.conformers import part
from compress.curvature.moments import Total
from compress.curvature.passage import Passage


@torch.no_grad()
def renew_statistics_(small: Passage, whole: Passage, kept: Sequence[int], total: Total) -> None:
    """Moves the running statistics of a block as those of this speech move from the whole model to the smaller one.

    They were gathered on other speech, perhaps augmented: so it is the change that counts, and where nothing was
    removed nothing changes.

    Args:
        small: the smaller model, at the block; it is changed in place.
        whole: the whole model, at the same block.
        kept: which channels of the whole model the smaller one has, in order.
        total: over the processes.
    """
    norm, norm_before = inner_norm(small), inner_norm(whole)
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_mean is None or norm.running_var is None:
        return
    mean, variance = _statistics(small, norm, total)
    mean_before, variance_before = _statistics(whole, norm_before, total)
    channels = torch.tensor(kept, device=mean.device)
    norm.running_mean += mean - mean_before[channels]
    norm.running_var *= (variance + norm.eps) / (variance_before[channels] + norm.eps)


def inner_norm(passage: Passage) -> nn.Module:
    """The norm inside the convolution module of the next block."""
    norm: Any = part(passage.branch("conv"), passage.family.conv.inner_norm)
    assert isinstance(norm, nn.Module)
    return norm


def _statistics(passage: Passage, norm: nn.Module, total: Total) -> tuple[Tensor, Tensor]:
    """Mean and variance `(channels,)` of what a norm is given."""
    sums: list[Tensor] = []

    def look(before: Tensor, after: Tensor) -> None:
        rows = before.double()
        of_batch = torch.stack([torch.ones_like(rows).sum(0), rows.sum(0), rows.square().sum(0)])
        sums[:] = [sums[0] + of_batch] if sums else [of_batch]

    with passage.seen("conv", norm, look):
        passage.run(until="conv")
    frames, first, second = total(sums[0])
    mean = first / frames
    return mean, (second / frames - mean.square()).clamp_min(0.0)
