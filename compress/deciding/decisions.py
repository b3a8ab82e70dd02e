"""Who decides what stays: gates that are learned, one of the ways without learning, or a file.

The results of all of them pass through the same removal and distillation, so that only the choice differs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import family_of, skeleton
from compress.deciding.baselines import magnitude, proportional
from compress.deciding.budget import Budget, BudgetConfig, check_reachable, decide, make_budget
from compress.deciding.by_speech import BY_SPEECH
from compress.deciding.gates import GateConfig, Gates
from compress.deciding.uniform import DEFAULT_UNIFORM, UNIFORM, UniformConfig, check_uniform, uniform
from compress.structure import Structure

LEARNED = "learned"
DEFAULT_DECISION = "obs"
LAST_IN_FRONT = ("obs", "variance")
"""Ways to decide that give scores, of the channels in front of the blocks, to the last ones alone."""

DECISIONS: Mapping[str, Callable[[PreTrainedModel, Budget], Structure]] = {
    "magnitude": lambda model, budget: decide(budget, magnitude(model, front=budget.front)),
    "proportional": lambda model, budget: decide(budget, proportional(model, front=budget.front)),
    UNIFORM: lambda model, budget: uniform(model, budget, magnitude(model)),
}
"""Ways to decide without learning, by name. `magnitude`: the units of largest norm; `proportional`: the same share of
every module; `uniform`: as many heads and FFN units in every block, which the original's class can hold, here by norms
(see `UniformConfig`)."""


def scores_behind(decision: str, settings: UniformConfig) -> str:
    """The name of the scores by which a decision is taken: its own, or those of a uniform one."""
    return settings.scores if decision == UNIFORM else decision


def require_known(name: str, ways: Sequence[str]) -> None:
    """Refuses what is neither a way to decide nor a file.

    Raises:
        ValueError: naming the way that was probably meant, and all of them.
    """
    if name not in ways and not Path(name).exists():
        near = difflib.get_close_matches(name, ways, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"structure is {name!r}, and there is no such file; {meant}The ways are {', '.join(ways)}.")


def check_decision(name: str, budget: BudgetConfig | None, rounds: Sequence[str] | None = None) -> None:
    """Refuses a way to decide that lacks its budget, and a budget beside a decision that has been taken already.

    Args:
        name: `learned`, one of `BY_SPEECH` or `DECISIONS`, or the path of a structure.json.
        budget: what was asked for beside it.
        rounds: sizes on the way of the decision, if there are any.

    Raises:
        ValueError: saying what goes with what.
    """
    ways = (LEARNED, *BY_SPEECH, *DECISIONS)
    require_known(name, ways)
    check_uniform(name, budget is not None and bool(budget.front))
    if (budget is None) == (name in ways):
        raise ValueError(
            f"structure is {name!r}, budget is {budget}: {', '.join(ways)} need a budget; a structure.json is a "
            "decision already and goes with budget: null."
        )
    if rounds is not None and (name == LEARNED or budget is None or budget.stages is not None):
        raise ValueError(
            f"rounds is {list(rounds)}: they are sizes on the way of one decision by scores or weights. Gates are "
            "learned in one phase, a file is a decision already, and each of budget.stages takes as many rounds as it "
            "asks for: leave rounds out there."
        )


def check_range(budget: Budget, model: PreTrainedModel, decision: str, alike: UniformConfig) -> None:
    """Refuses a budget that a way to decide cannot reach, whatever the scores will be.

    Args:
        budget: the target.
        model: of which it is, with weights or without.
        decision: one of `BY_SPEECH` or of `DECISIONS`.
        alike: how a uniform decision is taken.

    Raises:
        BudgetError: with the range that can be reached.
    """
    scores = proportional(model, front=budget.front)
    if decision == UNIFORM:
        uniform(model, budget, scores, channels=alike.channels)
    if decision in LAST_IN_FRONT:
        in_front = sorted(place for place in scores.units if place.in_front)
        units = {place: of_units for place, of_units in scores.units.items() if place not in in_front[:-1]}
        scores = replace(scores, units=units)
    check_reachable(budget, scores)


def reachable_budget(
    config: BudgetConfig,
    model_config: PreTrainedConfig,
    decision: str,
    gates: GateConfig,
    start: PreTrainedConfig | None = None,
    alike: UniformConfig = DEFAULT_UNIFORM,
) -> Budget:
    """A budget for a model, from its config alone.

    Args:
        config: the target.
        model_config: of the model.
        decision: who decides.
        gates: what is gated, where gates decide.
        start: of a smaller form of the model from which it is reached; the costs are then those of that, which may be
            within the budget already.
        alike: how a uniform decision is taken.

    Raises:
        BudgetError: with the range that can be reached.
    """
    budget = make_budget(config, model_config, decision)
    if start is not None:
        model_config = start
        budget = replace(budget, table=budget.table.of_model(model_config))
        if budget.table.of(Structure.full(family_of(model_config).name, len(budget.table.units))) <= budget.limit:
            return budget
    model = skeleton(model_config, original=False)
    if decision == LEARNED:
        check_reachable(budget, Gates(model, gates.with_front(budget.front)).scores())
    else:
        check_range(budget, model, decision, alike)
    return budget
