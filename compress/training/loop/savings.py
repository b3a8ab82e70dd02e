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
from compress.running.batch_norms import computed_again

FORMS = 8
"""Compiled forms of a block at most: of student and teacher, with and without gradients, in both modes."""


@contextmanager
def recomputed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Inside, of a forward pass only what goes into blocks is kept; the backward pass computes blocks again.

    A block's own forward is wrapped for the time being. Hooks on blocks, which record outputs and gather frames, run
    once; what is inside a block runs twice, with the same dropout, and batch norms see it once.

    Args:
        model: in training; without gradients nothing changes.
        wanted: otherwise nothing changes, either.
    """
    blocks: list[Any] = list(blocks_of(model)) if wanted and torch.is_grad_enabled() else []
    for block in blocks:
        contexts = partial(computed_again, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def compile_blocks(model: PreTrainedModel, wanted: bool, backend: str = "inductor") -> None:
    """Compiles the blocks of a model, in place, for batches of any size.

    All blocks share the code of their class, of which torch keeps a limited number of compiled forms; those of a
    smaller model differ from each other, and each has one with gradients and one without, in training and in eval mode.

    Args:
        model: in training or not.
        wanted: otherwise nothing is done.
        backend: of `torch.compile`.
    """
    if not wanted:
        return
    from torch._dynamo import config as limits  # which takes a second to import

    blocks = blocks_of(model)
    limits.recompile_limit = max(limits.recompile_limit, FORMS * len(blocks))
    for block in blocks:
        block.compile(dynamic=True, backend=backend)


def hold_in_bf16(model: nn.Module) -> None:
    """Rounds the matrices and kernels of a model to bf16, in place; it then runs under autocast alone.

    Norms and positions stay float32: there are few of them, and rounding them costs more.
    """
    for module in model.modules():
        own = module.named_parameters(recurse=False) if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) else ()
        for name, value in list(own):
            rounded = value.detach().to(torch.bfloat16)
            setattr(module, name, nn.Parameter(rounded, requires_grad=value.requires_grad))
