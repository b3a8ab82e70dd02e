"""One depth of an elastic model, as a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import CheckpointError, describe, load_model, load_processor, save
from compress.conformers import blocks_of, family_of
from compress.cost import size_of
from compress.depths import DepthError, depths_of
from compress.removal import remove
from compress.structure import Block, Structure


def structure_at(model: PreTrainedModel, depth: int) -> Structure:
    """What runs at a depth of an elastic model; refers to the model as it is.

    Raises:
        DepthError: if the model has no such depth.
    """
    depths = depths_of(model)
    if depth not in depths:
        known = f"its depths are {', '.join(map(str, depths))}" if len(depths) > 1 else "it is not elastic"
        raise DepthError(f"The model has no depth {depth}: {known}. Make one that has it: compress elastic --help")
    kept = set(depths[depth])
    blocks = tuple(Block() if index in kept else None for index in range(len(blocks_of(model))))
    return Structure(family_of(model).name, blocks)


def extract(model: str, depth: int, out: str) -> dict[str, Any]:
    """Writes the standalone model of one depth of an elastic checkpoint, in the same dtype.

    Args:
        model: folder or Hub name of an elastic checkpoint.
        depth: one of its depths.
        out: folder to write.

    Returns:
        What `compression.json` says of the result.

    Raises:
        DepthError: if the checkpoint has no such depth.
        CheckpointError: if `out` exists already.
    """
    if Path(out).exists():
        raise CheckpointError(f"{out} exists already; choose another folder or delete it.")
    elastic, processor = load_model(model, dtype="auto"), load_processor(model)
    structure, before = structure_at(elastic, depth), size_of(elastic)
    small = remove(elastic, structure, consume=True)
    facts = describe("extract", model, before, size_of(small)) | {"depth": depth}
    save(small, processor, out, facts)
    return facts
