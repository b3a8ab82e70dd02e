"""Which blocks run at a depth where no search has decided it: rules that look at no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedModel

from compress.config import check, check_choice
from compress.conformers import blocks_of, family_of, fixed_blocks
from compress.running.subnets import SizeError
from compress.structure import Block, Structure

Rule = Literal["every_other", "last_first"]


@dataclass(frozen=True)
class ElasticConfig:
    """Depths of an elastic checkpoint that a rule chooses.

    Attributes:
        depths: numbers of blocks; the full number is always among the depths and need not be named.
        rule: `every_other`: blocks are left out at even distances, at half the depth every other one; the last one
            always runs. `last_first`: the last blocks are left out, for models whose CTC head has learned the outputs
            of inner blocks. null: the one that suits how the model was trained.
    """

    depths: tuple[int, ...]
    rule: Rule | None = None

    def __post_init__(self) -> None:
        given = bool(self.depths) and min(self.depths) >= 1
        check(given, "depths", list(self.depths), "give numbers of blocks from 1, such as [4,6]")
        if self.rule is not None:
            check_choice("rule", self.rule, RULES)

    def resolved(self, *, inter_ctc: bool) -> ElasticConfig:
        """This config with a rule: `last_first` for a model trained with intermediate CTC, else `every_other`."""
        return replace(self, rule=self.rule or ("last_first" if inter_ctc else "every_other"))


def every_other(blocks: Sequence[int], count: int) -> list[int]:
    """So many of the blocks at even distances, the last among them (the usual baseline of layer pruning)."""
    return [blocks[-(-(place + 1) * len(blocks) // count) - 1] for place in range(count)]


def last_first(blocks: Sequence[int], count: int) -> list[int]:
    """The first so many of the blocks."""
    return list(blocks[:count])


RULES: Mapping[str, Callable[[Sequence[int], int], list[int]]] = {"every_other": every_other, "last_first": last_first}


def rule_structures(model: PreTrainedModel, config: ElasticConfig) -> dict[str, Structure]:
    """What runs at each depth, by the size's name, by `every_other` unless the config names a rule.

    Blocks that change the frame rate always run.

    Raises:
        SizeError: naming a depth that the model cannot have, and those that it can.
    """
    total, fixed = len(blocks_of(model)), sorted(fixed_blocks(model))
    movable, least = [index for index in range(total) if index not in fixed], max(1, len(fixed))
    structures = {}
    for depth in config.depths:
        if not least <= depth <= total:
            raise SizeError(f"The model has {total} blocks and can run at depth {least} to {total}, not at {depth}.")
        kept = {*fixed, *RULES[config.rule or "every_other"](movable, depth - len(fixed))}
        blocks = tuple(Block() if index in kept else None for index in range(total))
        structures[str(depth)] = Structure(family_of(model).name, blocks)
    return structures
