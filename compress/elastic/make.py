"""Making a model elastic: the same weights, and a config that says which blocks run at each depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from compress.checkpoint import CheckpointError, describe, load_model, load_processor, save
from compress.compressed import compressed_config
from compress.conformers import block_units, family_of, structure_of
from compress.cost import size_of
from compress.depths import DepthError, check_depths
from compress.elastic.rules import ElasticConfig, rule_structures
from compress.removal import rebuild
from compress.structure import Block, Structure


def make(model: PreTrainedModel, structures: Mapping[int, Structure]) -> PreTrainedModel:
    """Builds the elastic form of a model; the given one stays untouched, and what depths it had are replaced.

    Args:
        model: a CTC model of any family, compressed or not.
        structures: by depth, what runs there: whole blocks of `model`, as many as the depth says. The full depth is
            always there and need not be among them.

    Returns:
        A new model at its full depth on the same device, in the same dtype and mode, which shares no memory with the
        given one. It has `depths`, `depth` and `set_depth`; so has every model that is loaded from what it saves.

    Raises:
        DepthError: naming the depth, if its Structure keeps another number of blocks or removes parts of one.
        StructureError: if a Structure does not fit the model.
    """
    if not structures:
        raise DepthError("An elastic model needs at least one depth below the full one.")
    depths = {depth: blocks_at(depth, structure) for depth, structure in structures.items()}
    for structure in structures.values():
        structure.check(family_of(model).name, block_units(model))
    check_depths(model, depths)
    config = compressed_config(model.config, structure_of(model), depths)
    full = Structure.full(family_of(model).name, len(block_units(model)))
    return rebuild(model, full, config)


def blocks_at(depth: int, structure: Structure) -> tuple[int, ...]:
    """The blocks that a Structure keeps, which must be whole ones and as many as the depth says.

    Raises:
        DepthError: naming the depth, otherwise.
    """
    kept = tuple(index for index, block in enumerate(structure.blocks) if block)
    if len(kept) != depth:
        raise DepthError(f"Depth {depth} was given a Structure that keeps {len(kept)} blocks; it must keep {depth}.")
    for index in kept:
        if structure.blocks[index] != Block():
            raise DepthError(
                f"Depth {depth} was given a Structure that keeps only parts of block {index}; a block runs as a whole "
                "or not at all. Remove parts first (compress apply), then make the smaller model elastic."
            )
    return kept


def make_checkpoint(model: str, depths: Sequence[int], rule: str, structures: Sequence[str], out: str) -> None:
    """Writes the elastic form of a checkpoint, in the same dtype.

    Args:
        model: folder or Hub name.
        depths: those whose blocks the rule chooses.
        rule: see `ElasticConfig`.
        structures: files with the Structures of other depths.
        out: folder to write.

    Raises:
        ValueError: if the model cannot run at such a depth, or a depth is given twice.
        CheckpointError: if `out` exists already.
    """
    if Path(out).exists():
        raise CheckpointError(f"{out} exists already; choose another folder or delete it.")
    chosen = ElasticConfig(tuple(depths), rule) if depths else None  # type: ignore[arg-type]  # checked by the config
    original, processor = load_model(model, dtype="auto"), load_processor(model)
    found = rule_structures(original, chosen) if chosen else {}
    for path in structures:
        structure = Structure.load(path)
        depth = sum(block is not None for block in structure.blocks)
        if depth in found:
            raise DepthError(f"Depth {depth} is given twice; {path} keeps {depth} blocks, too.")
        found[depth] = structure
    size = size_of(original)
    save(make(original, found), processor, out, describe("elastic", model, size, size))
