"""Learning-rate schedules: plain functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from compress.config import check, check_at_least


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, floor: float = 0.0) -> float:
    """The factor on the peak learning rate: a linear rise, then half a cosine down to `floor`.

    Args:
        step: optimizer steps already taken; the first step (0) already moves the weights.
        total_steps: steps of the whole run, warm-up included.
        warmup_steps: steps of the rise; 0 starts at the peak.
        floor: what remains at `total_steps` and after, as a fraction of the peak.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if the warm-up does not fit the run, or `floor` is not in [0, 1].
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warmup_steps ({warmup_steps}) must lie between 0 and total_steps ({total_steps}).")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor is a fraction of the peak learning rate and must lie in [0, 1], got {floor}.")
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class PhaseConfig:
    """One phase of training.

    Attributes:
        steps: its length.
        learning_rate: peak of the weights' learning rate.
        warmup_steps: steps of its linear rise.
        final_fraction: of the peak, at the end of the cosine.
    """

    PHASE: ClassVar[str] = "recover"

    steps: int
    learning_rate: float
    warmup_steps: int = 0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(f"{self.PHASE}.steps", self.steps, 1, "for a phase")
        fits = 0 <= self.warmup_steps <= self.steps
        remedy = f"give 0 to {self.steps}, which {self.PHASE}.steps is"
        check(fits, f"{self.PHASE}.warmup_steps", self.warmup_steps, remedy)

    def rate(self, step: int) -> float:
        """The learning rate at a step (see `warmup_cosine`)."""
        return self.learning_rate * warmup_cosine(step, self.steps, self.warmup_steps, self.final_fraction)


LEAST_GATE_RATE, GATE_TRAVEL = 0.05, 30.0
"""Of gates whose rate is not given: the rate, and how far they can go in a phase; from limit to limit it is 9.2."""


@dataclass(frozen=True)
class LearnConfig(PhaseConfig):
    """The first phase, in which gates and weights are learned together.

    Attributes:
        gate_learning_rate: of the gates' locations, constant; null: 0.05, or more where a phase is too short for them
            to go from one end to the other (0.1 in 300 steps).
        multiplier_learning_rate: of the Lagrangian's multipliers (they ascend), constant.
        quadratic_start: start of the quadratic multiplier; 0 as published, 50 keeps to the target in short runs too.
        budget_warmup: share of the phase over which the target goes from the full size to the budget.
    """

    PHASE: ClassVar[str] = "learn"

    steps: int = 2000
    learning_rate: float = 2e-4
    warmup_steps: int = 100
    final_fraction: float = 0.1
    gate_learning_rate: float | None = None
    multiplier_learning_rate: float = 0.02
    quadratic_start: float = 50.0
    budget_warmup: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        share = "give a share of the phase from 0 to 1"
        check(0 <= self.budget_warmup <= 1, "learn.budget_warmup", self.budget_warmup, share)

    @property
    def gate_rate(self) -> float:
        """The learning rate of the gates' locations."""
        if self.gate_learning_rate is not None:
            return self.gate_learning_rate
        return max(LEAST_GATE_RATE, GATE_TRAVEL / self.steps)


def set_learning_rates(optimizer: Optimizer, rates: Mapping[str, float]) -> None:
    """Sets the learning rate of the named parameter groups; all other groups keep theirs.

    Args:
        optimizer: its groups carry a `name`; several groups may share one (see `optimizer.build_optimizer`).
        rates: learning rate by group name.

    Raises:
        ValueError: if no group has one of the names.
    """
    names = {group.get("name") for group in optimizer.param_groups}
    if unknown := set(rates) - names:
        raise ValueError(f"The optimizer has no parameter group {sorted(unknown)}; it has {sorted(map(str, names))}.")
    for group in optimizer.param_groups:
        if group.get("name") in rates:
            _set(group, rates[group["name"]])


def _set(group: dict[str, Any], rate: float) -> None:
    """Sets the learning rate of a group, in the tensor that holds it where one does."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
