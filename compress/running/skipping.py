"""What the config of a model says of skipping, and what removal of blocks leaves of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from transformers import PreTrainedModel

from compress.conformers import blocks_of, ctc_head, family_of, fixed_blocks
from compress.structure import Structure


class SkippingError(ValueError):
    """Settings of skipping that are malformed or do not fit a model."""


@dataclass(frozen=True)
class Skipping:
    """Which frames bypass which blocks.

    Attributes:
        first_blocks: how many blocks always run (K); the others run on the kept frames only. One of `heads`, or 0 where
            there are none.
        threshold: a frame is skipped where the intermediate output gives the blank a probability above it. At 1 nothing
            is skipped, and the model computes what it computes without skipping.
        extension: so many neighbours on either side of a kept frame are kept, too.
        heads: the numbers of first blocks behind which the model has learned an intermediate output, ascending.
        own_heads: whether each of those outputs has a head of its own; otherwise all use the model's CTC head.
        factorised: whether CTC heads say first how likely the blank is, and then which token it is otherwise.
    """

    first_blocks: int
    threshold: float = 0.95
    extension: int = 1
    heads: tuple[int, ...] = ()
    own_heads: bool = True
    factorised: bool = False

    def __post_init__(self) -> None:
        if type(self.extension) is not int or self.extension < 0:
            raise SkippingError(f"skipping.extension is a number of neighbours from 0, got {self.extension!r}.")
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, int | float):
            raise SkippingError(f"skipping.threshold is a probability, got {self.threshold!r}.")
        if not 0 <= self.threshold <= 1:
            raise SkippingError(
                f"skipping.threshold is a probability from 0 to 1, got {self.threshold}; 1 skips nothing."
            )
        if any(type(number) is not int for number in self.heads) or sorted(set(self.heads)) != list(self.heads):
            raise SkippingError(f"skipping.heads must be numbers of blocks, ascending, got {list(self.heads)}.")
        if self.first_blocks not in (self.heads or (0,)):
            known = ", ".join(map(str, self.heads)) or "none"
            raise SkippingError(
                f"There is no intermediate output behind the first {self.first_blocks} blocks; there is one behind the "
                f"first {known}. Train one: recipes/train.py --skipping.first_blocks [{self.first_blocks}]"
            )


def read_skipping(saved: Any) -> Skipping | None:
    """The settings in a config; None if it has none.

    Raises:
        SkippingError: naming what is malformed.
    """
    if saved is None:
        return None
    known = {field.name for field in fields(Skipping)}
    if not isinstance(saved, Mapping) or saved.keys() != known:
        raise SkippingError(f"skipping must be an object with {', '.join(sorted(known))}, got {saved!r}.")
    heads = saved["heads"]
    if not isinstance(heads, list | tuple):
        raise SkippingError(f"skipping.heads must be a list of numbers of blocks, got {heads!r}.")
    return Skipping(**{**saved, "heads": tuple(heads)})


def write_skipping(skipping: Skipping) -> dict[str, Any]:
    """The form in which a config holds the settings; `read_skipping` is its inverse."""
    return {**asdict(skipping), "heads": list(skipping.heads)}


def possible_first_blocks(model: PreTrainedModel) -> range:
    """How many blocks may always run: at least those that change the frame rate, and not all.

    Raises:
        UnsupportedModelError: if the outputs of its blocks cannot be led to a CTC head.
    """
    ctc_head(model)
    return range(max(fixed_blocks(model), default=0) + 1, len(blocks_of(model)))


def check_skipping(model: PreTrainedModel, skipping: Skipping) -> None:
    """Checks that a model can skip as the settings say.

    Raises:
        SkippingError: naming the number of first blocks that does not fit.
        UnsupportedModelError: if the outputs of its blocks cannot be led to a CTC head.
    """
    possible = possible_first_blocks(model)
    if wrong := [number for number in skipping.heads if number not in possible]:
        allowed = f"from {possible.start} to {possible.stop - 1}" if possible else "impossible"
        raise SkippingError(
            f"skipping.heads has {wrong[0]}, but this {family_of(model).name} has {len(blocks_of(model))} blocks; the "
            f"number of those that always run is {allowed}: at least one must be left to skip, and those that change "
            "the frame rate always run."
        )


def heads_left(heads: Iterable[int], before: Sequence[int], after: Collection[int]) -> dict[int, int]:
    """Where intermediate outputs stand once blocks have been dropped.

    Args:
        heads: numbers of first blocks, among those of `before`.
        before: numbers of blocks, ascending.
        after: those of them that are left.

    Returns:
        By number of first blocks among those that are left, the number before, ascending. Where none or all of the
        blocks that are left come first, there is nothing to skip; of outputs that fall together the last one stays.
    """
    moved = {sum(block in after for block in before[:number]): number for number in heads}
    return {number: old for number, old in moved.items() if 0 < number < len(after)}


def nearest_head(skipping: Skipping, left: Mapping[int, int]) -> int:
    """The number of first blocks among those that are left behind which is skipped; see `heads_left`."""
    return min(left, key=lambda number: abs(left[number] - skipping.first_blocks))


def skipping_left(skipping: Skipping, before: Structure, after: Structure) -> Skipping | None:
    """What is left of the settings once blocks have been dropped; None if there is nothing left to say.

    Where there is nothing left to skip, there is still to say that the CTC head is factorised, if it is.

    Args:
        skipping: of the model that `before` describes; see `heads_left`.
        before: refers to the original model, like `after`.
        after: keeps no block that `before` does not.
    """
    left = heads_left(skipping.heads, before.survivors, after.survivors)
    if not left and not skipping.factorised:
        return None
    return replace(skipping, heads=tuple(left), first_blocks=nearest_head(skipping, left) if left else 0)
