"""Preparing a model for training: what would disturb it goes off, and what nothing uses is frozen."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from compress.conformers import Family, family_of, part


def prepare_for_training(model: PreTrainedModel, *, dropout: float | None = None) -> None:
    """Switches off what disturbs training, in place.

    Layerdrop (it shortens the hidden states silently) and the model's own SpecAugment go off, and parameters that no
    forward pass uses are frozen (distributed training fails on them): of a model without a CTC head, all that lie
    outside its encoder.

    Args:
        model: of any family.
        dropout: if given, the value of every dropout probability.
    """
    family = family_of(model)
    if family.layerdrop:
        owner, _, name = family.layerdrop.rpartition(".")
        setattr(part(model, owner), name, 0.0)
    unused = list(family.dead)
    if family.spec_augment:
        setattr(model.config, family.spec_augment, False)
        unused.append(family.spec_augment_embedding or "")
    for path in unused:
        _freeze(model, path)
    if not family.has_ctc:
        inside = {id(parameter) for parameter in part(model, family.encoder).parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in inside)
    if dropout is not None:
        _set_dropout(model, family, dropout)


def _freeze(model: nn.Module, path: str) -> None:
    for name, parameter in model.named_parameters():
        if path and (name == path or name.startswith(path + ".")):
            parameter.requires_grad_(False)


def _set_dropout(model: PreTrainedModel, family: Family, dropout: float) -> None:
    """Sets the probabilities in the modules, which copied them when built; the config keeps the original's."""
    names = {path.rpartition(".")[2] for path in family.dropouts}
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        for name in names & vars(module).keys():
            if isinstance(getattr(module, name), int | float):
                setattr(module, name, dropout)
