"""Running statistics of batch norms, which a removal before them leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.conformers import part
from compress.curvature.moments import Total
from compress.curvature.passage import Passage


class Statistics:
    """Sums over frames of what a norm is given, and of its squares, by channel, in double precision."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def look(self, before: Tensor, after: Tensor) -> None:
        """Adds frames, `(frames, channels)`; what the norm makes of them plays no part."""
        rows = before.double()
        sums = torch.stack([torch.ones_like(rows).sum(0), rows.sum(0), rows.square().sum(0)])
        self._sums = sums if self._sums is None else self._sums + sums

    def mean_and_variance(self, total: Total) -> tuple[Tensor, Tensor]:
        """Mean and variance, `(channels,)`, over all processes."""
        assert self._sums is not None
        frames, first, second = total(self._sums)
        mean = first / frames
        return mean, (second / frames - mean.square()).clamp_min(0.0)


def running_norm(passage: Passage) -> nn.BatchNorm1d | None:
    """The batch norm inside the convolution module of the next block, if there is one with running statistics."""
    branch = passage.branch("conv")
    norm: Any = None if branch is None else part(branch, passage.family.conv.inner_norm)
    return norm if isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None else None


@torch.no_grad()
def renew_statistics_(small: Passage, whole: Statistics, kept: Sequence[int], total: Total) -> None:
    """Moves the running statistics of a block as those of this speech move from the whole model to the smaller one.

    They were gathered on other speech, perhaps augmented: so it is the change that counts, and where nothing was
    removed nothing changes.

    Args:
        small: the smaller model, at the block; it is changed in place.
        whole: what the norm is given in the whole model.
        kept: which channels of the whole model the smaller one has, in order.
        total: over the processes.
    """
    norm, seen = running_norm(small), Statistics()
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return
    with small.seen("conv", norm, seen.look):
        small.run(until="conv")
    (mean, variance), (mean_before, variance_before) = (of.mean_and_variance(total) for of in (seen, whole))
    channels = torch.tensor(kept, device=mean.device)
    norm.running_mean += mean - mean_before[channels]
    norm.running_var *= (variance + norm.eps) / (variance_before[channels] + norm.eps)
