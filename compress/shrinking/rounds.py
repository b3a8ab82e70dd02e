"""Rounds: scores, removal and repair, each on the model that the round before has left."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from transformers import PreTrainedModel

from compress.config import check
from compress.conformers import family_of
from compress.cost import cost_table
from compress.curvature.repair import RefitConfig
from compress.deciding.budget import Budget, BudgetError, decide, read_amount
from compress.deciding.by_speech import BY_SPEECH, scores_by_speech
from compress.deciding.decisions import DECISIONS
from compress.model.removal import remove
from compress.reports import formats
from compress.shrinking.calibration import Calibration
from compress.shrinking.repairing import repair
from compress.structure import Structure

logger = logging.getLogger(__name__)

STEEPEST = 0.7
"""What a round leaves at least of the size that it finds, unless rounds are given."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Shrunk:
    """A model after a round.

    Attributes:
        model: what is left, in eval mode.
        structure: what is left of the whole model.
        rounds: what each round has done, the first one first: its `limit`, its `cost`, and its `repair`.
    """

    model: PreTrainedModel
    structure: Structure
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def whole(cls, model: PreTrainedModel) -> Shrunk:
        """A model before the first round."""
        family = family_of(model)
        return cls(model, Structure.full(family.name, len(cost_table(model.config).units)))


def limits_between(cost: int, limit: int) -> list[int]:
    """The largest cost after each round on the way from a cost to a limit, in equal ratios, none below `STEEPEST`."""
    ratio = limit / cost
    count = max(1, math.ceil(math.log(ratio) / math.log(STEEPEST) - _ROUNDING))
    return [*(int(cost * ratio ** (number / count)) for number in range(1, count)), limit]


def limits_of_rounds(budget: Budget, rounds: Sequence[str] | None) -> list[int]:
    """The largest cost after each round; the last one is that of the budget.

    Args:
        budget: the target.
        rounds: costs before it, as shares or amounts in its metric; None: as the size asks.

    Raises:
        BudgetError: if they do not decrease towards the budget from below the full size.
    """
    full = budget.table.full
    if rounds is None:
        return limits_between(full, budget.limit)
    limits = [read_amount(text, full) for text in rounds]
    limits = [*limits, *([budget.limit] if budget.limit not in limits[-1:] else [])]
    falling = all(high > low for high, low in pairwise([full, *limits])) and limits[-1] == budget.limit
    remedy = f"name sizes that decrease from below {full:,} to above the budget of {budget.limit:,}"
    check(falling, "rounds", list(rounds), remedy, BudgetError)
    return limits


def shrink_in_rounds(
    start: Shrunk,
    whole: PreTrainedModel,
    budget: Budget,
    limits: Sequence[int],
    decision: str,
    speech: Calibration | None,
    refit: RefitConfig | None,
) -> Iterator[Shrunk]:
    """Takes a model from size to size, and yields what each round leaves; none costs more than its limit.

    Args:
        start: the model before the first of these rounds.
        whole: the model that all of them are held to.
        budget: says in what costs are counted, for the whole model.
        limits: the largest cost after each round, decreasing.
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        speech: what is looked at; None where neither the decision nor the refit needs any.
        refit: how each round is repaired; None: not at all.
    """
    shrunk = start
    for limit in limits:
        now = cost_table(shrunk.model.config, budget.table.metric, budget.table.denominator, budget.table.seconds)
        structure = decided(decision, shrunk.model, replace(budget, table=now, limit=limit), speech)
        small = remove(shrunk.model, structure).eval()
        entry: dict[str, Any] = {"limit": limit, "cost": now.of(structure)}
        if refit is not None and speech is not None:
            entry["repair"] = repair(small, whole, speech, refit)
        logger.info("%s of %s: %s", formats.percent(limit / budget.table.full), decision, entry)
        shrunk = Shrunk(small, shrunk.structure.then(structure), [*shrunk.rounds, entry])
        yield shrunk


def decided(decision: str, model: PreTrainedModel, budget: Budget, speech: Calibration | None) -> Structure:
    """What stays of a model within a budget.

    Args:
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        model: in eval mode.
        budget: for this model.
        speech: for the former.
    """
    if decision in DECISIONS:
        return DECISIONS[decision](model, budget)
    assert speech is not None
    return decide(budget, scores_by_speech(decision, model, budget.table, speech.batches, speech.total))


def needs_speech(decision: str, refit: RefitConfig | None) -> bool:
    """Whether deciding so, or repairing so, looks at speech."""
    return decision in BY_SPEECH or refit is not None
