"""One optimizer over named parameter groups: weights, and whatever a method adds (gates, multipliers that ascend)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from compress.config import check, check_choice
from compress.training.loop.muon import MuonAndAdamW

OptimizerName = Literal["adamw", "adamw_8bit", "muon"]
EIGHT_BIT = "torchao"
"""The package that has AdamW with moments of eight bits."""

WEIGHTS = "weights"
"""Name of the groups that `weight_groups` makes; both carry it, so one learning rate serves both."""

BETAS = (0.9, 0.98)
"""Decay of the two moments; the second as usual for Conformers."""

NO_DECAY_DIMENSIONS = 1
_BIAS = "bias"
"""In the names of biases, those of a head each included (`bias_u`, `pos_bias_v`), which lie in one matrix."""
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
        vectors: whether these are biases, norms and other vectors, also where several lie in one parameter.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0
    maximize: bool = False
    vectors: bool = False

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
    vectors = {name for name, p in named if p.ndim <= NO_DECAY_DIMENSIONS or _BIAS in name.rpartition(".")[2]}
    return [
        ParameterGroup(WEIGHTS, [p for name, p in named if name not in vectors], learning_rate, weight_decay),
        ParameterGroup(WEIGHTS, [p for name, p in named if name in vectors], learning_rate, vectors=True),
    ]


def require_optimizer(name: OptimizerName) -> None:
    """Refuses an optimizer that is none, or that is not installed.

    Raises:
        ValueError: with the remedy.
    """
    check_choice("optim", name, get_args(OptimizerName))
    installed = name != "adamw_8bit" or find_spec(EIGHT_BIT) is not None
    check(installed, "optim", name, f"install {EIGHT_BIT}, which has it, or give adamw")


def build_optimizer(groups: Sequence[ParameterGroup], name: OptimizerName = "adamw") -> Optimizer:
    """One optimizer over all groups, by default AdamW (its fused kernel saves a noticeable part of each small step).

    Args:
        groups: what is trained.
        name: `adamw_8bit` keeps its moments in eight bits; with `muon` that moves the matrices of the weights.

    Raises:
        ValueError: if a parameter is in two groups, or nothing is trainable.
    """
    trained = [group for group in groups if any(parameter.requires_grad for parameter in group.parameters)]
    entries = [_entry(group) for group in trained]
    if not entries:
        raise ValueError("No parameter requires a gradient; there is nothing to train.")
    if name == "adamw_8bit":
        return _eight_bit(entries)
    if name == "muon":
        matrices = [{"orthogonal": group.name == WEIGHTS and not group.vectors} for group in trained]
        return MuonAndAdamW([entry | flag for entry, flag in zip(entries, matrices, strict=True)], BETAS)
    return AdamW(entries, betas=BETAS, fused=True)


def _eight_bit(entries: Sequence[dict[str, Any]]) -> Optimizer:
    """AdamW with moments of eight bits, which knows no ascent: there gradients change their sign beforehand."""
    for entry in entries:
        for parameter in entry["params"] if entry.pop("maximize") else ():
            parameter.register_hook(Tensor.neg)
    return cast(Optimizer, import_module(f"{EIGHT_BIT}.optim").AdamW8bit(entries, betas=BETAS))


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
