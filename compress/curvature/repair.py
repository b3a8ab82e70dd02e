"""Repair: what is left of a model is refitted in closed form, so that its hidden states stay those of the whole model.

Module after module, from the first block to the last: the inputs of a last projection are those of the smaller model
as refitted so far, and its targets are what brings the residual stream back to that of the whole model. So a module
makes up for its own units that are gone, and for what those before it could not make up for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.config import check, check_at_least, check_choice
from compress.conformers import front_channels, front_groups, part, structure_of
from compress.curvature.least_squares import refitted, squared_errors
from compress.curvature.moments import Moments, Total, alone, at_least_single
from compress.curvature.passage import Inputs, Look, Passage
from compress.curvature.projections import inputs_per_unit, moments_at, set_with_bias_, units_left, with_bias
from compress.curvature.statistics import Statistics, renew_statistics_, running_norm
from compress.curvature.stream import StreamGauge, norm_before
from compress.structure import IN_FRONT, Place

RefitInputs = Literal["small", "whole"]


@dataclass(frozen=True)
class RefitConfig:
    """How a smaller model is repaired in closed form, on speech, without training.

    Attributes:
        utterances: how many utterances are looked at, drawn at random.
        ridge: pulls towards the weights as they were, as a share of the mean square of a projection's inputs.
        inputs: `small`: module after module, on what the smaller model as refitted so far gives it; `whole`: every
            module for itself, on what the whole model gives it.
        stream: with `small`, whether the residual stream is brought back to that of the whole model; otherwise the
            output of each module.
        statistics: whether running statistics of batch norms follow what the smaller model gives them.
    """

    utterances: int = 256
    ridge: float = 1e-3
    inputs: RefitInputs = "small"
    stream: bool = True
    statistics: bool = True

    def __post_init__(self) -> None:
        check_at_least("refit.utterances", self.utterances, 1)
        share = "give a share of the inputs' mean square, above 0"
        check(0 < self.ridge < math.inf, "refit.ridge", self.ridge, share)
        check_choice("refit.inputs", self.inputs, get_args(RefitInputs))


@dataclass(frozen=True)
class Refitted:
    """What the refit did to one module.

    Attributes:
        place: the module, by its numbers in the whole model.
        before: squared error of its output before, as a share of the target's power.
        after: the same after it.
        frames: how many frames it was fitted on.
        inputs: how many inputs its last projection has.
    """

    place: Place
    before: float
    after: float
    frames: int
    inputs: int


@dataclass
class _Wanted:
    """What one module has in the whole model, batch by batch: inputs and outputs of its last projection, the stream."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    streams: list[Tensor] = field(default_factory=list)


class Repair:
    """The refit of one smaller model.

    Args:
        small: refitted in place; in eval mode.
        whole: the model it was made from, which stays as it is; in eval mode.
        batches: what both are called with, on their device.
        config: how it is done.
        total: over the processes.
    """

    def __init__(
        self,
        small: PreTrainedModel,
        whole: PreTrainedModel,
        batches: Sequence[Inputs],
        config: RefitConfig,
        total: Total = alone,
    ) -> None:
        self.config, self.total = config, total
        outputs: list[Tensor] = []
        last = [part(whole, group.last) for group in front_groups(whole)[-1:]]
        self.whole = Passage(whole, batches, [(layer, _keeping(outputs=outputs)) for layer in last])
        self._in_front = self._refitted_front(small, batches, outputs) if _front_differs(small, whole) else []
        self.small = Passage(small, batches)
        before = structure_of(whole).survivors
        self._there = {before.index(block) for block in structure_of(small).survivors}

    def run(self) -> Iterator[Refitted]:
        """Refits module after module, and yields what it did to each, first to what was refitted before the blocks."""
        yield from self._in_front
        for block in range(len(self.whole.blocks)):
            if block in self._there:
                yield from self._block(block)
                self.small.advance()
            self.whole.advance()

    def _refitted_front(
        self, small: PreTrainedModel, batches: Sequence[Inputs], wanted: Sequence[Tensor]
    ) -> list[Refitted]:
        """Refits the layer that begins the residual stream to what it gives in the whole model."""
        *_, group = groups = front_groups(small)
        layer, targets = part(small, group.last), iter(wanted)
        weight = with_bias(layer)
        moments = moments_at(layer, weight)
        Passage(small, batches, [(layer, lambda inputs, _: moments.add(inputs, next(targets)))])
        moments.gather(self.total, group.last)
        return [self._set(Place(IN_FRONT, len(groups) - 1), layer, weight, moments)]

    def _block(self, block: int) -> Iterator[Refitted]:
        statistics = Statistics()
        wanted, ratios = self._look(statistics)
        for name, values in wanted.items():
            if self.small.branch(name) is None:
                continue
            place = Place.of(block, name)
            if self.config.statistics and name == "conv":
                kept = units_left(self.small.model, self.whole.model, place)
                renew_statistics_(self.small, statistics, kept, self.total)
            yield self._module(place, values, ratios[name])
            self.small.settle(name)
            wanted[name] = _Wanted()

    def _look(self, statistics: Statistics) -> tuple[dict[str, _Wanted], dict[str, float]]:
        """What the modules of the next block have in the whole model, and by how much the stream counts at each."""
        gauge, config = StreamGauge(self.whole), self.config
        wanted = {name: _Wanted() for name in gauge.names}
        norm = running_norm(self.whole)
        with gauge.watching(), ExitStack() as stack:
            if norm is not None:
                stack.enter_context(self.whole.seen("conv", norm, statistics.look))
            for name, values in wanted.items():
                inputs = values.inputs if config.inputs == "whole" else None
                stack.enter_context(self.whole.observed({name: _keeping(inputs, values.outputs)}))
                if config.inputs == "small" and config.stream:
                    before = norm_before(self.whole, name)
                    stack.enter_context(self.whole.seen(name, before, _keeping(values.streams)))
            self.whole.run()
        return {name: wanted[name] for name in gauge.order}, {
            name: found[0] / found[1] if found else 0.0 for name, found in gauge.factors(self.total).items()
        }

    def _module(self, place: Place, wanted: _Wanted, ratio: float) -> Refitted:
        layer: Any = self.small.last_projection(place.name)
        weight = with_bias(layer)
        moments = moments_at(layer, weight)
        if self.config.inputs == "whole":
            columns = self._columns(place)
            for inputs, outputs in zip(wanted.inputs, wanted.outputs, strict=True):
                moments.add(inputs[:, columns], outputs)
        else:
            self._collect(place.name, layer, wanted, ratio, moments)
        moments.gather(self.total, place.label)
        return self._set(place, layer, weight, moments)

    def _set(self, place: Place, layer: nn.Module, weight: Tensor, moments: Moments) -> Refitted:
        new = refitted(weight, moments, self.config.ridge)
        set_with_bias_(layer, new)
        return Refitted(place, *squared_errors(with_bias(layer), moments), int(moments.frames), moments.width)

    def _collect(self, name: str, layer: nn.Module, wanted: _Wanted, ratio: float, moments: Moments) -> None:
        """Runs the smaller model up to a module, and adds what that has there and what it is to give."""
        streams: list[Tensor] = []
        outputs, streams_before = iter(wanted.outputs), iter(wanted.streams)

        def add(inputs: Tensor, _: Tensor) -> None:
            target = at_least_single(next(outputs))
            if streams:
                target = target + ratio * (at_least_single(next(streams_before)) - at_least_single(streams.pop()))
            moments.add(inputs, target)

        with ExitStack() as stack:
            if ratio and self.config.stream:
                stack.enter_context(self.small.seen(name, norm_before(self.small, name), _keeping(streams)))
            stack.enter_context(self.small.seen(name, layer, add))
            self.small.run(until=name)

    def _columns(self, place: Place) -> Tensor:
        """Which inputs of a last projection of the whole model the smaller one still has."""
        size = inputs_per_unit(self.whole, place.name)
        units = torch.tensor(units_left(self.small.model, self.whole.model, place), device=self.whole.model.device)
        return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


def _front_differs(small: PreTrainedModel, whole: PreTrainedModel) -> bool:
    return front_channels(small) != front_channels(whole)


def _keeping(inputs: list[Tensor] | None = None, outputs: list[Tensor] | None = None) -> Look:
    def look(before: Tensor, after: Tensor) -> None:
        if inputs is not None:
            inputs.append(before)
        if outputs is not None:
            outputs.append(after)

    return look
