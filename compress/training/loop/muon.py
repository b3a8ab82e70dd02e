"""Muon: matrices move along their averaged gradient with all of its singular values made alike (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from compress.training.loop.precision import has_bf16

MOMENTUM = 0.95
SIZE_OF_ADAMW = 0.2
"""Root mean square of what AdamW usually moves a weight by, in learning rates (Liu et al. 2025, arXiv 2502.16982)."""
STEPS = 5
A, B, C = 3.4445, -4.7750, 2.0315
"""Of the polynomial in `orthogonal`, whose slope at zero is steep (Jordan et al. 2024)."""
_TINY = 1e-7


class MuonAndAdamW(AdamW):
    """Muon for the matrices of groups that say `orthogonal`, AdamW for everything else, as one optimizer.

    A matrix moves as far as AdamW would usually move it, so that one learning rate serves both. Matrices have one
    moment instead of two. torch.optim.Muon takes no kernels and always computes in bf16, which many CPUs emulate.

    Args:
        entries: groups, as torch has them, each with a truth value `orthogonal`.
        betas: of AdamW.
    """

    def __init__(self, entries: Sequence[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(entries, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; it uses up the gradients of matrices."""
        for group, matrix, gradient in self._matrices():
            self._move_(group, matrix, gradient)
            matrix.grad = None  # AdamW leaves out what has none
        super().step(closure)

    def _matrices(self) -> Iterator[tuple[dict[str, Any], Tensor, Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"] if group["orthogonal"] else ():
                if parameter.grad is not None and is_matrix(parameter):
                    yield group, parameter, parameter.grad

    def _move_(self, group: dict[str, Any], matrix: Tensor, gradient: Tensor) -> None:
        state, rate = self.state[matrix], group["lr"]
        if not state:  # by the names of AdamW, which reads them when it goes on
            state |= {"step": torch.zeros((), device=matrix.device), "exp_avg": torch.zeros_like(gradient)}
        state["step"] += 1
        momentum = state["exp_avg"].lerp_(gradient, 1 - MOMENTUM)
        ahead = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)
        scale = SIZE_OF_ADAMW * max(ahead.shape) ** 0.5
        matrix.mul_(1 - rate * group["weight_decay"])
        dtype = torch.bfloat16 if has_bf16(matrix.device) else torch.float32
        matrix.sub_(orthogonal(ahead, dtype).view_as(matrix), alpha=rate * scale)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or a kernel over one frame, which is one too."""
    return parameter.ndim > 1 and parameter.shape[:2].numel() == parameter.numel()


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V^T of a matrix U S V^T, by steps of Newton and Schulz: singular values end between about 0.7 and 1.2.

    Args:
        matrix: `(rows, columns)`, of any scale.
        dtype: in which it is computed.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide: Tensor = (matrix.T if tall else matrix).to(dtype)
    wide = wide / wide.norm().clamp_min(_TINY)
    for _ in range(STEPS):
        gram = wide @ wide.T
        wide = A * wide + (B * gram + C * gram @ gram) @ wide
    return (wide.T if tall else wide).to(matrix.dtype)
