"""The aspects of a model that runs in part, as an evaluation measures them."""

from __future__ import annotations

from compress.evaluation.aspect import MeasuredAspect
from compress.evaluation.skipping import MEASURED_SKIPPING
from compress.evaluation.subnets import MEASURED_SIZES

MEASURED_ASPECTS: tuple[MeasuredAspect, ...] = (MEASURED_SIZES, MEASURED_SKIPPING)
"""One for each of `compress.running.aspects.ASPECTS`, in the order in which pages show them."""
