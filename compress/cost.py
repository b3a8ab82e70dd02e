"""Cost: parameters and MACs of a model and of every Structure of it.

No formula of any family stands here. A skeleton of the model is measured on the meta device as it is, and once more
with about half of every module's units removed by the very code that removes them for real. Both costs are linear in
the number of units of a module, so two measurements give its fixed cost and its cost per unit exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import (
    Family,
    FrontGroup,
    Module,
    block_units,
    blocks_of,
    family_of,
    frame_outputs,
    front_groups,
    numbered_blocks,
    original_config,
    part,
    skeleton,
    structure_of,
    submodule,
)
from compress.conformers.originals import ByContent
from compress.running.aspects import ASPECTS, without_what_removal_drops
from compress.structure import MODULES, Block, Place, Structure, count_kept
from compress.surgery.front_costs import NO_FRONT, FrontCosts, LayerCost
from compress.surgery.slicing import drop_dead_, shrink_
from compress.surgery.stock import stock_config

Metric = Literal["params", "macs", "latency"]
Denominator = Literal["total", "encoder"]

PER_MILLISECOND = 1e6
"""Nanoseconds in a millisecond."""

DEFAULT_SECONDS = 10.0
"""Length of the utterance for which MACs are counted, unless another one is stated."""


@dataclass(frozen=True)
class Size:
    """Parameters and multiply-accumulate operations (MACs) of one model as it is.

    Attributes:
        total: all parameters.
        encoder: parameters of the encoder, as the family delimits it.
        blocks: parameters per block, by module and `"norm"` (the block's final norm); a module's norm counts with it.
        macs: MACs of one utterance of `seconds` through the whole model; without a CTC head, up to the encoder's end:
            how often a decoder runs depends on what is said.
        encoder_macs: the part of them that is spent in the encoder.
        block_macs: MACs per block and module.
        seconds: length of that utterance.
    """

    total: int
    encoder: int
    blocks: list[dict[str, int]]
    macs: int
    encoder_macs: int
    block_macs: list[dict[str, int]]
    seconds: float

    @property
    def macs_per_second(self) -> float:
        """MACs per second of audio."""
        return self.macs / self.seconds

    @property
    def macs_end(self) -> Literal["logits", "encoder"]:
        """With what the counted MACs end: the logits of a CTC head, or the encoder where there is none."""
        return "logits" if self.macs > self.encoder_macs else "encoder"


@dataclass(frozen=True)
class CostTable:
    """The cost of every Structure of one model, for one metric and one denominator.

    Attributes:
        metric: `"params"`, `"macs"`, or `"latency"`: nanoseconds, see `compress.latency`.
        denominator: `"total"` (the whole model) or `"encoder"`.
        seconds: length of the utterance that MACs refer to.
        full: cost of the model as it is, the 100 % of budgets; parts that no forward pass uses included.
        base: cost of what lies outside the blocks: what always stays, and all channels in front of them.
        front: what of it channels in front of the blocks cost.
        block: per block, the cost of its final norm.
        fixed: per block and module, the cost of the module beside its units.
        unit: per block and module, the cost of one unit.
        units: per block and module, the number of units.
        beside: what a Structure costs beside all that: parts that no forward pass uses and its class must have, less
            those of aspects that go with blocks.
        again: the table of another form of the model, in the same terms, from its config.
    """

    metric: Metric
    denominator: Denominator
    seconds: float
    full: int
    base: int
    block: tuple[int, ...]
    fixed: tuple[tuple[int, ...], ...]
    unit: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    front: FrontCosts = NO_FRONT
    beside: Callable[[Structure], int] = lambda structure: 0
    again: Callable[[PreTrainedConfig], CostTable] | None = None

    def said(self, cost: int) -> str:
        """A cost in words, such as `1,909,410 parameters`."""
        if self.metric == "latency":
            return f"{cost / PER_MILLISECOND:,.2f} ms"
        return f"{cost:,} {'parameters' if self.metric == 'params' else 'MACs'}"

    def of_model(self, config: PreTrainedConfig) -> CostTable:
        """The table of another form of the model in the same terms."""
        assert self.again is not None
        return self.again(config)

    def of(self, structure: Structure) -> int:
        """The exact cost of a Structure of this model."""
        kept = [
            [count_kept(getattr(block, name), n) for name, n in zip(MODULES, counts, strict=True)] if block else None
            for block, counts in zip(structure.blocks, self.units, strict=True)
        ]
        return (
            self.base
            - self.front.saved(self.front.kept(structure))
            + self.beside(structure)
            + sum(
                self.block[b] + sum(self.module(b, m, count) for m, count in enumerate(counts))
                for b, counts in enumerate(kept)
                if counts is not None
            )
        )

    def module(self, block: int, module: int, kept: int) -> int:
        """The cost of a module (by its number in running order) with so many units kept; 0 units: it is removed."""
        return self.fixed[block][module] + kept * self.unit[block][module] if kept else 0

    def each(self, place: Place) -> int:
        """The cost of one unit of a module; of a channel in front of the blocks, while all others stay."""
        return self.front.of_channel(place.module) if place.in_front else self.unit[place.block][place.module]

    @property
    def always(self) -> int:
        """The cost of what stays as long as no block is dropped and no channel in front of them."""
        return self.base + sum(self.block)

    def expected(
        self, module_open: Tensor, units_open: Tensor, any_open: Tensor, channels_open: Tensor | None = None
    ) -> Tensor:
        """The expected cost under independent gates, differentiable.

        Args:
            module_open: `(blocks, 4)`, the probability that a module stays.
            units_open: `(blocks, 4)`, the expected number of units that stay, given that the module stays.
            any_open: `(blocks, 4)`, the probability that any of its units stays, given that: a module without units is
                removed, whatever its own gate says.
            channels_open: `(groups,)`, the expected number of channels of each group in front of the blocks; None: all.

        Returns:
            A float64 scalar. It is the exact expectation: costs are linear in units, gates are independent.
        """
        both = torch.tensor((self.fixed, self.unit), dtype=torch.float64)
        fixed, unit = both.to(module_open.device, non_blocking=True).unbind()  # a GPU that is busy does not wait for it
        modules = module_open.double() * (fixed * any_open.double() + unit * units_open.double())
        if channels_open is None or not self.front.channels:  # none, or none whose cost is known
            return modules.sum() + self.always
        return modules.sum() + self.always - self.front.saved(channels_open.double().unbind())


def size_of(model: PreTrainedModel, seconds: float = DEFAULT_SECONDS) -> Size:
    """Counts the parameters of a model as it is, and its MACs by torch's FlopCounterMode on the meta device.

    Args:
        model: a model of any family, on any device.
        seconds: length of the utterance for the MACs.
    """
    return _size(ByContent.of(model.config), seconds)


@lru_cache(maxsize=64)
def _size(described: ByContent, seconds: float) -> Size:
    parameters, macs = _counted(described, "params", seconds), _counted(described, "macs", seconds)
    return Size(
        total=parameters.total,
        encoder=parameters.encoder,
        blocks=parameters.blocks,
        macs=macs.total,
        encoder_macs=macs.encoder,
        block_macs=macs.blocks,
        seconds=seconds,
    )


def cost_table(
    config: PreTrainedConfig,
    metric: Metric = "params",
    denominator: Denominator = "total",
    seconds: float = DEFAULT_SECONDS,
) -> CostTable:
    """Measures what every Structure of a model costs; of an elastic one, without what its sizes have of their own.

    Args:
        config: of a model of any family, compressed or not.
        metric: what is counted, parameters or MACs.
        denominator: of the whole model or of its encoder.
        seconds: length of the utterance for MACs.
    """
    config = without_what_removal_drops(config)
    measured = _measurements(ByContent.of(config), metric, seconds)
    dense, whole, halves = measured.dense, measured.whole, measured.halves
    unit, fixed = [], []
    for b, counts in enumerate(measured.units):
        costs, half_costs = whole.blocks[b], halves.blocks[b]
        slopes = {m: _slope(costs[m], half_costs[m], counts[m], measured.half_units[b][m]) for m in MODULES}
        unit.append(tuple(slopes[m] for m in MODULES))
        fixed.append(tuple(costs[m] - slopes[m] * counts[m] for m in MODULES))
    norms = tuple(costs["norm"] for costs in whole.blocks)
    in_blocks = sum(sum(costs.values()) for costs in whole.blocks)
    front = FrontCosts.of_layers(measured.groups, whole.front_of(denominator))
    return CostTable(
        metric=metric,
        denominator=denominator,
        seconds=seconds,
        full=dense.of(denominator),
        base=whole.of(denominator) - in_blocks,
        block=norms,
        fixed=tuple(fixed),
        unit=tuple(unit),
        units=tuple(tuple(counts[m] for m in MODULES) for counts in measured.units),
        front=front,
        beside=partial(_beside, config if metric == "params" else None, denominator),
        again=partial(cost_table, metric=metric, denominator=denominator, seconds=seconds),
    )


def _beside(config: PreTrainedConfig | None, denominator: Denominator, structure: Structure) -> int:
    """Parameters, which no forward pass uses, of the original's own class where that holds what a Structure leaves.

    Less those, outside of the encoder, that aspects have for blocks which are left out.
    """
    if config is None:
        return 0
    after, dead = structure_of(config).then(structure), family_of(config).dead
    small = stock_config(original_config(config), after) if dead else None
    unused = sum(_count(part(skeleton(small, original=False), path)) for path in dead) if small else 0
    return unused - (sum(aspect.lost(config, after) for aspect in ASPECTS) if denominator == "total" else 0)


@dataclass(frozen=True)
class _Cost:
    """Parameters or MACs: of a whole model, of its encoder, by block and module, and by layer in front of them."""

    total: int
    encoder: int
    blocks: list[dict[str, int]]
    front: dict[str, LayerCost]
    front_in_encoder: bool

    def of(self, denominator: Denominator) -> int:
        return self.total if denominator == "total" else self.encoder

    def front_of(self, denominator: Denominator) -> dict[str, LayerCost]:
        return self.front if denominator == "total" or self.front_in_encoder else {}


@dataclass(frozen=True)
class _Measurements:
    """A model as it is, without parts that no forward pass uses, and with half of its units."""

    dense: _Cost
    whole: _Cost
    halves: _Cost
    units: list[dict[str, int]]
    half_units: list[dict[str, int]]
    groups: list[FrontGroup]


@lru_cache(maxsize=128)
def _measurements(described: ByContent, metric: Metric, seconds: float) -> _Measurements:
    model, dense = skeleton(described.config, original=False), _counted(described, metric, seconds)
    units, groups = block_units(model), front_groups(model)
    drop_dead_(model)
    whole = _count_of(model, metric, seconds) if metric == "params" else dense
    shrink_(model, Structure(family_of(model).name, tuple(_half(counts) for counts in units)))
    return _Measurements(dense, whole, _count_of(model, metric, seconds), units, block_units(model), groups)


@lru_cache(maxsize=64)
def _counted(described: ByContent, metric: Metric, seconds: float) -> _Cost:
    """The cost of a model as it is."""
    return _count_of(_bones(described), metric, seconds)


@lru_cache(maxsize=1)
def _bones(described: ByContent) -> PreTrainedModel:
    """A skeleton to be counted only."""
    return skeleton(described.config, original=False)


def _count_of(model: PreTrainedModel, metric: Metric, seconds: float) -> _Cost:
    return _parameters(model) if metric == "params" else _macs(model, seconds)


def _half(counts: dict[str, int]) -> Block:
    return Block(**{m: tuple(range((n + 1) // 2)) if n else None for m, n in counts.items()})


def _slope(whole: int, half: int, units: int, half_units: int) -> int:
    """Cost per unit. A module with a single unit has no unit that could go alone: all its cost is that unit's."""
    if units == half_units:
        return whole
    slope, rest = divmod(whole - half, units - half_units)
    assert rest == 0, "a module's cost must be linear in its number of units"
    return slope


def _parameters(model: PreTrainedModel) -> _Cost:
    family, blocks = family_of(model), []
    for block in blocks_of(model):
        parameters = {name: _module_parameters(block, module) for name, module in family.modules.items()}
        blocks.append(parameters | {"norm": _count(part(block, family.final_norm))})
    layers = {}
    for path in _front_paths(model):
        weight, *others = (parameter.numel() for parameter in part(model, path).parameters())
        layers[path] = (weight, sum(others))
    return _Cost(_count(model), _count(part(model, family.encoder)), blocks, layers, _front_in_encoder(family))


def _macs(model: PreTrainedModel, seconds: float) -> _Cost:
    family, flops, encoder = family_of(model), _flops_by_module(model, seconds), _counted_as(model)
    blocks = []
    for index in numbered_blocks(model):
        path = f"{encoder}{family.blocks.removeprefix(family.encoder)}.{index}."
        blocks.append({name: flops.get(path + m.path, 0) // 2 for name, m in family.modules.items()} | {"norm": 0})
    inside = _front_in_encoder(family)
    layers = {}
    for path in _front_paths(model):
        counted = encoder + path.removeprefix(family.encoder) if inside else f"{type(model).__name__}.{path}"
        layers[path] = (flops.get(counted, 0) // 2, 0)
    return _Cost(flops["Global"] // 2, flops.get(encoder, 0) // 2, blocks, layers, inside)


def _front_paths(model: PreTrainedModel) -> set[str]:
    return {path for group in front_groups(model) for path in (*group.rows, group.last)}


def _front_in_encoder(family: Family) -> bool:
    return all(path.startswith(f"{family.encoder}.") for path in family.front)


def _module_parameters(block: nn.Module, module: Module) -> int:
    """Parameters of a module and its norm; modules may contain their norm."""
    inside = module.norm.startswith(module.path + ".")
    if submodule(block, module) is None:
        return 0
    return _count(part(block, module.path)) + (0 if inside else _count(part(block, module.norm)))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _flops_by_module(model: PreTrainedModel, seconds: float) -> dict[str, int]:
    """Floating-point operations (two per MAC) of one utterance by dotted module name, by torch's own counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        frame_outputs(model, {family_of(model).features: dummy_input(model, seconds)})
    return {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}


def _counted_as(model: PreTrainedModel) -> str:
    """The name under which the counter has the encoder: it calls whatever is called first by its class."""
    family = family_of(model)
    return f"{type(model).__name__}.{family.encoder}" if family.has_ctc else type(part(model, family.encoder)).__name__


def dummy_input(model: PreTrainedModel, seconds: float, batch: int = 1, device: str = "meta") -> Tensor:
    """Random input for a model: `(batch, frames, features)`, or `(batch, samples)` where it takes raw audio."""
    family: Family = family_of(model)
    length = math.ceil(seconds * family.input_rate)
    features: Sequence[int] = ()
    if family.input_features:
        features = (family.features_per_bin * part(model.config, family.input_features),)
    return torch.randn(batch, length, *features, device=device)
