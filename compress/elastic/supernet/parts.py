"""Parts: what a supernet chooses from, a module of a block or a piece of one, and what each part costs.

Xu et al. 2024 (arXiv 2407.18930) choose among modules; the components are those of its follow-up (arXiv 2501.18895): an
FFN in chunks, single heads, the convolution as a whole. A part is a true sub-matrix: some units of a module with all
their rows and columns, so that a Structure can say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from transformers import PreTrainedModel

from compress.config import check_at_least
from compress.conformers import Attention, FeedForward, block_units, family_of
from compress.cost import CostTable
from compress.structure import MODULES, Block, Place, Structure

Granularity = Literal["module", "component"]


@dataclass(frozen=True)
class PartsConfig:
    """What a part is.

    Attributes:
        granularity: `module`: each module of each block; `component`: chunks of FFN units, single heads, and the
            convolution as a whole.
        ffn_chunks: into how many chunks an FFN is divided, if parts are components.
    """

    granularity: Granularity = "module"
    ffn_chunks: int = 4

    def __post_init__(self) -> None:
        check_at_least("parts.ffn_chunks", self.ffn_chunks, 1)


@dataclass(frozen=True)
class Part:
    """Some units of one module of one block.

    Attributes:
        block: its number, from 0 among those that the model has.
        module: its number in running order.
        units: which, in order.
        name: for people, e.g. `blocks.3.ffn1[0:16]`.
    """

    block: int
    module: int
    units: tuple[int, ...]
    name: str

    @property
    def place(self) -> Place:
        """Where the module is."""
        return Place(self.block, self.module)


@dataclass(frozen=True)
class Parts:
    """The parts of one model, block by block in running order.

    Attributes:
        entries: the parts; those of one module are neighbours.
        family: of the model.
        units: per block and module, the number of units.
        granularity: what a part is.
        table: what Structures of the model cost; None: each part costs 1, and nothing else costs anything.
    """

    entries: tuple[Part, ...]
    family: str
    units: tuple[tuple[int, ...], ...]
    granularity: Granularity
    table: CostTable | None = None

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def fixed(self) -> int:
        """The cost of what always stays: all that lies outside the blocks, and their final norms."""
        return self.table.base + sum(self.table.block) if self.table else 0

    @property
    def whole(self) -> int:
        """The cost of everything that always stays and of all parts."""
        return self.fixed + sum(self.increments(range(len(self))))

    def increments(self, order: Iterable[int]) -> Iterator[int]:
        """What each part adds to the cost, in the order in which parts are taken.

        The first part of a module brings what the module costs beside its units.
        """
        taken: dict[Place, int] = {}
        for number in order:
            part = self.entries[number]
            before = taken.get(part.place, 0)
            taken[part.place] = before + len(part.units)
            if self.table is None:
                yield 1
            else:
                yield self.table.module(*part.place, taken[part.place]) - self.table.module(*part.place, before)

    def fitting(self, ranking: Sequence[int], limit: float) -> int:
        """How many of the first parts of a ranking fit into a limit of the cost."""
        cost = self.fixed
        for count, increment in enumerate(self.increments(ranking)):
            cost += increment
            if cost > limit:
                return count
        return len(ranking)

    def cost(self, chosen: Iterable[int]) -> int:
        """The exact cost of the model that keeps some parts."""
        numbers = list(chosen)
        return len(numbers) if self.table is None else self.table.of(self.structure(numbers))

    def shares(self) -> list[float]:
        """The share of each part in the cost of all parts; units bear what their module costs beside them alike."""
        costs = [self._alone(part) for part in self.entries]
        return [cost / sum(costs) for cost in costs]

    def _alone(self, part: Part) -> float:
        if self.table is None:
            return 1.0
        units = self.units[part.block][part.module]
        return self.table.module(*part.place, units) * len(part.units) / units

    def structure(self, chosen: Iterable[int]) -> Structure:
        """What stays if some parts do. No block is dropped: its final norm stays even without any part."""
        units_at: dict[Place, list[int]] = {}
        for number in chosen:
            part = self.entries[number]
            units_at.setdefault(part.place, []).extend(part.units)
        blocks = []
        for b, counts in enumerate(self.units):
            by_module = [sorted(units_at.get(Place(b, m), ())) for m in range(len(MODULES))]
            blocks.append(Block(*(
                "all" if units and len(units) == count else tuple(units) or None
                for units, count in zip(by_module, counts, strict=True)
            )))  # fmt: skip
        return Structure(self.family, tuple(blocks))


def parts_of(model: PreTrainedModel, config: PartsConfig, table: CostTable | None = None) -> Parts:
    """The parts of a CTC model of any family, also of one that is compressed already.

    Args:
        model: on any device.
        config: what a part is.
        table: of the costs; None: each part costs 1.

    Raises:
        ValueError: if no module is left in the model.
    """
    family, counts = family_of(model), block_units(model)
    entries: list[Part] = []
    for b, units in enumerate(counts):
        for m, (name, module) in enumerate(family.modules.items()):
            chunks = _chunks(config, module, units[name])
            entries += [Part(b, m, tuple(chunk), _name(b, name, chunk, len(chunks))) for chunk in chunks]
    if not entries:
        raise ValueError(f"No module is left in this {family.name}: there is nothing to choose from.")
    numbers = tuple(tuple(units[name] for name in MODULES) for units in counts)
    return Parts(tuple(entries), family.name, numbers, config.granularity, table)


def _chunks(config: PartsConfig, module: object, units: int) -> list[range]:
    """The units of each part of a module: contiguous, of equal number as far as possible."""
    count = 1
    if config.granularity == "component":
        count = units if isinstance(module, Attention) else config.ffn_chunks if isinstance(module, FeedForward) else 1
    count = min(count, units)
    edges = [round(number * units / count) for number in range(count + 1)] if count else []
    return [range(start, end) for start, end in pairwise(edges)]


def _name(block: int, module: str, units: range, parts: int) -> str:
    if parts == 1:
        return f"blocks.{block}.{module}"
    return f"blocks.{block}.{module}[{units.start if len(units) == 1 else f'{units.start}:{units.stop}'}]"
