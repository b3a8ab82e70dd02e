"""Rounds: scores, removal and repair, each on the model that the round before has left."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from transformers import PreTrainedModel

from compress.config import check
from compress.conformers import family_of
from compress.cost import cost_table
from compress.curvature.repair import RefitConfig
from compress.deciding.baselines import magnitude
from compress.deciding.budget import Budget, BudgetError, amounts_of, decide, read_amount
from compress.deciding.by_speech import BY_SPEECH, scores_by_speech
from compress.deciding.decisions import DECISIONS, scores_behind
from compress.deciding.selection import Scores
from compress.deciding.uniform import DEFAULT_UNIFORM, UNIFORM, UniformConfig, uniform
from compress.model.removal import remove
from compress.reports.formats import significant
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


def limits_of_rounds(
    budget: Budget,
    rounds: Sequence[str] | None,
    decision: str,
    alike: UniformConfig = DEFAULT_UNIFORM,
    whole: int | None = None,
) -> list[int]:
    """The largest cost after each round; the last one is that of the budget.

    Args:
        budget: the target.
        rounds: costs before it, as shares or amounts in its metric; None: one round for a decision by weights alone,
            which finds the same after each, otherwise as many as the size asks for.
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        alike: how a uniform decision is taken.
        whole: the cost that shares are of; None: the full one of the budget's model.

    Raises:
        BudgetError: if they do not decrease towards the budget from below the size of the budget's model.
    """
    full, said = budget.table.full, budget.table.said
    if rounds is None:
        by_speech = scores_behind(decision, alike) in BY_SPEECH
        return limits_between(full, budget.limit) if by_speech else [budget.limit]
    amounts = (read_amount(text, whole or full, amounts_of(budget.table.metric)) for text in rounds)
    limits = [*(amount for amount in amounts if amount != budget.limit), budget.limit]
    remedy = f"name sizes that decrease from below {said(full)} to above the budget of {said(budget.limit)}"
    check(all(high > low for high, low in pairwise([full, *limits])), "rounds", list(rounds), remedy, BudgetError)
    return limits


def shrink_in_rounds(
    start: Shrunk,
    whole: PreTrainedModel,
    budget: Budget,
    limits: Sequence[int],
    decision: str,
    speech: Calibration | None,
    refit: RefitConfig | None,
    alike: UniformConfig = DEFAULT_UNIFORM,
) -> Iterator[Shrunk]:
    """Takes a model from size to size, and yields what each round leaves; none costs more than its limit.

    What a round has left is used up by the next one, so that no more than two models are held.

    Args:
        start: the model before the first of these rounds.
        whole: the model that all of them are held to.
        budget: says in what costs are counted, for the whole model.
        limits: the largest cost after each round, decreasing.
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        speech: what is looked at; None where neither the decision nor the refit needs any.
        refit: how each round is repaired; None: not at all.
        alike: how a uniform decision is taken.
    """
    shrunk = start
    for limit in limits:
        now = budget.table.of_model(shrunk.model.config)
        structure = decided_now(decision, shrunk.model, replace(budget, table=now, limit=limit), speech, alike)
        entry = {"limit": limit, "cost": now.of(structure)}
        shrunk = _after(shrunk, whole, structure, entry, speech, refit)
        yield shrunk


def smaller(
    whole: PreTrainedModel,
    decision: str,
    budget: Budget | None,
    rounds: Sequence[str] | None,
    speech: Calibration | None,
    refit: RefitConfig | None,
    start: PreTrainedModel | None = None,
    alike: UniformConfig = DEFAULT_UNIFORM,
) -> Shrunk:
    """A smaller model by a decision without training, or by a file.

    Args:
        whole: in eval mode; it stays as it is.
        decision: one of `BY_SPEECH` or of `DECISIONS`, or without a budget the path of a structure.json.
        budget: the size to reach.
        rounds: see `limits_of_rounds`.
        speech: what is looked at; None where neither the decision nor the refit needs any.
        refit: how each round is repaired; None: not at all.
        start: a smaller form of `whole` to go on from, which is used up; budget and result refer to it.
        alike: how a uniform decision is taken.

    Raises:
        BudgetError: if the budget cannot be reached this way.
        StructureError: if the file is none, or not one for this model.
    """
    first = Shrunk.whole(whole if start is None else start)
    if budget is None:
        return _after(first, whole, Structure.load(decision), {}, speech, refit)
    full = budget.table.of_model(whole.config).full
    limits = limits_of_rounds(budget, rounds, decision, alike, full)
    *_, last = shrink_in_rounds(first, whole, budget, limits, decision, speech, refit, alike)
    return last


def decided_now(
    decision: str,
    model: PreTrainedModel,
    budget: Budget,
    speech: Calibration | None,
    alike: UniformConfig = DEFAULT_UNIFORM,
) -> Structure:
    """What stays of a model within a budget.

    Args:
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        model: in eval mode.
        budget: for this model.
        speech: for the former, and for uniform ones by such scores.
        alike: how a uniform decision is taken.
    """
    if decision == UNIFORM:
        scores = _scores(alike.scores, model, budget, speech)
        structure = uniform(model, budget, scores, channels=alike.channels)
        return speech.agreed(structure) if speech else structure
    if decision in DECISIONS:
        return DECISIONS[decision](model, budget)
    assert speech is not None
    return speech.agreed(decide(budget, _scores(decision, model, budget, speech)))


def _scores(name: str, model: PreTrainedModel, budget: Budget, speech: Calibration | None) -> Scores:
    if name == "magnitude":
        return magnitude(model)
    assert speech is not None
    return scores_by_speech(name, model, budget.table, speech.batches, speech.total, front=budget.front)


def _after(
    shrunk: Shrunk,
    whole: PreTrainedModel,
    structure: Structure,
    entry: dict[str, Any],
    speech: Calibration | None,
    refit: RefitConfig | None,
) -> Shrunk:
    """A model after a removal, and its repair if there is one; the model before is used up, unless it is the whole."""
    small = remove(shrunk.model, structure, consume=shrunk.model is not whole).eval()
    nothing_gone = structure == Structure.full(structure.family, len(structure.blocks))
    if refit is not None and speech is not None and not nothing_gone:
        entry["repair"] = repair(small, whole, speech, refit)
    left, before = (f"{model.num_parameters():,}" for model in (small, whole))
    logger.info("%s of %s parameters are left%s", left, before, _refitted(entry))
    return Shrunk(small, shrunk.structure.then(structure), [*shrunk.rounds, entry])


def _refitted(entry: Mapping[str, Any]) -> str:
    """What the refit of a round has gained, if there was one."""
    if "repair" not in entry:
        return ""
    before, after = (significant(entry["repair"][name]) for name in ("error_before", "error_after"))
    return f"; the refit takes the error of outputs from {before} to {after}"


def needs_speech(decision: str, refit: RefitConfig | None, alike: UniformConfig = DEFAULT_UNIFORM) -> bool:
    """Whether deciding so, or repairing so, looks at speech."""
    return scores_behind(decision, alike) in BY_SPEECH or refit is not None
