"""Less memory or more speed for the same steps: blocks computed twice, and blocks compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from compress.conformers import blocks_of


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


def compile_blocks(model: PreTrainedModel, wanted: bool, backend: str = "inductor") -> None:
    """Compiles the blocks of a model, in place, for batches of any size.

    Args:
        model: in training or not.
        wanted: otherwise nothing is done.
        backend: of `torch.compile`.
    """
    for block in blocks_of(model) if wanted else ():
        block.compile(dynamic=True, backend=backend)


def as_it_was(model: nn.Module) -> None:
    """Lets blocks that were compiled run as they were, in place."""
    for module in model.modules():
        module._compiled_call_impl = None


def hold_in_bf16(model: nn.Module) -> None:
    """Rounds the matrices and kernels of a model to bf16, in place; it then runs under autocast alone.

    Norms and positions stay float32: there are few of them, and rounding them costs more.
    """
    for module in model.modules():
        own = module.named_parameters(recurse=False) if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) else ()
        for name, value in list(own):
            rounded = value.detach().to(torch.bfloat16)
            setattr(module, name, nn.Parameter(rounded, requires_grad=value.requires_grad))
