"""Depths: what lets one model run with fewer of its blocks, switched at run time.

Which blocks run at which depth is in the config of a compressed model, `"depths": {"8": [0, 2, ...]}`, counted among
the blocks that the model has. A model whose config has that field is elastic; its weights are those of any other model.

This module travels with checkpoints (see `compress.modelling_file`), so it imports nothing that they do not need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, fixed_blocks
from compress.skippable import make_skippable
from compress.structure import StructureError


class DepthError(ValueError):
    """A depth at which a model cannot run."""


def depths_of(model: PreTrainedModel) -> dict[int, tuple[int, ...]]:
    """The blocks that run at each depth of a model, shallowest first; all of them at the last, often the only one."""
    blocks = len(blocks_of(model))
    return {**read_depths(getattr(model.config, "depths", None)), blocks: tuple(range(blocks))}


def depth_of(model: PreTrainedModel) -> int:
    """How many blocks of a model run at present."""
    return sum(not getattr(block, "skipped", False) for block in blocks_of(model))


def set_depth(model: PreTrainedModel, depth: int) -> None:
    """Lets a compressed model run at another of its depths from now on. Nothing is copied, and no weight moves.

    Raises:
        DepthError: if its config does not say which blocks run there.
    """
    depths = depths_of(model)
    if depth not in depths:
        known = ", ".join(map(str, depths))
        raise DepthError(
            f"This model runs at depth {known}, not at {depth!r}. Choose one of these, or write a checkpoint that runs "
            "at others: compress elastic CKPT --depths ... --out DIR"
        )
    for index, block in enumerate(blocks_of(model)):
        block.skipped = index not in depths[depth]  # type: ignore[assignment]


def prepare_depths_(model: PreTrainedModel) -> None:
    """Makes the blocks of a compressed model ready to be passed over, if its config has depths.

    Raises:
        StructureError: naming the depth in the config that is malformed or does not fit the model.
    """
    if depths := read_depths(model.config.depths):
        check_depths(model, depths)
        make_skippable(model)


def read_depths(saved: Any) -> dict[int, tuple[int, ...]]:
    """The blocks of each depth in a config, shallowest first.

    Raises:
        StructureError: naming the entry that is malformed.
    """
    if saved is None:
        return {}
    if not isinstance(saved, Mapping):
        raise StructureError(f"depths must be an object of lists of block numbers, got {type(saved).__name__}.")
    found = {}
    for key, blocks in saved.items():
        if not isinstance(blocks, list | tuple) or any(type(block) is not int or block < 0 for block in blocks):
            raise StructureError(f"depths[{key!r}] must be a list of block numbers from 0, got {blocks!r}.")
        if str(key) != str(len(blocks)) or any(left >= right for left, right in pairwise(blocks)):
            raise StructureError(f"depths[{key!r}] must be {key} block numbers in order, each once, got {blocks!r}.")
        found[len(blocks)] = tuple(blocks)
    return dict(sorted(found.items()))


def write_depths(depths: Mapping[int, Iterable[int]]) -> dict[str, list[int]]:
    """The form in which a config holds depths; `read_depths` is its inverse."""
    return {str(depth): list(blocks) for depth, blocks in sorted(depths.items())}


def check_depths(model: PreTrainedModel, depths: Mapping[int, tuple[int, ...]]) -> None:
    """Checks that a model can run at some depths.

    Raises:
        StructureError: naming the depth that does not fit.
    """
    family, blocks, fixed = family_of(model), len(blocks_of(model)), fixed_blocks(model)
    if not family.has_ctc:
        raise StructureError(
            f"A {family.name} cannot be elastic: blocks are passed over in models with a CTC head only."
        )
    for depth, kept in depths.items():
        if not kept:
            raise StructureError("A depth of 0 leaves no block; at least one must run.")
        if kept[-1] >= blocks:
            raise StructureError(f"depths[{depth}] names block {kept[-1]}, but the model has {blocks} (from 0).")
        if absent := sorted(fixed - set(kept)):
            raise StructureError(
                f"depths[{depth}] leaves out blocks {absent} of a {family.name}, but they change the frame rate."
            )
