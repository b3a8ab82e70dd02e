"""Latency: what the modules of one model cost in time on one machine, as a file in whose terms a budget can be given.

One affine line stands for each kind of module: what calling it costs, and what every unit adds. Lines are fitted to
whole models (see `compress.profiling`), since modules that are timed alone miss what lies between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from itertools import zip_longest
from operator import getitem
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from compress.config import check, check_at_least
from compress.conformers import block_units, family_of, front_channels, original_config, skeleton, structure_of
from compress.conformers.originals import original_units
from compress.cost import CostTable, size_of
from compress.files.reading import ReadError, read_object
from compress.files.writing import write_json
from compress.running.aspects import without_what_removal_drops
from compress.structure import MODULES
from compress.surgery.front_costs import NO_FRONT, FrontCosts

LATENCY_FILE = "latency.json"
LINE_KINDS = ("ffn", "attention", "conv")
KIND_OF = {"ffn1": "ffn", "attention": "attention", "conv": "conv", "ffn2": "ffn"}
"""The kind of each module: both feed-forward modules of a block lie on one line."""
_FORM = {
    "model": dict,
    "conditions": dict,
    **{f"conditions.{name}": int for name in ("batch", "threads")},
    "conditions.seconds": float,
    "conditions.runtime": str,
    "nanoseconds.base": int,
    "nanoseconds.block": int,
    **{f"nanoseconds.{kind}.{part}": int for kind in LINE_KINDS for part in ("fixed", "unit")},
    "round_to": int,
    "error": dict,
}
_COSTS, _FRONT = "nanoseconds", "front"


class ProfileError(ValueError):
    """A latency profile that cannot be read, does not fit a model, or predicts badly."""


@dataclass(frozen=True)
class Line:
    """What a module of one kind costs, in whole nanoseconds.

    Attributes:
        fixed: where it has any units.
        unit: for each of its units.
    """

    fixed: int
    unit: int


@dataclass(frozen=True)
class LatencyProfile:
    """What a model and every smaller form of it cost in time.

    Attributes:
        model: which model it holds for: family, blocks, units of a block, and parameters, before any compression.
        conditions: of the measurement: runtime, device, threads, batch, seconds of speech and more.
        base: nanoseconds of what always stays; where `front` tells what channels there cost, without them.
        block: nanoseconds of a block beside its modules.
        lines: by kind of module.
        round_to: multiples of this are what the machine likes as widths.
        error: how far predictions are off for Structures that were not fitted: `mean`, `worst`, shares, and how many
            `structures`.
        front: what channels in front of the blocks cost, in nanoseconds; of no groups in profiles that do not tell.
    """

    model: dict[str, Any]
    conditions: dict[str, Any]
    base: int
    block: int
    lines: dict[str, Line]
    round_to: int
    error: dict[str, float]
    front: FrontCosts = NO_FRONT

    @classmethod
    def load(cls, path: str | Path) -> LatencyProfile:
        """Reads a file that `save` has written.

        Raises:
            ReadError: naming the file, and the key that is missing or of another type.
            ProfileError: naming a number that cannot be.
        """
        try:
            content = read_object(path, _FORM)
            form = _FORM | _form_of_front(content[_COSTS].get(_FRONT) or {})
            read_object(path, form)
        except ReadError as error:
            raise ReadError(f"{error} A latency profile is the file that `compress profile MODEL` writes.") from error
        costs = content[_COSTS]
        for name in (name for name, kind in form.items() if name.startswith(f"{_COSTS}.") and kind is int):
            value: Any = reduce(getitem, name.split("."), content)
            check_at_least(f"{path}: {name}", value, 0, error=ProfileError)
        check_at_least(f"{path}: round_to", content["round_to"], 1, error=ProfileError)
        return cls(
            model=content["model"],
            conditions=content["conditions"],
            base=costs["base"],
            block=costs["block"],
            lines={kind: Line(costs[kind]["fixed"], costs[kind]["unit"]) for kind in LINE_KINDS},
            round_to=content["round_to"],
            error=content["error"],
            front=_read_front(costs.get(_FRONT) or {}),
        )

    def save(self, path: str | Path) -> None:
        """Writes the profile, which `compress profile --help` describes."""
        groups = zip_longest(self.front.names, self.front.single, self.front.pair, fillvalue=0)
        front = {_FRONT: {name: {"single": single, "pair": pair} for name, single, pair in groups}}
        lines = {kind: asdict(line) for kind, line in self.lines.items()}
        costs = {"base": self.base, "block": self.block, **lines, **front}
        facts = {"model": self.model, "conditions": self.conditions, _COSTS: costs}
        write_json(path, {**facts, "round_to": self.round_to, "error": self.error})

    def table(self, config: PreTrainedConfig) -> CostTable:
        """The predicted time of every Structure of a model, in nanoseconds.

        Args:
            config: of the model that was profiled, or of a smaller form of it.

        Raises:
            ProfileError: if the profile is of another model, or the model lacks channels in front of its blocks and the
                profile does not tell what they cost.
        """
        self._require(config)
        model = skeleton(without_what_removal_drops(config), original=False)
        counts, channels = block_units(model), front_channels(model)
        self._require_front(channels, config)
        front = replace(self.front, channels=tuple(channels[name] for name in self.front.names))
        base = self.base + front.whole
        lines = [[(self.lines[KIND_OF[name]], units[name]) for name in MODULES] for units in counts]
        whole = sum(line.fixed + line.unit * units for block in lines for line, units in block if units)
        return CostTable(
            metric="latency",
            denominator="total",
            seconds=float(self.conditions["seconds"]),
            full=base + self.block * len(counts) + whole,
            base=base,
            block=(self.block,) * len(counts),
            fixed=tuple(tuple(line.fixed if units else 0 for line, units in block) for block in lines),
            unit=tuple(tuple(line.unit for line, _ in block) for block in lines),
            units=tuple(tuple(units for _, units in block) for block in lines),
            front=front,
            again=self.table,
        )

    @cached_property
    def summary(self) -> str:
        """The conditions in short."""
        said = self.conditions
        threads = "thread" if said["threads"] == 1 else "threads"
        return f"{said['seconds']:g} s, batch {said['batch']}, {said['threads']} {threads} of {said['runtime']}"

    def _require(self, config: PreTrainedConfig) -> None:
        for name, value in described_model(config).items():
            expected = self.model.get(name)
            remedy = "make one of this model with `compress profile`"
            what = f"the latency profile is of another model: its {name}"
            check(expected == value, what, expected, f"this model has {value!r}; {remedy}", ProfileError)

    def _require_front(self, channels: Mapping[str, int], config: PreTrainedConfig) -> None:
        if self.front.names and self.front.names != tuple(channels):
            raise ProfileError(
                "the latency profile is of another model: its groups of channels in front are "
                f"{', '.join(self.front.names)}; this model has {', '.join(channels) or 'none'}."
            )
        if (lacking := structure_of(config).front) and not self.front.names:
            raise ProfileError(
                f"The model lacks channels of {', '.join(lacking)} in front of its blocks, and this latency profile "
                "does not tell what those cost. Make one anew with `compress profile`."
            )


def _form_of_front(groups: Any) -> dict[str, type]:
    """What must be in a file beside `_FORM` where it tells what channels in front cost, by group in running order."""
    form: dict[str, type] = {f"{_COSTS}.{_FRONT}": dict} if groups else {}
    named = groups if isinstance(groups, dict) else {}
    return form | {f"{_COSTS}.{_FRONT}.{name}.{part}": int for name in named for part in ("single", "pair")}


def _read_front(groups: dict[str, dict[str, int]]) -> FrontCosts:
    single, pair = (tuple(group[part] for group in groups.values()) for part in ("single", "pair"))
    return FrontCosts(tuple(groups), (), single, pair[:-1])


def described_model(config: PreTrainedConfig) -> dict[str, Any]:
    """What tells a model and its smaller forms from others: of the model before compression."""
    units, whole = original_units(config), original_config(config)
    return {
        "family": family_of(config).name,
        "blocks": len(units),
        "units": dict(units[-1]),
        "parameters": size_of(skeleton(whole)).total,
    }
