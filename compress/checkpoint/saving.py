"""Saving compressed models: weights, processor, Structure, what is known of the compression, and the model card."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.hub import CHAT_TEMPLATE_DIR

from compress.checkpoint.errors import CheckpointError
from compress.checkpoint.folders import require_new
from compress.checkpoint.loading import COMPRESSION_FILE, load_model, read_compression
from compress.checkpoint.processors import load_processor
from compress.checkpoint.weights import dtypes_in_file
from compress.conformers import structure_of
from compress.cost import Size, size_of
from compress.deciding.budget import Budget
from compress.files.reading import read_object
from compress.files.shipped import __version__
from compress.files.writing import CONFIG_FILE, WEIGHTS, is_model, replaced_folder
from compress.model.card import CARD_FILE, model_card
from compress.model.removal import remove
from compress.structure import STRUCTURE_FILE, Structure
from compress.surgery.stock import ROUTES, route_of

logger = logging.getLogger(__name__)

ENDINGS = (*WEIGHTS, ".json", ".md", ".py", ".txt", ".jinja", ".model")
"""Of the files that we, and transformers with any tokenizer, write into a checkpoint."""


def save(
    model: PreTrainedModel,
    processor: Any,
    folder: str | Path,
    compression: dict[str, Any] | None = None,
    structure: Structure | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a complete checkpoint; the folder appears all at once, or not at all.

    Args:
        model: compressed or not.
        processor: saved beside it; None leaves it out.
        folder: where to; an older checkpoint there is replaced, and said so.
        compression: what is known of how it was made (requested, expected and achieved size, teacher, ...).
        structure: what `structure.json` says, if it is not the Structure of the model: one that is yet to be applied.
        dtype: of the weights in the file; None: as they are.

    Raises:
        CheckpointError: if the folder holds something else than a checkpoint, or beside one, which would be deleted.
    """
    _prepare_replacing(Path(folder))
    route = route_of(model.config)
    facts = {**(compression or {}), "compress_version": __version__, "route": route}
    with replaced_folder(folder) as fresh:
        write_weights(model, fresh, dtype)
        if processor is not None:
            processor.save_pretrained(fresh)
        (structure or structure_of(model)).save(fresh / STRUCTURE_FILE)
        (fresh / COMPRESSION_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        (fresh / CARD_FILE).write_text(model_card(model, facts))
    logger.info("%s %s", folder, ROUTES[route])


def write_weights(model: PreTrainedModel, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes weights and config of a model into a folder, as transformers does.

    Args:
        model: stays as it is.
        folder: where to.
        dtype: of the weights in the file; None: as they are.
    """
    if dtype is None or dtype == model.dtype:
        model.save_pretrained(folder)
        return
    model.save_pretrained(folder, state_dict=_cast(model, dtype))
    path, name = folder / CONFIG_FILE, str(dtype).removeprefix("torch.")
    content = read_object(path)
    for part in (content, *(value for value in content.values() if isinstance(value, dict))):
        part |= {"dtype": name} if "dtype" in part else {}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state of a model in the types of a file; tensors that are one stay one, which is then saved once."""
    dtypes, cast = dtypes_in_file(model, dtype), dict[tuple[Any, ...], torch.Tensor]()
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr() or name, tensor.shape, tensor.stride(), dtypes[name])
        state[name] = cast.setdefault(key, tensor.to(dtypes[name]))
    return state


def _prepare_replacing(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_model(folder):
        raise CheckpointError(f"{folder} exists and is no checkpoint, so it is not replaced; choose another folder.")
    if others := sorted(path.name for path in folder.iterdir() if not _is_part(path)):
        raise CheckpointError(
            f"{folder} is not replaced, since it holds what is no part of a checkpoint and would be deleted: "
            f"{', '.join(others)}; choose another folder."
        )
    logger.warning("%s: the checkpoint there is replaced", folder)


def _is_part(path: Path) -> bool:
    return path.name == CHAT_TEMPLATE_DIR if path.is_dir() else path.suffix in ENDINGS


def describe(method: str, teacher: str, before: Size, after: Size, budget: Budget | None = None) -> dict[str, Any]:
    """Builds what `compression.json` says of a compression.

    Args:
        method: what was done, e.g. `prune`.
        teacher: folder or Hub name of the model it was made from.
        before: size of the teacher.
        after: size of the result.
        budget: the target, if there was one.

    Returns:
        Sizes before and after; with a budget what was requested, of what, and its limit. What is known of the
        compression of the teacher itself is carried on under `teacher_compression`.
    """
    facts: dict[str, Any] = {
        "method": method,
        "teacher": teacher,
        "parameters_before": before.total,
        "parameters": after.total,
        "macs_per_second_before": before.macs_per_second,
        "macs_per_second": after.macs_per_second,
    }
    if budget is not None:
        facts |= {
            "metric": budget.table.metric,
            "denominator": budget.table.denominator,
            "requested": budget.requested,
            "limit": budget.limit,
            "full": budget.table.full,
            "round_to": budget.round_to,
        }
    earlier = read_compression(teacher)
    if earlier and earlier.get("method"):
        facts["teacher_compression"] = earlier
    return facts


def apply_structure(model: str, structure_path: str, out: str) -> dict[str, Any]:
    """Removes what a `structure.json` does not keep from a checkpoint, and saves the smaller one in the same dtype.

    Args:
        model: folder or Hub name.
        structure_path: a Structure whose indices refer to that model.
        out: folder to write.

    Returns:
        What `compression.json` says of the result: parameters before and after, and the teacher's name.

    Raises:
        StructureError: naming what is wrong with the structure.
        CheckpointError: if `out` exists already.
    """
    require_new(out)
    structure = Structure.load(structure_path)
    original, processor = load_model(model, dtype="auto"), load_processor(model)
    before = size_of(original)
    small = remove(original, structure, consume=True)
    facts = describe("apply", model, before, size_of(small))
    save(small, processor, out, facts)
    return facts
