"""The classes of compressed models: the family's own class, built at full size and then shrunk to its Structure.

This module and what it imports also make up the file that travels with a checkpoint (see
`compress.model.modelling_file`), so it imports nothing that only a compressing program needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

from compress.conformers import COMPRESSED_PREFIX, Family, family_of, part
from compress.running.aspects import ASPECTS, prepare_aspects_
from compress.structure import STRUCTURE_FILE, Structure, StructureError
from compress.surgery.slicing import shrink_

MODELLING_FILE = "modeling_compressed.py"
"""Name of the file that travels with a checkpoint and holds its classes."""


def compressed_classes(
    family: Family, write_beside: Callable[[PreTrainedConfig, Path], None]
) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    """Makes the config class and the model class of a family's compressed models.

    Args:
        family: the family.
        write_beside: writes into a checkpoint's folder what else belongs to it, the modelling file above all.
    """
    model_base = family.original_class
    assert model_base.config_class is not None
    names = {
        "AutoConfig": f"Compressed{model_base.config_class.__name__}",
        family.auto_class: f"Compressed{model_base.__name__}",
    }
    auto_map = {auto: f"{Path(MODELLING_FILE).stem}.{name}" for auto, name in names.items()}
    config_class = _make_config_class(model_base.config_class, auto_map, write_beside)
    model_class = _make_model_class(model_base, config_class)
    if family.auto_class == "AutoModelForSpeechSeq2Seq":  # the pipeline knows models with a decoder by these names
        MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[str(config_class.model_type)] = model_class.__name__
    return config_class, model_class


def _make_config_class(
    base: type[PreTrainedConfig], auto_map: dict[str, str], write_beside: Callable[[PreTrainedConfig, Path], None]
) -> type[PreTrainedConfig]:
    names = [name for aspect in ASPECTS for name in aspect.fields]
    of_aspects = {"__annotations__": dict.fromkeys(names, Any), **dict.fromkeys(names)}

    class CompressedConfig(type(base.__name__, (base,), of_aspects)):  # type: ignore[misc]
        """The original's config, the Structure that a compressed model keeps of it, and how it can run in part."""

        model_type = COMPRESSED_PREFIX + str(base.model_type)
        structure: Any = None

        def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
            """Saves the config as transformers does, and beside it all that a complete checkpoint needs but weights."""
            structure = _structure_in(self)
            self.auto_map = dict(auto_map)  # whatever it was: loading from the Hub puts the repository's name into it
            super().save_pretrained(save_directory, *args, **kwargs)
            structure.save(Path(save_directory) / STRUCTURE_FILE)
            write_beside(self, Path(save_directory))

    CompressedConfig.__name__ = CompressedConfig.__qualname__ = f"Compressed{base.__name__}"
    return CompressedConfig


def _make_model_class(base: type[PreTrainedModel], config_class: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    methods = [aspect.methods for aspect in ASPECTS]

    class CompressedModel(*methods, base):  # type: ignore[misc,valid-type]
        """The original's model, physically reduced to its config's Structure, and what it gains by running in part."""

        def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
            structure = _structure_in(config)
            _check_blocks(config, structure)
            super().__init__(config, *args, **kwargs)
            shrink_(self, structure)
            prepare_aspects_(self)

    CompressedModel.config_class = config_class
    CompressedModel.__name__ = CompressedModel.__qualname__ = f"Compressed{base.__name__}"
    return CompressedModel


def _structure_in(config: PreTrainedConfig) -> Structure:
    """The Structure that a compressed config holds; checked in itself, before anything is built."""
    if config.structure is None:
        raise StructureError("config.json of this compressed checkpoint has no `structure`; it cannot be built.")
    return Structure.from_dict(config.structure)


def _check_blocks(config: PreTrainedConfig, structure: Structure) -> None:
    """Compares the number of blocks with the config's before that many are built."""
    path = family_of(config).block_count
    count = part(config, path)
    if count != len(structure.blocks):
        raise StructureError(f"structure.blocks has {len(structure.blocks)} entries, but {path} is {count!r}.")
