"""One AdamW with named parameter groups: weights, and whatever a method adds (gates, multipliers that ascend)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from compress.config import check

WEIGHTS = "weights"
"""Name of the groups that `weight_groups` makes; both carry it, so one learning rate serves both."""

BETAS = (0.9, 0.98)
"""Decay of the two moments; the second as usual for Conformers."""

NO_DECAY_DIMENSIONS = 1
"""Parameters with at most this many dimensions (biases, norms) are not decayed."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes:
        name: how `set_learning_rates` finds the group; several groups may share a name.
        parameters: those that require no gradient are left out.
        learning_rate: the peak.
        weight_decay: decoupled (AdamW), relative to the learning rate.
        maximize: whether the optimizer ascends instead of descending, as Lagrange multipliers do.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0
    maximize: bool = False

    def __post_init__(self) -> None:
        allowed = not (self.maximize and self.weight_decay)
        check(allowed, f"{self.name}.weight_decay", self.weight_decay, "it must be 0 in a group that ascends")


def weight_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, *, exclude: Iterable[nn.Parameter] = ()
) -> list[ParameterGroup]:
    """The weights of a model in two groups: matrices and kernels decay; biases, norms and other vectors do not.

    Args:
        model: its trainable parameters are taken.
        learning_rate: the peak.
        weight_decay: of the decayed group.
        exclude: parameters that belong to other groups, e.g. gates.
    """
    excluded = {id(parameter) for parameter in exclude}
    named = [p for p in model.named_parameters() if p[1].requires_grad and id(p[1]) not in excluded]
    decayed = [p for name, p in named if p.ndim > NO_DECAY_DIMENSIONS and not name.endswith("bias")]
    plain = [p for name, p in named if p.ndim <= NO_DECAY_DIMENSIONS or name.endswith("bias")]
    return [
        ParameterGroup(WEIGHTS, decayed, learning_rate, weight_decay),
        ParameterGroup(WEIGHTS, plain, learning_rate),
    ]


def build_optimizer(groups: Sequence[ParameterGroup]) -> AdamW:
    """One AdamW over all groups (the fused kernel: on a small model it saves a noticeable part of each step).

    Raises:
        ValueError: if a parameter is in two groups, or nothing is trainable.
    """
    entries = [entry for group in groups if (entry := _entry(group))["params"]]
    if not entries:
        raise ValueError("No parameter requires a gradient; there is nothing to train.")
    return AdamW(entries, betas=BETAS, fused=True)


def parameters_of(optimizer: Optimizer, name: str) -> list[nn.Parameter]:
    """The parameters of all groups of a name."""
    return [p for group in optimizer.param_groups if group["name"] == name for p in group["params"]]


def _entry(group: ParameterGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "params": [parameter for parameter in group.parameters if parameter.requires_grad],
        "lr": group.learning_rate,
        "weight_decay": group.weight_decay,
        "maximize": group.maximize,
    }
