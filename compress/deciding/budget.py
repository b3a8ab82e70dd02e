"""Budget: the size a user asked for, the Lagrangian that learns towards it, and the Structure decided within it.

Three numbers are kept apart and all reported: the requested cost, the expected cost of the gates' distribution, and the
achieved cost of the decided Structure, which never exceeds the request.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from compress.config import check, check_at_least, check_positive
from compress.cost import DEFAULT_SECONDS, CostTable, Denominator, Metric, cost_table
from compress.deciding.gates import Gates
from compress.deciding.selection import Scores, UnitSelection
from compress.latency import LatencyProfile
from compress.structure import Structure

TOLERANCE = 0.005
"""How far below a budget a decided Structure should stay at most, as a share of the full size."""

logger = logging.getLogger(__name__)

AMOUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
TIMES = {"NS": 1, "US": 10**3, "MS": 10**6, "S": 10**9}
"""Nanoseconds in each unit of time."""
DEFAULT_ROUNDING = 8
TAKES_FRONT = "obs"
"""The way to decide that takes channels in front of the blocks, too, where nothing is said of them. On digits it made
three of three models at 10 % better (2.61 instead of 2.98 % WER in the mean), and none at 25 % worse."""
_AMOUNT = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Z]*)\s*(%?)\s*", re.IGNORECASE)


class BudgetError(ValueError):
    """A budget that cannot be read or cannot be reached."""


@dataclass(frozen=True)
class BudgetConfig:
    """A target in a user's terms; exactly one of `params`, `macs` and `latency` is given.

    Attributes:
        params: number of parameters, as a share (`50%`) or an amount (`20M`).
        macs: MACs of one utterance of `seconds`, as a share or an amount (`40G`).
        latency: time of a forward pass as `profile` predicts it, as a share or an amount (`20ms`).
        profile: the file of `compress profile` for the model; null: `recipes/prune.py` measures this machine first.
        denominator: what the share is of and the amount counts: the `total` model or its `encoder`.
        seconds: length of the utterance that MACs and times refer to.
        round_to: FFN and convolution widths become multiples of this; null: of 8, or of what the profile says.
        front: whether channels in front of the blocks (of subsampling convolutions or a feature extractor) may go, too.
            null: where `obs` decides within a budget of the total model, which pays at small sizes.
        stages: larger budgets on the way, in the same metric, such as [50%,25%], each of which leaves a final model;
            of `recipes/prune.py` alone.
    """

    SHORT_FOR: ClassVar[str] = "params"
    ONE_OF: ClassVar[tuple[str, ...]] = ("params", "macs", "latency")

    params: str | None = None
    macs: str | None = None
    latency: str | None = None
    profile: str | None = None
    denominator: Denominator = "total"
    seconds: float = DEFAULT_SECONDS
    round_to: int | None = None
    front: bool | None = None
    stages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self._given) != 1:
            raise BudgetError(
                "Give one of budget.params, budget.macs and budget.latency, e.g. --budget.params 50%; "
                f"got {', '.join(f'{metric}={amount!r}' for metric, amount in self._given.items()) or 'none'}."
            )
        check_time(self.latency is not None, self.profile, self.denominator, "budget")
        check_at_least("budget.round_to", self.round_to, 1, error=BudgetError)
        check_positive("budget.seconds", self.seconds, "the length of an utterance", error=BudgetError)
        for text in (self.amount, *(self.stages or ())):
            check_meant(text, amounts_of(self.metric))

    @property
    def _given(self) -> dict[Metric, str]:
        amounts: dict[Metric, str | None] = {"params": self.params, "macs": self.macs, "latency": self.latency}
        return {metric: amount for metric, amount in amounts.items() if amount is not None}

    @property
    def metric(self) -> Metric:
        """What is counted."""
        return next(iter(self._given))

    @property
    def amount(self) -> str:
        """How much of it, as it was written."""
        return self._given[self.metric]


def takes_front(decision: str | None, table: CostTable) -> bool:
    """Whether a way to decide takes channels in front of the blocks, too, unless it is told otherwise."""
    return decision == TAKES_FRONT and table.denominator == "total" and bool(table.front.names)


WHOLE_PERCENT = 100


@dataclass(frozen=True)
class Budget:
    """A target for one model: its cost table and the largest cost that is allowed.

    Attributes:
        table: costs of every Structure of the model.
        limit: the largest allowed cost.
        requested: the user's words, e.g. `params 50% of total`.
        round_to: FFN and convolution widths become multiples of this.
        front: whether channels in front of the blocks may go, too.
    """

    table: CostTable
    limit: int
    requested: str
    round_to: int
    front: bool = False

    @property
    def fraction(self) -> float:
        """The largest allowed cost as a share of the full cost."""
        return self.limit / self.table.full


def amounts_of(metric: Metric) -> dict[str, int]:
    """What amounts of a metric can be followed by."""
    return TIMES if metric == "latency" else AMOUNTS


def check_time(is_time: bool, profile: str | None, denominator: Denominator, key: str) -> None:
    """Refuses a profile without a budget in time, and a budget in time of the encoder alone.

    Raises:
        BudgetError: naming the setting.
    """
    check(is_time or profile is None, f"{key}.profile", profile, f"it belongs to {key}.latency", BudgetError)
    whole = not is_time or denominator == "total"
    check(whole, f"{key}.denominator", denominator, "only the time of the whole model is measured", BudgetError)


def check_meant(text: str, units: Mapping[str, int]) -> None:
    """Refuses a budget that nobody means: a share of nothing or of more than all, and a handful of parameters.

    Raises:
        BudgetError: with the remedy.
    """
    amount = read_amount(text, WHOLE_PERCENT, units)
    if "%" in text and not 0 < float(text.strip().rstrip("% ")) <= WHOLE_PERCENT:
        raise BudgetError(f"The budget {text!r} is a share; give more than 0% and at most 100%.")
    if text.strip().replace(".", "").isdigit() and amount <= WHOLE_PERCENT:
        share = float(text) * (WHOLE_PERCENT if "." in text and float(text) <= 1 else 1)
        raise BudgetError(f"The budget {text!r} would be {amount} in all; did you mean '{share:g}%'?")


def read_amount(text: str, full: int, units: Mapping[str, int] = AMOUNTS) -> int:
    """Reads `50%`, `20M`, `1.5G`, `20ms` or a plain number as a cost; shares are of `full`.

    Args:
        text: the amount.
        full: the cost of all.
        units: what each letter, or letters, behind a number stand for.

    Raises:
        BudgetError: if it is none of these.
    """
    match = _AMOUNT.fullmatch(text)
    if not match or (match[2] and match[3]) or not (match[3] or match[2].upper() in units):
        example = "20ms" if "MS" in units else "20M"
        raise BudgetError(f"Cannot read the budget {text!r}; write a share like 50% or an amount like {example}.")
    number = float(match[1])
    return int(number / 100 * full) if match[3] else int(number * units[match[2].upper()])


def make_budget(config: BudgetConfig, model_config: PreTrainedConfig, decision: str | None = None) -> Budget:
    """Turns a user's target into a limit for one model.

    Args:
        config: the target.
        model_config: of the model.
        decision: who decides, which says of the front what `budget.front` does not; None: it stays whole.

    Raises:
        BudgetError: if the target cannot be read, or needs a profile that is not there or does not tell enough.
    """
    if config.metric == "latency":
        return _budget_in_time(config, model_config, decision)
    table = cost_table(model_config, config.metric, config.denominator, config.seconds)
    where = f" at {config.seconds:g} s" if config.metric == "macs" else ""
    requested = f"{config.metric} {config.amount} of {config.denominator}{where}"
    limit, round_to = read_amount(config.amount, table.full), config.round_to or DEFAULT_ROUNDING
    return Budget(table, limit, requested, round_to, _front(config, table, decision))


def _budget_in_time(config: BudgetConfig, model_config: PreTrainedConfig, decision: str | None) -> Budget:
    profile = profile_named(config.profile, "budget")
    require_length(profile, config.seconds, "budget")
    table = profile.table(model_config)
    requested = f"latency {config.amount} at {profile.summary}"
    limit = read_amount(config.amount, table.full, TIMES)
    remedy = f"{config.profile} does not tell what channels there cost: make it anew with `compress profile`"
    check(bool(profile.front.names) or not config.front, "budget.front", True, remedy, BudgetError)
    round_to = config.round_to or profile.round_to
    return Budget(table, limit, requested, round_to, _front(config, table, decision))


def _front(config: BudgetConfig, table: CostTable, decision: str | None) -> bool:
    return takes_front(decision, table) if config.front is None else config.front


def profile_named(path: str | None, key: str) -> LatencyProfile:
    """The profile beside a budget in time.

    Raises:
        BudgetError: if none is named.
    """
    if path is None:
        raise BudgetError(f"{key}.latency needs {key}.profile, the file that `compress profile MODEL` writes.")
    return LatencyProfile.load(path)


def require_length(profile: LatencyProfile, seconds: float, key: str) -> None:
    """Refuses a length of utterances other than that which a profile was measured at.

    Raises:
        BudgetError: naming the setting.
    """
    measured = profile.conditions["seconds"]
    remedy = f"{key}.profile was measured at {measured:g} s: leave it out, or make another with --speed.seconds"
    check(seconds in (DEFAULT_SECONDS, measured), f"{key}.seconds", seconds, remedy, BudgetError)


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
    full, said = budget.table.full, budget.table.said
    front = "" if budget.front else "budget.front; "
    raise BudgetError(
        f"The budget {budget.requested} is {said(budget.limit)} and cannot be reached: with what may go, this model "
        f"reaches from {said(low)} ({low / full:.1%}) to below {said(high)} ({high / full:.1%}). "
        f"Choose a budget in this range or let more go ({front}of learned gates "
        "gates.units, include, exclude)."
    )


def expected_cost(table: CostTable, gates: Gates) -> Tensor:
    """The expected cost of the gates' distribution, a differentiable float64 scalar."""
    return table.expected(*gates.expected())


class Lagrangian(nn.Module):
    """The penalty that leads the expected size to the target: `(l1 * gap + l2 * gap ** 2) / target`.

    The gap is expected size minus target, as shares of the full size. The two multipliers start at 0 and are updated by
    gradient *ascent*: put them into an optimiser group with `maximize=True`. The target goes linearly from full size
    to the budget over the warm-up (Wang et al. 2020; CoFi, section 3; settings in DPHuBERT).

    In those works both multipliers start at 0. Over a few hundred steps this lags behind the target, then overshoots:
    all gates fall at once, before they could be told apart. A positive start of the quadratic one damps this. There
    the penalty is not divided by the target either; but what is 1 % too much of a whole model is 10 % too much of a
    tenth of it, and without the division the task's losses hold a small size far above its target for a long time.

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
        target = self.target(step)
        gap = (expected - target).float()
        return (self.linear * gap + self.quadratic * gap**2) / target


def decide(budget: Budget, scores: Scores) -> Structure:
    """The best Structure within the budget, whoever gave the scores.

    Units are taken in the order of their scores, in groups that keep widths at multiples of `round_to`, as long as they
    fit; what no longer fits is passed over, so that nothing that remains could be added. A module opens with its first
    group. Whole modules are taken if their units have no scores. Where scores are over costs, modules are closed that
    are not worth their fixed cost.

    Where whole modules are large, one or two of them may then be swapped for costlier ones, at the least loss of score.

    Returns:
        A Structure whose cost is at most `budget.limit`, and less than 0.5 % of the full size below it; a larger rest,
        as coarse gates or a tiny model can leave it, is logged as a warning. The full one, where that is within it.

    Raises:
        BudgetError: if even the smallest Structure is above the budget.
    """
    whole = Structure.full(scores.family, len(budget.table.units))
    return whole if budget.table.of(whole) <= budget.limit else within(budget, partial(_selected, scores))


def within(budget: Budget, decided: Callable[[Budget], Structure]) -> Structure:
    """What is decided, again with less where it is above the budget for what its class must have beside it.

    Args:
        budget: the target.
        decided: what keeps a budget, except for `CostTable.beside`.
    """
    structure = decided(budget)
    if budget.table.of(structure) <= budget.limit:
        return structure
    return decided(replace(budget, limit=budget.limit - budget.table.beside(structure)))


def _selected(scores: Scores, budget: Budget) -> Structure:
    check_reachable(budget, scores)
    selection = UnitSelection(budget.table, scores, budget.round_to)
    selection.fill(budget.limit)
    if scores.per_cost:
        selection = selection.closed_where_that_pays(budget.limit)
    tolerance = round(TOLERANCE * budget.table.full)
    selection.swap(budget.limit, tolerance)
    selection.fill(budget.limit)
    if budget.limit - selection.cost > tolerance:
        logger.warning(
            "The decided Structure costs %s, %.2f %% of the full size below the budget: with parts this large, no "
            "better one was found. Finer ones fill a budget closely: a smaller budget.round_to, or gates on units.",
            budget.table.said(selection.cost),
            100 * (budget.limit - selection.cost) / budget.table.full,
        )
    return selection.structure()
