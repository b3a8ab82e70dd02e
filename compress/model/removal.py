"""Removal: a model and a Structure in, a physically smaller model out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import block_units, blocks_of, family_of, front_channels, numbered_blocks, part, structure_of
from compress.files.pages import give_back_when_gone
from compress.model.registration import compressed_config, compressed_model_class
from compress.running.aspects import ASPECTS
from compress.structure import Structure
from compress.surgery.slicing import assign, place_blocks_, shrink_
from compress.surgery.unit_order import in_first_order, orders_back, reorder_, unit_orders


def remove(
    model: PreTrainedModel,
    structure: Structure,
    *,
    consume: bool = False,
    settle: Callable[[PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """Builds the smaller model that keeps only what `structure` says; the given model stays untouched.

    Of an elastic model, whatever size it runs at, all of the model is meant, and the result is not elastic; its units
    are in the order of the original model again.

    Args:
        model: of any family, also one that is compressed already.
        structure: its indices refer to `model` as it is.
        consume: use the given model up: its tensors are let go one by one as they are sliced, so that hardly more
            memory is needed than it takes. What is left of it is on the meta device.
        settle: done first, in place, with what is sliced: the model if it is used up, else a twin with its tensors.

    Returns:
        A new model on the same device, dtype and in the same mode, which shares no memory with the given one. It is of
        the original's own class if that can hold what is left, else of a compressed one. Its `config.structure` refers
        to the original model.

    Raises:
        StructureError: if the structure does not fit the model.
        UnsupportedModelError: if no family describes the model.
    """
    structure.check(family_of(model).name, block_units(model), front_channels(model))
    orders = unit_orders(model.config)
    config = compressed_config(model.config, structure_of(model).then(in_first_order(structure, orders)))
    small = rebuild(model, structure, config, consume=consume, settle=settle)
    reorder_(small, orders_back(structure, orders))
    return small


def rebuild(
    model: PreTrainedModel,
    structure: Structure,
    config: PreTrainedConfig,
    *,
    consume: bool = False,
    settle: Callable[[PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """Builds the model of a compressed config from what a Structure keeps of another; see `remove`."""
    gated = [*blocks_of(model), *(part(model, path) for path in family_of(model).front)]
    if any(parametrize.is_parametrized(module) for owner in gated for module in owner.modules()):
        raise ValueError(
            "The model has gates; take them off (Gates.detach) and fold their values in (Gates.fold_) first."
        )
    with torch.device("meta"):
        small = compressed_model_class(config)(config)
    if consume:
        give_back_when_gone(_tensors(model).values())
    sliced = model if consume else _share(model)
    if settle:
        settle(sliced)
    for aspect in ASPECTS:
        aspect.take_off(sliced, config)
    shrink_(sliced, structure)
    place_blocks_(sliced, numbered_blocks(small))
    for aspect in ASPECTS:
        aspect.hand_over(sliced, model.config, config)
    shared = () if consume else _tensors(model).values()
    _assign(small, sliced, shared=shared, lacking=_unused(small, sliced))
    if model.can_generate():
        small.generation_config = copy.deepcopy(model.generation_config)
    small.train(model.training)
    if consume:
        nn.Module.to(model, "meta")
    return small


def _share(model: PreTrainedModel) -> PreTrainedModel:
    """A second model object around the very same tensors, so that slicing it leaves the first one untouched."""
    twins: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        twins[module] = twin = type(module).__new__(type(module))
        vars(twin).update({k: v.copy() if isinstance(v, dict | set) else v for k, v in vars(module).items()})
    for twin in twins.values():
        twin._modules.update({name: twins[child] for name, child in twin._modules.items() if child is not None})
    return cast(PreTrainedModel, twins[model])


def _unused(small: PreTrainedModel, sliced: PreTrainedModel) -> dict[str, Tensor]:
    """Weights of parts that no forward pass uses, but that the original's class wants all the same: ones, frozen."""
    dead = tuple(path + "." for path in family_of(small).dead)
    return {
        name: nn.Parameter(torch.ones_like(tensor, device=sliced.device, dtype=sliced.dtype), requires_grad=False)
        for name, tensor in small.named_parameters()
        if name.startswith(dead)
    }


def _assign(
    target: nn.Module, source: nn.Module, shared: Iterable[Tensor] = (), lacking: dict[str, Tensor] | None = None
) -> None:
    """Gives `target` the parameters and buffers of `source`, buffers that are not saved included.

    Args:
        target: a model, usually without memory.
        source: where they come from.
        shared: those of them of which `target` gets copies.
        lacking: what `source` lacks.

    Raises:
        RuntimeError: if names differ anywhere, or shapes of what is saved.
    """
    wanted, offered = _tensors(target), _tensors(source) | (lacking or {})
    saved = target.state_dict().keys()  # what is not saved may have grown, as a table of positions does
    differing = sorted(wanted.keys() ^ offered.keys()) or [
        name for name in wanted if name in saved and wanted[name].shape != offered[name].shape
    ]
    if differing:
        raise RuntimeError(f"The removed model and its skeleton disagree about {differing[:5]}.")
    copied, copies = {id(tensor) for tensor in shared}, dict[int, Tensor]()
    for name, tensor in offered.items():
        if id(tensor) in copied and id(tensor) not in copies:
            copies[id(tensor)] = _copy(tensor)
        assign(target, name, copies.get(id(tensor), tensor))


def _copy(tensor: Tensor) -> Tensor:
    value = tensor.detach().clone()
    return nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name; one that is tied has several names."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return parameters | dict(model.named_buffers(remove_duplicate=False))
