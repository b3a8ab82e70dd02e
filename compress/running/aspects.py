"""The aspects of a model that runs in part, and what is done with all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import structure_of
from compress.running.aspect import Aspect
from compress.running.aspect_sizes import SIZES
from compress.running.aspect_skipping import SKIPPING
from compress.structure import Structure

ASPECTS: tuple[Aspect, ...] = (SKIPPING, SIZES)
"""In the order in which models are prepared: what each size has of its own begins as what skipping has made of it."""


def prepare_aspects_(model: PreTrainedModel) -> None:
    """Makes a model that has just been built ready to run in part as its config says, in place.

    Raises:
        ValueError: naming what is malformed or does not fit the model.
    """
    for aspect in ASPECTS:
        settings = aspect.read(model)
        if settings is not None:
            aspect.check(model, settings)
            aspect.prepare(model, settings)


@contextmanager
def in_full(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model runs in full, with every block on every frame; afterwards it runs as before."""
    with ExitStack() as stack:
        for aspect in ASPECTS:
            stack.enter_context(aspect.in_full(model))
        yield


def aspect_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """What a config holds of all aspects: the names of its fields and their values."""
    names = [name for aspect in ASPECTS for name in aspect.fields]
    return {name: value for name in names if (value := getattr(config, name, None)) is not None}


def fields_left(config: PreTrainedConfig, structure: Structure) -> dict[str, Any]:
    """What removal leaves of them; see `Aspect.follow`."""
    return {name: value for aspect in ASPECTS for name, value in aspect.follow(config, structure).items()}


def without_what_removal_drops(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the same model without what is lost at any removal; the very config if that is nothing."""
    held = aspect_fields(config)
    left = fields_left(config, structure_of(config)) if held else {}
    if left == held:
        return config
    plain = copy.deepcopy(config)
    for name in held:
        setattr(plain, name, left.get(name))
    return plain
