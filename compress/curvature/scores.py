"""Scores of units without labels, from second moments of what goes into the last projections, block after block.

- `obs`: by how much the error of the module's output rises when the unit goes and the others are refitted (Optimal
  Brain Surgeon for groups, see `removal_errors`).
- `variance`: how much the unit's part of the output varies; its mean goes into a bias at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.curvature.least_squares import removal_errors
from compress.curvature.moments import Moments, Total, alone
from compress.curvature.passage import Inputs, Look, Passage
from compress.curvature.projections import inputs_per_unit, moments_at, with_bias
from compress.curvature.stream import StreamGauge
from compress.structure import Place

OBS_RIDGE = 1e-4
STEPS_OF_SURGERY = 128
"""A module's units go in about so many steps at most, each of which costs one pass over the inverse moments."""

ModuleScores = dict[Place, Tensor]
"""By module, `(units,)`, float64."""


def obs_scores(model: PreTrainedModel, batches: Sequence[Inputs], total: Total = alone) -> ModuleScores:
    """Scores each unit by the rise of its module's output error, as it counts in the residual stream.

    Args:
        model: of any family, in eval mode.
        batches: what the model is called with, on its device.
        total: over the processes.
    """
    return {
        place: scale**2 * removal_errors(with_bias(layer), moments, size, _step(moments.width, size), OBS_RIDGE)
        for place, layer, moments, size, scale in _by_module(model, batches, total)
    }


def variance_scores(model: PreTrainedModel, batches: Sequence[Inputs], total: Total = alone) -> ModuleScores:
    """Scores each unit by the variance of its input times the squared weights that read it; arguments as above."""
    scores = {}
    for place, layer, moments, size, scale in _by_module(model, batches, total):
        weights = with_bias(layer)[:, : moments.width].square().sum(0)
        scores[place] = scale**2 * (moments.variances * weights).view(-1, size).sum(1)
    return scores


def _step(width: int, size: int) -> int:
    return 1 if size > 1 else max(1, width // STEPS_OF_SURGERY)


def _by_module(
    model: PreTrainedModel, batches: Sequence[Inputs], total: Total
) -> Iterator[tuple[Place, nn.Module, Moments, int, float]]:
    """Yields every module with its last projection, the moments of its inputs, inputs per unit, and its scale."""
    passage = Passage(model, batches)
    for block in range(len(passage.blocks)):
        gauge = StreamGauge(passage)
        moments = {name: moments_at(passage.last_projection(name)) for name in gauge.names}
        with gauge.watching(), passage.observed({name: _adding(of) for name, of in moments.items()}):
            passage.run()
        factors = gauge.factors()
        for name in gauge.names:
            layer, factor = passage.last_projection(name), factors[name]
            assert layer is not None
            gathered = moments.pop(name).gather(total, f"blocks.{block}.{name}")
            yield Place.of(block, name), layer, gathered, inputs_per_unit(passage, name), factor[1] if factor else 1.0
        passage.advance()


def _adding(moments: Moments) -> Look:
    return lambda before, after: moments.add(before)
