"""Scores of units without labels, from second moments of what goes into the last projections, block after block.

- `obs`: by how much the error of the module's output rises when the unit goes and the others are refitted (Optimal
  Brain Surgeon for groups, see `removal_errors`).
- `variance`: how much the unit's part of the output varies; its mean goes into a bias at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import front_groups, part
from compress.curvature.least_squares import removal_errors
from compress.curvature.moments import Moments, Total, alone
from compress.curvature.passage import Inputs, Look, Passage
from compress.curvature.projections import inputs_per_unit, moments_at, with_bias
from compress.curvature.stream import StreamGauge
from compress.structure import IN_FRONT, Place

OBS_RIDGE = 1e-4
STEPS_OF_SURGERY = 128
"""A module's units go in about so many steps at most, each of which costs one pass over the inverse moments."""

ModuleScores = dict[Place, Tensor]
"""By module, `(units,)`, float64."""


def obs_scores(
    model: PreTrainedModel, batches: Sequence[Inputs], total: Total = alone, *, front: bool = False
) -> ModuleScores:
    """Scores each unit by the rise of its module's output error, as it counts in the residual stream.

    Args:
        model: of any family, in eval mode.
        batches: what the model is called with, on its device.
        total: over the processes.
        front: whether the last channels in front of the blocks get scores, too: those whose layer begins the stream.
    """
    return {
        place: scale**2 * removal_errors(with_bias(layer), moments, size, _step(moments.width, size), OBS_RIDGE)
        for place, layer, moments, size, scale in _by_module(model, batches, total, front)
    }


def variance_scores(
    model: PreTrainedModel, batches: Sequence[Inputs], total: Total = alone, *, front: bool = False
) -> ModuleScores:
    """Scores each unit by the variance of what its inputs add to the output, together; arguments as above."""
    scores = {}
    for place, layer, moments, size, scale in _by_module(model, batches, total, front):
        weights = with_bias(layer)[:, : moments.width].T.unflatten(0, (-1, size))
        scores[place] = scale**2 * (weights * (moments.covariances(size) @ weights)).sum((1, 2)).clamp_min(0.0)
    return scores


def _step(width: int, size: int) -> int:
    return 1 if size > 1 else max(1, width // STEPS_OF_SURGERY)


def _by_module(
    model: PreTrainedModel, batches: Sequence[Inputs], total: Total, front: bool
) -> Iterator[tuple[Place, nn.Module, Moments, int, float]]:
    """Yields every module with its last projection, the moments of its inputs, inputs per unit, and its scale."""
    gauge_in_front = FrontGauge(model) if front and front_groups(model) else None
    passage = Passage(model, batches, gauge_in_front.looks if gauge_in_front else ())
    if gauge_in_front:
        yield gauge_in_front.place, gauge_in_front.layer, *gauge_in_front.gathered(passage, total)
    for block in range(len(passage.blocks)):
        gauge = StreamGauge(passage)
        moments = {name: moments_at(passage.last_projection(name)) for name in gauge.names}
        with gauge.watching(), passage.observed({name: _adding(of) for name, of in moments.items()}):
            passage.run()
        factors = gauge.factors(total)
        for name in gauge.names:
            layer, factor = passage.last_projection(name), factors[name]
            assert layer is not None
            gathered = moments.pop(name).gather(total, Place.of(block, name).label)
            yield Place.of(block, name), layer, gathered, inputs_per_unit(passage, name), factor[1] if factor else 1.0
        passage.advance()


class FrontGauge:
    """Looks at the layer that begins the residual stream: what goes into it, and how it counts there.

    Args:
        model: with channels in front of its blocks.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        *_, self.group = groups = front_groups(model)
        self.place, self.layer = Place(IN_FRONT, len(groups) - 1), part(model, self.group.last)
        self._moments, self._outputs = moments_at(self.layer), list[Tensor]()

    @property
    def looks(self) -> list[tuple[nn.Module, Look]]:
        """What a passage shows it."""
        return [(self.layer, self._look)]

    def _look(self, before: Tensor, after: Tensor) -> None:
        self._moments.add(before)
        self._outputs.append(after)

    def gathered(self, passage: Passage, total: Total) -> tuple[Moments, int, float]:
        """The moments of all processes, the inputs of each channel, and the factor with which the stream begins."""
        products = torch.zeros(2, dtype=torch.float64, device=passage.model.device)
        for stream, output in zip(passage.states(), self._outputs, strict=True):
            products += torch.stack([(output.double() * value.double()).sum() for value in (stream, output)])
        both, power = total(products).tolist()
        return self._moments.gather(total, self.group.last), self.group.size, both / power if power else 0.0


def _adding(moments: Moments) -> Look:
    return lambda before, after: moments.add(before)
