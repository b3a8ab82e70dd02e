"""Budget: the size a user asked for, the Lagrangian that learns towards it, and the Structure decided within it.

Three numbers are kept apart and all reported: the requested cost, the expected cost of the gates' distribution, and the
achieved cost of the decided Structure, which never exceeds the request.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from compress.config import check_at_least, check_positive
from compress.cost import DEFAULT_SECONDS, CostTable, Denominator, Metric, cost_table
from compress.deciding.gates import Gates
from compress.deciding.selection import Scores, UnitSelection
from compress.structure import Structure

TOLERANCE = 0.005
"""How far below a budget a decided Structure should stay at most, as a share of the full size."""

logger = logging.getLogger(__name__)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([KMGBT]?)\s*(%?)\s*", re.IGNORECASE)


class BudgetError(ValueError):
    """A budget that cannot be read or cannot be reached."""


@dataclass(frozen=True)
class BudgetConfig:
    """A target in a user's terms; exactly one of `params` and `macs` is given.

    Attributes:
        params: number of parameters, as a share (`50%`) or an amount (`20M`).
        macs: MACs of one utterance of `seconds`, as a share or an amount (`40G`).
        denominator: what the share is of and the amount counts: the `total` model or its `encoder`.
        seconds: length of the utterance that MACs refer to.
        round_to: FFN and convolution widths become multiples of this.
        stages: larger budgets on the way, in the same metric, such as [50%,25%], each of which leaves a final model;
            of `recipes/prune.py` alone.
    """

    SHORT_FOR: ClassVar[str] = "params"

    params: str | None = None
    macs: str | None = None
    denominator: Denominator = "total"
    seconds: float = DEFAULT_SECONDS
    round_to: int = 8
    stages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.params is None) == (self.macs is None):
            raise BudgetError(
                f"Give one of budget.params and budget.macs, e.g. --budget.params 50%; "
                f"got params={self.params!r}, macs={self.macs!r}."
            )
        check_at_least("budget.round_to", self.round_to, 1, error=BudgetError)
        check_positive("budget.seconds", self.seconds, "the length of an utterance", error=BudgetError)
        for text in (self.params or self.macs or "", *(self.stages or ())):
            _check_meant(text)


WHOLE_PERCENT = 100


@dataclass(frozen=True)
class Budget:
    """A target for one model: its cost table and the largest cost that is allowed.

    Attributes:
        table: costs of every Structure of the model.
        limit: the largest allowed cost.
        requested: the user's words, e.g. `params 50% of total`.
        round_to: FFN and convolution widths become multiples of this.
    """

    table: CostTable
    limit: int
    requested: str
    round_to: int

    @property
    def fraction(self) -> float:
        """The largest allowed cost as a share of the full cost."""
        return self.limit / self.table.full


def _check_meant(text: str) -> None:
    """Refuses a budget that nobody means: a share of nothing or of more than all, and a handful of parameters."""
    amount = read_amount(text, full=WHOLE_PERCENT)
    if "%" in text and not 0 < float(text.strip().rstrip("% ")) <= WHOLE_PERCENT:
        raise BudgetError(f"The budget {text!r} is a share; give more than 0% and at most 100%.")
    if text.strip().replace(".", "").isdigit() and amount <= WHOLE_PERCENT:
        raise BudgetError(f"The budget {text!r} would be {amount} in all; did you mean '{text.strip()}%'?")


def read_amount(text: str, full: int) -> int:
    """Reads `50%`, `20M`, `1.5G` or a plain number as a cost; shares are of `full`.

    Raises:
        BudgetError: if it is none of these.
    """
    match = _AMOUNT.fullmatch(text)
    if not match or (match[2] and match[3]):
        raise BudgetError(f"Cannot read the budget {text!r}; write a share like 50% or an amount like 20M.")
    number = float(match[1])
    return int(number / 100 * full) if match[3] else int(number * _UNITS[match[2].upper()])


def make_budget(config: BudgetConfig, model_config: PreTrainedConfig) -> Budget:
    """Turns a user's target into a limit for one model."""
    metric: Metric = "params" if config.params is not None else "macs"
    amount = config.params or config.macs or ""
    table = cost_table(model_config, metric, config.denominator, config.seconds)
    where = f" at {config.seconds:g} s" if metric == "macs" else ""
    requested = f"{metric} {amount} of {config.denominator}{where}"
    return Budget(table, read_amount(amount, table.full), requested, config.round_to)


def reachable(table: CostTable, scores: Scores, round_to: int = 8) -> tuple[int, int]:
    """The smallest and the largest cost of the Structures that can be decided from scores.

    The largest is that of the whole model (without parts that no forward pass uses).
    """
    smallest = UnitSelection(table, scores, round_to).cost
    return smallest, table.of(Structure.full(scores.family, len(table.units)))


def check_reachable(budget: Budget, scores: Scores) -> None:
    """Refuses a budget that cannot be reached, before anything is trained.

    Raises:
        BudgetError: with the reachable range.
    """
    low, high = reachable(budget.table, scores, budget.round_to)
    if low <= budget.limit < high:
        return
    full, what = budget.table.full, "parameters" if budget.table.metric == "params" else "MACs"
    raise BudgetError(
        f"The budget {budget.requested} is {budget.limit:,} {what} and cannot be reached: with these gates this model "
        f"reaches from {low:,} ({low / full:.1%}) to below {high:,} ({high / full:.1%}). "
        "Choose a budget in this range or gate more (gates.units, gates.include, gates.exclude)."
    )


def expected_cost(table: CostTable, gates: Gates) -> Tensor:
    """The expected cost of the gates' distribution, a differentiable float64 scalar."""
    return table.expected(*gates.expected())


class Lagrangian(nn.Module):
    """The penalty that leads the expected size to the target: `l1 * gap + l2 * gap ** 2`.

    The gap is expected size minus target, as shares of the full size. The two multipliers start at 0 and are updated by
    gradient *ascent*: put them into an optimiser group with `maximize=True`. The target goes linearly from full size
    to the budget over the warm-up (Wang et al. 2020; CoFi, section 3; settings in DPHuBERT).

    In those works both multipliers start at 0. Over a few hundred steps this lags behind the target, then overshoots:
    all gates fall at once, before they could be told apart. A positive start of the quadratic one damps this.

    Attributes:
        linear: the multiplier l1.
        quadratic: the multiplier l2.
    """

    def __init__(self, fraction: float, warmup_steps: int, quadratic_start: float = 0.0) -> None:
        super().__init__()
        self.fraction = fraction
        self.warmup_steps = warmup_steps
        self.linear = nn.Parameter(torch.zeros(()))
        self.quadratic = nn.Parameter(torch.tensor(quadratic_start))

    def target(self, step: int) -> float:
        """The target size at a step, as a share of the full size."""
        done = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return 1.0 - done * (1.0 - self.fraction)

    def forward(self, expected: Tensor, step: int) -> Tensor:
        """The penalty for an expected size (a share of the full size) at a step: a scalar."""
        gap = (expected - self.target(step)).float()
        return self.linear * gap + self.quadratic * gap**2


def decide(budget: Budget, scores: Scores) -> Structure:
    """The best Structure within the budget, whoever gave the scores.

    Units are taken in the order of their scores, in groups that keep widths at multiples of `round_to`, as long as they
    fit; what no longer fits is passed over, so that nothing that remains could be added. A module opens with its first
    group. Whole modules are taken if their units have no scores.

    Where whole modules are large, one or two of them may then be swapped for costlier ones, at the least loss of score.

    Returns:
        A Structure whose cost is at most `budget.limit`, and less than 0.5 % of the full size below it; a larger rest,
        as coarse gates or a tiny model can leave it, is logged as a warning.

    Raises:
        BudgetError: if even the smallest Structure is above the budget.
    """
    check_reachable(budget, scores)
    selection = UnitSelection(budget.table, scores, budget.round_to)
    selection.fill(budget.limit)
    tolerance = round(TOLERANCE * budget.table.full)
    selection.swap(budget.limit, tolerance)
    selection.fill(budget.limit)
    if budget.limit - selection.cost > tolerance:
        logger.warning(
            "The decided Structure costs %s, %.2f %% of the full size below the budget: with parts this large, no "
            "better one was found. Gates on units (gates.units) fill a budget closely.",
            f"{selection.cost:,}",
            100 * (budget.limit - selection.cost) / budget.table.full,
        )
    return selection.structure()
