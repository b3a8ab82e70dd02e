"""The classes of compressed models: the family's own class, built at full size and then shrunk to its Structure.

Each family gets a config class with one more field, `structure`, and a model class. Both are registered with the Auto
classes when `compress` is imported, so that `AutoModelForCTC.from_pretrained` builds the small model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from compress.card import CARD_FILE, model_card
from compress.conformers.description import Family
from compress.conformers.registry import COMPRESSED_PREFIX, FAMILIES
from compress.depths import depth_of, depths_of, prepare_depths_, set_depth, write_depths
from compress.slicing import shrink_
from compress.structure import STRUCTURE_FILE, Structure, StructureError


def _make_config_class(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    class CompressedConfig(base):  # type: ignore[misc,valid-type]
        """The original's config and the Structure that a compressed model keeps of it; `depths` if it is elastic."""

        model_type = COMPRESSED_PREFIX + str(base.model_type)
        structure: dict[str, Any] | None = None
        depths: dict[str, Any] | None = None

    CompressedConfig.__name__ = CompressedConfig.__qualname__ = f"Compressed{base.__name__}"
    return CompressedConfig


def _make_model_class(base: type[PreTrainedModel], config_class: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    class CompressedModel(base):  # type: ignore[misc,valid-type]
        """The original's model, physically reduced to its config's Structure."""

        def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
            if config.structure is None:
                raise StructureError(
                    "config.json of this compressed checkpoint has no `structure`; it cannot be built."
                )
            structure = Structure.from_dict(config.structure)
            super().__init__(config, *args, **kwargs)
            shrink_(self, structure)
            prepare_depths_(self)

        @property
        def depths(self) -> dict[int, tuple[int, ...]]:
            """The blocks that run at each depth, shallowest first; all of them at the last."""
            return depths_of(self)

        @property
        def depth(self) -> int:
            """How many blocks run; all of them in a model that was just loaded."""
            return depth_of(self)

        def set_depth(self, depth: int) -> None:
            """Lets the model run at another of its `depths` from now on; nothing is copied, and no weight moves.

            It then computes what the model computes that `compress extract` writes. With `output_hidden_states` a block
            that does not run repeats the state before it. A model compiled by `torch.compile` is compiled anew at the
            first forward pass of each depth.

            Raises:
                DepthError: listing the depths that there are, if this is none of them.
            """
            set_depth(self, depth)

        def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
            """Saves the model as transformers does; `structure.json` and a model card go beside it."""
            super().save_pretrained(save_directory, *args, **kwargs)
            Structure.from_dict(self.config.structure).save(Path(save_directory) / STRUCTURE_FILE)
            (Path(save_directory) / CARD_FILE).write_text(model_card(self, {}))

    CompressedModel.config_class = config_class
    CompressedModel.__name__ = CompressedModel.__qualname__ = f"Compressed{base.__name__}"
    return CompressedModel


def _register(family: Family) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    model_base = family.original_class
    assert model_base.config_class is not None
    config_class = _make_config_class(model_base.config_class)
    model_class = _make_model_class(model_base, config_class)
    AutoConfig.register(str(config_class.model_type), config_class)
    family.auto.register(config_class, model_class)
    return config_class, model_class


_CLASSES = {family.model_type: _register(family) for family in FAMILIES}


def compressed_config(
    config: PreTrainedConfig, structure: Structure, depths: Mapping[int, Sequence[int]] | None = None
) -> PreTrainedConfig:
    """The config of the model that `structure` makes of the original; the given config may be a compressed one.

    Args:
        config: of the original model, or of one that is compressed already.
        structure: refers to the original model.
        depths: the blocks that run at each depth, among those that are left: an elastic model.
    """
    config = copy.deepcopy(config)
    config_class, _ = _CLASSES[str(config.model_type).removeprefix(COMPRESSED_PREFIX)]
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "depths")}
    if depths:
        values["depths"] = write_depths(depths)
    small = config_class.from_dict(values | {"structure": structure.to_dict()})
    small._attn_implementation = config._attn_implementation
    return small


def compressed_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The model class of a compressed config."""
    return _CLASSES[str(config.model_type).removeprefix(COMPRESSED_PREFIX)][1]
