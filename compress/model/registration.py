"""The classes of compressed models, registered with the Auto classes, and the config of what a Structure leaves.

Each family gets a config class with one more field, `structure`, and a model class. Both are registered when `compress`
is imported, so that the family's Auto class builds the small model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from compress.conformers import COMPRESSED_PREFIX, FAMILIES, Family, family_of, original_config, skeleton
from compress.model.card import CARD_FILE, model_card
from compress.model.classes import MODELLING_FILE, compressed_classes
from compress.model.modelling_file import modelling_file
from compress.running.aspects import fields_left
from compress.structure import Structure
from compress.surgery.stock import stock_config


def _write_beside(config: PreTrainedConfig, folder: Path) -> None:
    (folder / MODELLING_FILE).write_text(modelling_file(family_of(config)), encoding="utf-8")
    if not (folder / CARD_FILE).exists():  # one there is a person's, or knows more than can be said here
        (folder / CARD_FILE).write_text(model_card(skeleton(config, original=False), {}), encoding="utf-8")


def _register(family: Family) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    config_class, model_class = compressed_classes(family, _write_beside)
    AutoConfig.register(str(config_class.model_type), config_class)
    family.auto.register(config_class, model_class)
    return config_class, model_class


_CLASSES = {family.model_type: _register(family) for family in FAMILIES}


def compressed_config(
    config: PreTrainedConfig, structure: Structure, fields: Mapping[str, Any] | None = None
) -> PreTrainedConfig:
    """The config of the model that `structure` makes of the original: the original class's own where it can say it.

    Args:
        config: of the original model, or of one that is compressed already.
        structure: refers to the original model.
        fields: what the config of a model that runs in part holds beside it, which only a compressed class can (see
            `compress.running.aspect`); what is not named is what `structure` leaves of that in `config`.
    """
    original = original_config(config)
    held = {**fields_left(config, structure), **(fields or {})}
    small = (None if held else stock_config(original, structure)) or _config_with(original, structure, held)
    small._attn_implementation = config._attn_implementation
    return small


def _config_with(original: PreTrainedConfig, structure: Structure, fields: Mapping[str, Any]) -> PreTrainedConfig:
    config_class, _ = _CLASSES[str(original.model_type)]
    values = {key: value for key, value in copy.deepcopy(original.to_dict()).items() if key != "model_type"}
    return config_class.from_dict(values | {"structure": structure.to_dict(), **fields})


def compressed_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The model class of a config that `compressed_config` gave."""
    if not str(config.model_type).startswith(COMPRESSED_PREFIX):
        return family_of(config).original_class
    return _CLASSES[str(config.model_type).removeprefix(COMPRESSED_PREFIX)][1]
