"""Gates: learnable hard-concrete masks on the modules and units of any supported model.

A unit gate multiplies the input of its module's last projection, a module gate the module's output, bias included.
Both are products with the projection's weight (columns) and bias, and that is how they are applied: the activations
are not touched, so learning gates costs hardly more than plain training. A closed gate and a removed part are the
same function, and values between 0 and 1 fold into the weights exactly (`Gates.fold_`).

Masks per module (the coarse gates) follow Jiang et al. 2023 (arXiv 2305.19549), units inside them CoFi (Xia et al.
2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from compress.config import check, check_choice
from compress.conformers import FRONT_KIND, UNIT_KINDS, block_units, family_of, front_groups, part
from compress.deciding.attached import ColumnShape, KeptNorm, Scale, Site
from compress.deciding.by_speech import BY_SPEECH
from compress.deciding.hard_concrete import HardConcrete
from compress.deciding.selection import Scores
from compress.structure import IN_FRONT, MODULES, Kept, Place, Structure
from compress.surgery.slicing import assign

IN_BLOCKS = ("module", *UNIT_KINDS)
GATE_KINDS = (*IN_BLOCKS, FRONT_KIND)
CLOSED, OPEN = 0.1, 0.9  # probabilities of being open beyond which a gate counts as decided
NEVER = -100.0  # logarithm of a probability that is as good as 0
LOG_ALPHA_LIMIT = 4.605170185988092  # ln 100, as in CoFi: beyond it a gate would not find back


@dataclass(frozen=True)
class GateConfig:
    """What is gated, and how the gates start.

    Attributes:
        units: any combination of `module`, `head`, `ffn_unit`, `conv_channel`; and `front_channel`, for channels in
            front of the blocks, which `budget.front` adds.
        include: globs over gate names such as `blocks.0.attention.module`, `blocks.11.ffn1.ffn_unit` or
            `front.conv0.front_channel`.
        exclude: globs over gate names; they win over `include`.
        drop_rate: probability of being closed with which gates of modules, heads and channels start.
        ffn_drop_rate: the same for FFN units.
        temperature: of the hard-concrete distribution.
        low: lower end of its stretch.
        high: upper end of its stretch.
        start: `obs`, `fisher` or `variance`: gates of units start where scores by speech put them, so that the expected
            size is the budget from the first step; null: all of a kind start alike.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"low": (-100, 0), "high": (1, 100)}

    units: tuple[str, ...] = IN_BLOCKS
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    drop_rate: float = 0.01
    ffn_drop_rate: float = 0.01
    temperature: float = 2 / 3
    low: float = -0.1
    high: float = 1.1
    start: str | None = None

    def __post_init__(self) -> None:
        check(bool(self.units), "gates.units", list(self.units), f"choose from {', '.join(GATE_KINDS)}")
        for kind in self.units:
            check_choice("gates.units", kind, GATE_KINDS)
        if self.start is not None:
            check_choice("gates.start", self.start, BY_SPEECH)
            check(set(self.units) != {"module"}, "gates.units", list(self.units), "gates of units start from scores")
        lowest = 1 - float(self.distribution.probability_open(torch.tensor(LOG_ALPHA_LIMIT)))
        remedy = f"gates can start closed with a probability above {lowest:.4f}"
        for name in ("drop_rate", "ffn_drop_rate"):
            rate = getattr(self, name)
            within = 0 < rate < 1 and abs(self.distribution.log_alpha_for(rate)) <= LOG_ALPHA_LIMIT
            check(within, f"gates.{name}", rate, remedy)

    @property
    def distribution(self) -> HardConcrete:
        """The gates' distribution."""
        return HardConcrete(self.temperature, self.low, self.high)

    def with_front(self, front: bool) -> GateConfig:
        """The same, with gates on channels in front of the blocks if they may go."""
        return replace(self, units=tuple(dict.fromkeys((*self.units, FRONT_KIND)))) if front else self

    def wants(self, name: str) -> bool:
        """Whether the gates of that name are wanted."""
        return (
            name.rpartition(".")[2] in self.units
            and any(fnmatch(name, glob) for glob in self.include)
            and not any(fnmatch(name, glob) for glob in self.exclude)
        )


@dataclass(frozen=True)
class GateGroup:
    """Gates of one kind in one module: `size` entries from `start` in the vector of all gates.

    Those of channels in front of the blocks have the numbers of their `Place`, and `front`, the name of their group.
    """

    block: int
    module: int
    kind: str
    start: int
    size: int
    front: str | None = None

    @property
    def place(self) -> Place:
        """The module that they are gates of."""
        return Place(self.block, self.module)

    @property
    def name(self) -> str:
        """The name that globs match, e.g. `blocks.3.conv.conv_channel`."""
        return f"front.{self.front}.{self.kind}" if self.front else f"blocks.{self.block}.{self.place.name}.{self.kind}"

    @property
    def span(self) -> slice:
        """Where the group lies in the vector of all gates."""
        return slice(self.start, self.start + self.size)

    def kept(self, structure: Structure) -> Kept:
        """What a Structure keeps where they are."""
        if self.front:
            return structure.of_front(self.front)
        block = structure.blocks[self.block]
        return cast(Kept, getattr(block, self.place.name)) if block else None


class Gates(nn.Module):
    """The gates of one model. All of them are one float32 vector, so one draw serves the whole model.

    Attributes:
        log_alpha: `(gates,)`, the locations of the hard-concrete gates.
        groups: which entries belong to which module.
        folds_exactly: whether `fold_` gives the very function of the gated model. Not so where channels are gated under
            a norm whose statistics run over channels: those follow the gates, and no weight can hold that.

    Raises:
        ValueError: on construction, if `config` selects nothing that this model has.
    """

    _whole: Tensor
    _never: Tensor
    _rows: Tensor

    def __init__(self, model: PreTrainedModel, config: GateConfig | None = None) -> None:
        super().__init__()
        self.config = config or GateConfig()
        self.distribution = self.config.distribution
        self.family = family_of(model)
        self.counts = [tuple(counts[m] for m in MODULES) for counts in block_units(model)]
        self.front = front_groups(model)
        self.groups = tuple(self._plan())
        if not self.groups:
            raise ValueError(
                f"gates.units {list(self.config.units)} with include {list(self.config.include)} and exclude "
                f"{list(self.config.exclude)} select no gate of this model; names look like "
                "'blocks.0.attention.module' and 'blocks.0.ffn1.ffn_unit'."
            )
        self.log_alpha = nn.Parameter(torch.cat([self._initial(group) for group in self.groups]))
        self._scales: list[tuple[Place, Scale, Scale | None]] = []
        self._norms: dict[Place, dict[str, KeptNorm]] = {}
        self._classes: dict[Any, type[nn.Module]] = {}
        self._add_rows()
        sites = {place: self._site(model, place) for place in {group.place for group in self.groups}}
        self._shapes: dict[Place, ColumnShape] = {place: site.shape for place, site in sites.items()}
        of_units = {group.place for group in self.groups if group.kind != "module"}
        self.folds_exactly = not any(sites[place].norms for place in of_units)

    def _plan(self) -> Iterator[GateGroup]:
        start = 0
        for block, counts in enumerate(self.counts):
            for module, units in enumerate(counts):
                kind = self.family.modules[MODULES[module]].unit_kind
                for group in (
                    GateGroup(block, module, "module", start, 1),
                    GateGroup(block, module, kind, start, units),
                ):
                    if units and self.config.wants(group.name):
                        yield GateGroup(block, module, group.kind, start, group.size)
                        start += group.size
        for number, channels in enumerate(self.front):
            group = GateGroup(IN_FRONT, number, FRONT_KIND, start, channels.channels, channels.name)
            if self.config.wants(group.name):
                yield group
                start += group.size

    def _add_rows(self) -> None:
        """Tells where each gate is summed: rows of modules, then of their units, then of groups of channels."""
        units = torch.tensor(self.counts, dtype=torch.float32).flatten()
        whole = [(units > 0).float(), units, torch.tensor([float(group.channels) for group in self.front])]
        never = [torch.zeros_like(units), torch.where(units > 0, NEVER, 0.0), torch.zeros(len(self.front))]
        rows, sizes = torch.tensor([self._row(g) for g in self.groups]), torch.tensor([g.size for g in self.groups])
        total = sum(group.size for group in self.groups)
        for name, without in (("_whole", whole), ("_never", never)):
            self.register_buffer(name, torch.cat(without).index_fill(0, rows, 0.0), persistent=False)
        self.register_buffer("_rows", rows.repeat_interleave(sizes, output_size=total), persistent=False)

    def _row(self, group: GateGroup) -> int:
        places = len(self.counts) * len(MODULES)
        if group.front:
            return 2 * places + group.module
        return group.block * len(MODULES) + group.module + (0 if group.kind == "module" else places)

    def _site(self, model: PreTrainedModel, place: Place) -> Site:
        return Site.of(model, place, self.front[place.module] if place.in_front else None)

    def _initial(self, group: GateGroup) -> Tensor:
        rate = self.config.ffn_drop_rate if group.kind == "ffn_unit" else self.config.drop_rate
        return torch.full((group.size,), self.distribution.log_alpha_for(rate))

    def attach(self, model: PreTrainedModel) -> None:
        """Puts the gates on the last projections of a model, in place; its tensors keep their values."""
        for place in sorted({group.place for group in self.groups}):
            site = self._site(model, place)
            projection = site.projection
            weight, bias = Scale(), Scale() if projection.bias is not None and not place.in_front else None
            parametrize.register_parametrization(projection, "weight", weight)
            if bias is not None:
                parametrize.register_parametrization(projection, "bias", bias)
            self._share_class(projection, bias is None)
            self._scales.append((place, weight, bias))
            self._norms[place] = {path: KeptNorm(part(site.owner, path)) for path in site.norms}
            for path, kept_norm in self._norms[place].items():
                assign(site.owner, path, kept_norm)

    def _share_class(self, projection: nn.Module, without_bias: bool) -> None:
        """Gives projections that are parametrized alike one class: `torch.compile` compiles anew for each class."""
        own = type(projection)
        projection.__class__ = self._classes.setdefault((own.__bases__, without_bias), own)

    def detach(self, model: PreTrainedModel) -> None:
        """Takes the gates off a model, in place: the tensors are again what they were, without any gate's effect."""
        for place, _, bias in self._scales:
            site = self._site(model, place)
            projection = site.projection
            shared = type(projection)  # torch takes the tensors' properties off the class, which others still need
            projection.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            for name in ("weight", "bias") if bias is not None else ("weight",):
                parametrize.remove_parametrizations(projection, name, leave_parametrized=False)
            for path, kept_norm in self._norms[place].items():
                assign(site.owner, path, kept_norm.without())
        self._scales, self._norms = [], {}

    def sample(self, generator: torch.Generator | None = None) -> None:
        """Draws all gates and puts them to work for the next forward pass."""
        self.use(self.distribution.sample(self.log_alpha, generator))

    def use(self, values: Tensor, kept: Tensor | None = None, *, joint: bool = True) -> None:
        """Puts given gate values to work for the following forward passes.

        Args:
            values: `(gates,)` in [0, 1], in the order of `groups`.
            kept: `(gates,)`, 1 for parts that a decided Structure keeps, whatever their value; None: values above 0.
            joint: whether a module's gate multiplies its units' gates; otherwise, where units have gates, it acts on
                the bias alone.
        """
        by_place = self._by_place(values)
        kept_by_place = self._by_place((values > 0).float() if kept is None else kept)
        for place, weight, bias in self._scales:
            whole, units = by_place[place]
            multiplied = joint or units is None
            scale = whole if whole is not None and multiplied else torch.ones((), device=values.device)
            weight.value = scale if units is None else self._shapes[place].columns(scale * units)
            if bias is not None:
                bias.value = None if whole is None else whole
            for kept_norm in self._norms[place].values():
                kept_norm.kept = kept_by_place[place][1]

    def reset(self) -> None:
        """Lets the following forward passes run as if there were no gates."""
        for _, weight, bias in self._scales:
            weight.value = None
            if bias is not None:
                bias.value = None
        for kept_norms in self._norms.values():
            for kept_norm in kept_norms.values():
                kept_norm.kept = None

    def values(self, structure: Structure) -> Tensor:
        """The noise-free gate values of a decided Structure: `(gates,)`, 0 for what it does not keep.

        What it keeps has the value of eq. 13 or, where that is less, the mean of the gate, which is above 0: a budget
        may have room for units whose gates are more often closed than open, and what is kept is not multiplied by 0.
        """
        log_alpha = self.log_alpha.detach()
        values = torch.maximum(self.distribution.deterministic(log_alpha), self.distribution.mean(log_alpha))
        return values * self.mask(structure)

    def mask(self, structure: Structure) -> Tensor:
        """`(gates,)`, 1 for parts that a Structure keeps and 0 for the others."""
        mask = torch.zeros_like(self.log_alpha.detach())
        for group in self.groups:
            kept = group.kept(structure)
            if kept is not None:
                chosen = slice(None) if kept == "all" or group.kind == "module" else list(kept)
                mask[group.span][chosen] = 1.0
        return mask

    @torch.no_grad()
    def fold_(self, model: PreTrainedModel, values: Tensor) -> None:
        """Multiplies gate values into the last projections of a model without gates, in place.

        Args:
            model: the model the gates were made for, detached from them.
            values: `(gates,)` in [0, 1].
        """
        for place, (whole, units) in self._by_place(values).items():
            projection = self._site(model, place).projection
            if units is not None:
                projection.weight.mul_(self._shapes[place].columns(units))
            if whole is not None:
                projection.weight.mul_(whole)
                if projection.bias is not None:
                    projection.bias.mul_(whole)

    def _by_place(self, values: Tensor) -> dict[Place, tuple[Tensor | None, Tensor | None]]:
        """Gate values of each module: its own, and those of its units."""
        places: dict[Place, tuple[Tensor | None, Tensor | None]] = {}
        for group, of_group in zip(self.groups, values.split([group.size for group in self.groups]), strict=True):
            whole, units = places.get(group.place, (None, None))
            places[group.place] = (of_group, units) if group.kind == "module" else (whole, of_group)
        return places

    def expected(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The expected Structure, differentiable in `log_alpha`.

        Returns:
            Three float32 tensors `(blocks, 4)`: the probability that each module stays; given that, the expected number
            of its units that stay, and the probability that any of them does. Parts without gates stay for certain;
            removed modules count 0. And `(groups,)`: the expected number of channels of each group in front of them.
        """
        probability = self.distribution.probability_open(self.log_alpha)
        closed = self.distribution.log_probability_closed(self.log_alpha)
        places = len(self.counts) * len(MODULES)
        modules, units, channels = self._summed(self._whole, probability).tensor_split((places, 2 * places))
        _, none_open, _ = self._summed(self._never, closed).tensor_split((places, 2 * places))
        shape = len(self.counts), len(MODULES)
        return modules.view(shape), units.view(shape), -none_open.view(shape).expm1(), channels

    def _summed(self, without: Tensor, values: Tensor) -> Tensor:
        """`(rows,)`: sums over the gates of each, on whatever stands where there are none."""
        return without.index_add(0, self._rows, values)

    def entry_name(self, index: int) -> str:
        """The name of one entry of `log_alpha`, e.g. `blocks.3.conv.conv_channel[17]`."""
        group = next(group for group in self.groups if group.start <= index < group.start + group.size)
        return group.name if group.kind == "module" else f"{group.name}[{index - group.start}]"

    @torch.no_grad()
    def scores(self) -> Scores:
        """How much each gated part is wanted: the probability that its gate is open."""
        probability = self.distribution.probability_open(self.log_alpha).double().cpu()
        modules = {g.place: float(probability[g.start]) for g in self.groups if g.kind == "module"}
        units = {g.place: probability[g.span].tolist() for g in self.groups if g.kind != "module"}
        return Scores(self.family.name, modules, units)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keeps the locations within +-ln 100 (as CoFi does), so that every gate can still change its mind."""
        self.log_alpha.clamp_(-LOG_ALPHA_LIMIT, LOG_ALPHA_LIMIT)

    @torch.no_grad()
    def statistics(self) -> dict[str, float]:
        """Per kind of gate, the mean probability of being open and the share that is undecided (0.1 to 0.9)."""
        probability = self.distribution.probability_open(self.log_alpha)
        result = {}
        for kind in GATE_KINDS:
            of_kind = [probability[group.span] for group in self.groups if group.kind == kind]
            if of_kind:
                together = torch.cat(of_kind)
                undecided = ((together > CLOSED) & (together < OPEN)).float()
                result[f"open/{kind}"] = float(together.mean())
                result[f"undecided/{kind}"] = float(undecided.mean())
        return result
