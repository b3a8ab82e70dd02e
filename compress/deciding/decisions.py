"""Deciding what stays without learning: the ways by name, each from a model and a budget to a Structure.

Their results pass through the same removal and distillation as learned ones, so that only the choice differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transformers import PreTrainedModel

from compress.deciding.baselines import magnitude, proportional
from compress.deciding.budget import Budget, decide
from compress.deciding.uniform import uniform
from compress.structure import Structure

DECISIONS: Mapping[str, Callable[[PreTrainedModel, Budget], Structure]] = {
    "magnitude": lambda model, budget: decide(budget, magnitude(model)),
    "proportional": lambda model, budget: decide(budget, proportional(model)),
    "uniform": uniform,
}
"""`magnitude`: the units of largest norm; `proportional`: the same share of every module; `uniform`: as many heads and
FFN units in every block, which the original's class can hold."""
