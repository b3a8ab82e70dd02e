"""Sizes: how large the sub-nets of a supernet may be, and from a ranking of its parts to nested Structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from transformers import PreTrainedConfig

from compress.config import check_positive
from compress.cost import DEFAULT_SECONDS, CostTable, Denominator, cost_table
from compress.deciding.budget import (
    DEFAULT_ROUNDING,
    BudgetError,
    amounts_of,
    check_meant,
    check_time,
    profile_named,
    read_amount,
    require_length,
)
from compress.elastic.supernet.parts import Parts
from compress.structure import Structure

FULL = "100%"
"""Name of the full size, unless it is given in other words."""


@dataclass(frozen=True)
class SizesConfig:
    """The sizes, largest first; exactly one of `params`, `macs`, `latency` and `parts` is given.

    The full size is always there and need not be named.

    Attributes:
        params: numbers of parameters, as shares (`66%`) or amounts (`20M`).
        macs: MACs of one utterance of `seconds`, as shares or amounts.
        latency: times of a forward pass as `profile` predicts them, as shares or amounts (`20ms`).
        profile: the file of `compress profile` for the model.
        parts: numbers of parts.
        denominator: what shares are of and amounts count: the `total` model or its `encoder`.
        seconds: length of the utterance that MACs and times refer to.
    """

    SHORT_FOR: ClassVar[str] = "params"
    ONE_OF: ClassVar[tuple[str, ...]] = ("params", "macs", "latency", "parts")

    params: tuple[str, ...] | None = None
    macs: tuple[str, ...] | None = None
    latency: tuple[str, ...] | None = None
    profile: str | None = None
    parts: tuple[int, ...] | None = None
    denominator: Denominator = "total"
    seconds: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        given = [name for name in ("params", "macs", "latency", "parts") if getattr(self, name) is not None]
        if len(given) != 1 or not getattr(self, given[0]):
            raise BudgetError(
                "Give the sizes in one of sizes.params, sizes.macs, sizes.latency and sizes.parts, largest first, e.g. "
                f"--sizes.params [100%,66%,33%]; got {given or 'none'}."
            )
        check_positive("sizes.seconds", self.seconds, "the length of an utterance", error=BudgetError)
        check_time(self.latency is not None, self.profile, self.denominator, "sizes")
        for text in self.names if self.parts is None else ():
            check_meant(text, amounts_of("latency" if self.latency else "params"))

    @property
    def names(self) -> tuple[str, ...]:
        """The sizes as they were written."""
        return self.params or self.macs or self.latency or tuple(map(str, self.parts or ()))

    def amount(self, name: str, full: int) -> int:
        """A size as a cost; `full` is that of the whole model."""
        return read_amount(name, full, amounts_of("latency" if self.latency else "params"))

    def requested(self, name: str) -> str:
        """A size in words, with the conditions under which it counts; as budgets say it."""
        if self.latency is not None:
            return f"latency {name} at {profile_named(self.profile, 'sizes').summary}"
        where = f" at {self.seconds:g} s" if self.macs else ""
        return f"{'params' if self.params else 'macs'} {name} of {self.denominator}{where}"

    def require_decreasing(self, full: int) -> None:
        """Refuses sizes that do not decrease, or none of which is below that of the whole model, `full`.

        Raises:
            BudgetError: with the sizes.
        """
        smaller = [limit for name in self.names if (limit := self.amount(name, full)) < full]
        if not smaller or any(high <= low for high, low in pairwise(smaller)):
            raise BudgetError(
                f"{self.key} must decrease, largest first, and hold a size below 100%; got {', '.join(self.names)}."
            )

    @property
    def key(self) -> str:
        """The setting that holds them."""
        given = ("params", "macs", "latency", "parts")
        return f"sizes.{next(name for name in given if getattr(self, name))}"

    @property
    def round_to(self) -> int:
        """What widths are multiples of where units are chosen one by one."""
        return DEFAULT_ROUNDING if self.latency is None else profile_named(self.profile, "sizes").round_to

    def table(self, config: PreTrainedConfig) -> CostTable | None:
        """The costs of a model in the terms of these sizes; None where parts are counted."""
        if self.parts is not None:
            return None
        if self.latency is not None:
            profile = profile_named(self.profile, "sizes")
            require_length(profile, self.seconds, "sizes")
            return profile.table(config)
        return cost_table(config, "params" if self.params else "macs", self.denominator, self.seconds)


@dataclass(frozen=True)
class Subnets:
    """The sizes of one model.

    Attributes:
        parts: what they are made of.
        limits: by name, the largest cost of each size below the full one, largest first.
        full: name of the full size.
    """

    parts: Parts
    limits: Mapping[str, int]
    full: str

    @property
    def counted(self) -> str:
        """What costs are numbers of, in words."""
        table = self.parts.table
        if table is None:
            return "parts"
        what = {"params": "parameters", "macs": f"MACs of {table.seconds:g} s of speech", "latency": "nanoseconds"}
        return f"{what[table.metric]}, {table.denominator}"

    @property
    def smallest(self) -> int:
        """The largest cost of the smallest size."""
        return min(self.limits.values())

    def counts(self, ranking: Sequence[int]) -> dict[str, int]:
        """How many of the first parts of a ranking each size keeps, smallest first, with the full size at the end."""
        counts = {name: self._largest(ranking, limit) for name, limit in reversed(list(self.limits.items()))}
        return {**counts, self.full: len(self.parts)}

    def _largest(self, ranking: Sequence[int], limit: int) -> int:
        """The longest prefix whose exact cost fits; what a class must have beside its parts counts too."""
        count = self.parts.fitting(ranking, limit)
        while count > 1 and self.parts.cost(ranking[:count]) > limit:
            count -= 1
        return count

    def structures(self, ranking: Sequence[int]) -> dict[str, Structure]:
        """Nested Structures: each size keeps the longest prefix of the ranking that fits.

        Args:
            ranking: the numbers of all parts, most wanted first.

        Returns:
            Smallest first, with the full size at the end; none costs more than its limit.
        """
        below = {
            name: self.parts.structure(ranking[:count])
            for name, count in self.counts(ranking).items()
            if name != self.full
        }
        return {**below, self.full: Structure.full(self.parts.family, len(self.parts.units))}


def make_subnets(config: SizesConfig, parts: Parts) -> Subnets:
    """Reads the sizes of a model, and refuses before anything is trained what not every ranking could give.

    Args:
        config: what was asked for.
        parts: of the model, with the costs of `SizesConfig.table`.

    Raises:
        BudgetError: if they do not decrease, are more than the parts, lie above the whole model or below what always
            stays and the largest part, or so close together that the largest part does not fit between them.
    """
    full = parts.table.full if parts.table else len(parts)
    limits = {name: config.amount(name, full) for name in config.names}
    if len(limits) < len(config.names) or any(high <= low for high, low in pairwise(limits.values())):
        raise BudgetError(f"{config.key} must decrease, largest first; got {', '.join(config.names)}.")
    if above := [name for name, limit in limits.items() if limit > full]:
        raise BudgetError(f"{config.key} asks for {', '.join(above)}, but the whole model has {full:,}: name less.")
    names = [name for name, limit in limits.items() if limit >= parts.whole]
    below = {name: limit for name, limit in limits.items() if limit < parts.whole}
    full_name = names[0] if names else (FULL if parts.table else str(len(parts)))
    if len(names) > 1 or not below:
        raise BudgetError(
            f"{config.key} needs one size or more below that of the whole model, which is {parts.whole:,}, and at most "
            f"one that is not; got {', '.join(config.names)}."
        )
    if len(below) >= len(parts):
        raise BudgetError(
            f"{len(below) + 1} sizes in {config.key} need at least as many parts, but the model has {len(parts)}: "
            f"name fewer{_or_finer(parts)}."
        )
    _check_room(config, parts, below, full)
    return Subnets(parts, below, full_name)


def _check_room(config: SizesConfig, parts: Parts, below: Mapping[str, int], full: int) -> None:
    """Whatever the ranking, the smallest size must have room for a part, and the next for one more."""
    firsts = [next(parts.increments([number])) for number in range(len(parts))]
    widest, least = max(firsts), parts.fixed + max(firsts)
    largest, (name, smallest) = parts.entries[firsts.index(widest)].name, list(below.items())[-1]
    if smallest < least:
        raise BudgetError(
            f"The size {name} in {config.key} is {smallest:,}, which cannot be reached for sure: the smallest that can "
            f"is {least:,} ({least / full:.1%}), which is what always stays and the largest part, {largest}. Name "
            f"that{_or_finer(parts)}."
        )
    for (larger, high), (next_size, low) in pairwise(below.items()):
        if high - low < widest:
            raise BudgetError(
                f"The sizes {larger} and {next_size} in {config.key} differ by {high - low:,}, less than the largest "
                f"part, which costs {widest:,}: name fewer{_or_finer(parts)}."
            )


def _or_finer(parts: Parts) -> str:
    return ", or set parts.granularity to component" if parts.granularity == "module" else ""
