"""Who decides what stays: gates that are learned, one of the ways without learning, or a file.

The results of all of them pass through the same removal and distillation, so that only the choice differs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import skeleton
from compress.deciding.baselines import magnitude, proportional
from compress.deciding.budget import Budget, BudgetConfig, check_reachable, decide, make_budget
from compress.deciding.by_speech import BY_SPEECH
from compress.deciding.gates import GateConfig, Gates
from compress.deciding.uniform import UNIFORM, UniformConfig, check_uniform, uniform
from compress.structure import Structure

LEARNED = "learned"
DEFAULT_DECISION = "obs"

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


def check_decision(name: str, budget: BudgetConfig | None) -> None:
    """Refuses a way to decide that lacks its budget, and a budget beside a decision that has been taken already.

    Args:
        name: `learned`, one of `BY_SPEECH` or `DECISIONS`, or the path of a structure.json.
        budget: what was asked for beside it.

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


def reachable_budget(
    config: BudgetConfig,
    model_config: PreTrainedConfig,
    decision: str,
    gates: GateConfig,
    start: PreTrainedConfig | None = None,
) -> Budget:
    """A budget for a model, from its config alone.

    Args:
        config: the target.
        model_config: of the model.
        decision: who decides; `uniform` checks by itself what it can reach.
        gates: what is gated, where gates decide.
        start: of a smaller form of the model from which it is reached; the costs are then those of that.

    Raises:
        BudgetError: with the range that can be reached.
    """
    budget = make_budget(config, model_config, decision)
    if start is not None:
        model_config = start
        budget = replace(budget, table=budget.table.of_model(model_config))
    if decision != "uniform":
        all_or_gated = gates if decision == LEARNED else GateConfig()
        gated = Gates(skeleton(model_config, original=False), all_or_gated.with_front(budget.front))
        check_reachable(budget, gated.scores())
    return budget
