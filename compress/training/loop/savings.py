"""Less memory or more speed for the same steps: blocks computed twice, and blocks compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from compress.conformers import blocks_of

TAPS = 9
"""Kernels of depthwise convolutions up to which sums of shifted inputs have been found faster than the library's."""

FORMS = 8
"""Compiled forms of a block at most: of student and teacher, with and without gradients, in both modes."""


@contextmanager
def recomputed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Inside, of a forward pass only what goes into blocks is kept; the backward pass computes blocks again.

    A block's own forward is wrapped for the time being. Hooks on blocks, which record outputs and gather frames, run
    once; what is inside a block runs twice, with the same dropout.

    Args:
        model: in training; without gradients nothing changes.
        wanted: otherwise nothing changes, either.
    """
    blocks: list[Any] = list(blocks_of(model)) if wanted and torch.is_grad_enabled() else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


class Pointwise(nn.Conv1d):
    """A convolution of kernel size 1 as what it is: a matrix product over channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps `(batch, channels, time)` to `(batch, channels, time)`."""
        return F.linear(input.transpose(1, 2), self.weight.squeeze(-1), self.bias).transpose(1, 2)


class Depthwise(nn.Conv1d):
    """A depthwise convolution as a sum of shifted inputs, which a compiler fuses with what stands around it."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps `(batch, channels, time)` to the same shape."""
        (taps,), time = self.kernel_size, input.shape[-1]
        weight, padded = self.weight.to(input.dtype), F.pad(input, (taps // 2, taps // 2))
        shifted = [padded[..., tap : tap + time] * weight[:, :, tap] for tap in range(taps)]
        summed = sum(shifted[1:], shifted[0])
        return summed if self.bias is None else summed + self.bias.to(input.dtype)[:, None]


def make_fusible(model: PreTrainedModel, wanted: bool) -> None:
    """Lets convolutions in blocks be computed by operations that a compiler fuses, in place; results stay the same.

    To be called before gates are put on a model, whose projections then have classes of their own.

    Args:
        model: its copies have the same.
        wanted: otherwise nothing is done.
    """
    layers = [layer for block in blocks_of(model) for layer in block.modules() if type(layer) is nn.Conv1d]
    for layer in layers if wanted else ():
        layer.__class__ = _fusible(layer)


def compile_blocks(wanted: bool, *models: PreTrainedModel, backend: str = "inductor") -> None:
    """Compiles the blocks of models, in place, for batches of any size.

    All blocks share the code of their class, of which torch keeps a limited number of compiled forms; those of a
    smaller model differ from each other, and each has one with gradients and one without, in training and in eval mode.

    Args:
        wanted: otherwise nothing is done.
        *models: in training or not.
        backend: of `torch.compile`.
    """
    if not wanted:
        return
    from torch._dynamo import config as limits  # which takes a second to import

    for model in models:
        make_fusible(model, wanted)
        blocks = blocks_of(model)
        limits.recompile_limit = max(limits.recompile_limit, FORMS * len(blocks))
        for block in blocks:
            block.compile(dynamic=True, backend=backend)


def _fusible(layer: nn.Conv1d) -> type[nn.Conv1d]:
    """The class that computes the same by operations which a compiler fuses; its own where there is none."""
    (taps,), plain = layer.kernel_size, layer.stride == layer.dilation == (1,)
    if plain and taps == 1 and layer.groups == 1 and layer.padding == (0,):
        return Pointwise
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    same = layer.padding == (taps // 2,) and taps % 2 == 1 and layer.padding_mode == "zeros"
    return Depthwise if plain and depthwise and same and taps <= TAPS else nn.Conv1d


def hold_in_bf16(model: nn.Module) -> None:
    """Rounds the matrices and kernels of a model to bf16, in place; it then runs under autocast alone.

    Norms and positions stay float32: there are few of them, and rounding them costs more.
    """
    for module in model.modules():
        own = module.named_parameters(recurse=False) if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) else ()
        for name, value in list(own):
            rounded = value.detach().to(torch.bfloat16)
            setattr(module, name, nn.Parameter(rounded, requires_grad=value.requires_grad))
