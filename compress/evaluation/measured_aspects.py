"""The aspects of a model that runs in part, as an evaluation measures them."""

from __future__ import annotations

from compress.evaluation.measured_aspect import MeasuredAspect
from compress.evaluation.measured_sizes import MEASURED_SIZES
from compress.evaluation.measured_skipping import MEASURED_SKIPPING

MEASURED_ASPECTS: tuple[MeasuredAspect, ...] = (MEASURED_SIZES, MEASURED_SKIPPING)
"""One for each of `compress.running.aspects.ASPECTS`, in the order in which pages show them."""
