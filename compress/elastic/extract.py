"""One size of an elastic model, as a model of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import describe, load_model, load_processor, require_new, save
from compress.cost import size_of
from compress.model.removal import remove
from compress.running.aspect_sizes import SIZES
from compress.running.subnets import structure_at, subnet_at_depth, subnet_names


def standalone(model: PreTrainedModel, size: str, *, consume: bool = False) -> PreTrainedModel:
    """The model of one size of an elastic model: what runs there, with the layers that are that size's own.

    Args:
        model: an elastic model.
        size: one of its sizes.
        consume: use the given model up; see `compress.remove`.

    Returns:
        A new model, as from `compress.remove`, that computes what the elastic one does at that size.

    Raises:
        SizeError: if the model has no such size.
    """
    settle = partial(SIZES.settle, size=size)
    return remove(model, structure_at(model, size), consume=consume, settle=settle)


def at_full_size(model: PreTrainedModel, *, consume: bool = False) -> PreTrainedModel:
    """The standalone model of the full size of an elastic model; the given one if it is not elastic.

    Args:
        model: elastic or not.
        consume: use an elastic model up; see `compress.remove`.
    """
    *smaller, full = subnet_names(model)
    return standalone(model, full, consume=consume) if smaller else model


def extract(model: str, out: str, *, size: str | None = None, depth: int | None = None) -> dict[str, Any]:
    """Writes the standalone model of one size of an elastic checkpoint, in the same dtype.

    Args:
        model: folder or Hub name of an elastic checkpoint.
        out: folder to write.
        size: one of its sizes.
        depth: one of its depths, instead.

    Returns:
        What `compression.json` says of the result.

    Raises:
        SizeError: if the checkpoint has no such size or depth.
        ValueError: if not exactly one of both is given.
        CheckpointError: if `out` exists already.
    """
    if (size is None) == (depth is None):
        raise ValueError("Say what to extract: a size (--size 33%) or a depth (--depth 8).")
    require_new(out)
    elastic, processor = load_model(model, dtype="auto"), load_processor(model)
    name, before = str(size) if depth is None else subnet_at_depth(elastic, depth), size_of(elastic)
    small = standalone(elastic, name, consume=True)
    facts = describe("extract", model, before, size_of(small)) | {"size": name}
    save(small, processor, out, facts)
    return facts
