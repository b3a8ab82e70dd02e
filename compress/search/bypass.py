"""Running a model without some of its blocks, as if they had been removed; no weight is copied."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from compress.conformers import family_of, fixed_blocks, numbered_blocks, structure_of
from compress.model.registration import compressed_config
from compress.running.front import leaving_out
from compress.search.coarse import Proposal, check_remove
from compress.structure import Block, Structure, StructureError
from compress.surgery.stock import Route, route_of


def removable(model: PreTrainedModel) -> list[int]:
    """Returns the numbers of the model's blocks that can be dropped."""
    fixed = fixed_blocks(model)
    return [block for block in range(len(numbered_blocks(model))) if block not in fixed]


def structure_without(model: PreTrainedModel, proposal: Proposal) -> Structure:
    """Makes the Structure that drops these blocks whole and keeps everything else, for `remove` and `apply`.

    Args:
        model: of any family, also one that is compressed already: the Structure is for the model as it is.
        proposal: numbers of blocks.

    Raises:
        StructureError: if the family cannot do without one of them.
        ValueError: if there is no such block, or none would stay.
    """
    _check(model, proposal)
    blocks = range(len(numbered_blocks(model)))
    return Structure(family_of(model).name, tuple(None if b in proposal else Block() for b in blocks))


def route_without(model: PreTrainedModel, proposal: Proposal) -> Route:
    """Says what it takes to load the model once these blocks are removed; where not `stock`, others may be."""
    left = structure_of(model).then(structure_without(model, proposal))
    return route_of(compressed_config(model.config, left))


@contextmanager
def without_blocks(model: PreTrainedModel, proposal: Collection[int]) -> Iterator[None]:
    """Inside, the model computes what `compress.remove` would make of it; afterwards it is as before.

    All other blocks run in full inside, also those of a model that could run in part.

    Args:
        model: of any family.
        proposal: numbers of blocks; none is fine.

    Raises:
        StructureError: if the family cannot do without one of them.
        ValueError: if there is no such block, or none would stay.
    """
    if proposal:
        _check(model, proposal)
    with leaving_out(model, proposal):
        yield


def _check(model: PreTrainedModel, proposal: Collection[int]) -> None:
    blocks, free = len(numbered_blocks(model)), removable(model)
    unknown = [number for number in proposal if not 0 <= number < blocks]
    if unknown:
        raise ValueError(f"There is no block {unknown[0]}: the model has blocks 0 to {blocks - 1}.")
    if held := sorted(set(proposal) - set(free)):
        raise StructureError(
            f"Block {held[0]} of a {family_of(model).name} changes the frame rate and cannot be dropped; "
            f"those that can are {', '.join(map(str, free))}."
        )
    check_remove(len(proposal), blocks)
