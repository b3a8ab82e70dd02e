"""The families of Conformers that `compress` knows, and how to read a model through its family's description.

Adding a family: one descriptive file beside this one, its entry in the registry, and its rows in the tests. That is
all it takes to compress a model; to train one from nothing, the same file also describes what a new one looks like.
"""

from compress.conformers.description import (
    FRONT_KIND,
    UNIT_KINDS,
    Attention,
    Convolution,
    Family,
    FeedForward,
    Module,
    Stock,
)
from compress.conformers.frames import block_mask, frame_lengths, frame_mask, frame_outputs
from compress.conformers.front_groups import FrontGroup, front_channels, front_groups
from compress.conformers.head import ctc_head, head_logits
from compress.conformers.new_model import NewModel
from compress.conformers.originals import kept_channels, kept_units, original_config, skeleton, structure_of
from compress.conformers.parts import (
    block_units,
    blocks_of,
    family_of,
    fixed_blocks,
    numbered_blocks,
    part,
    submodule,
    units_of,
)
from compress.conformers.registry import COMPRESSED_PREFIX, FAMILIES, NEW_MODELS, UnsupportedModelError, supported

__all__ = [
    "COMPRESSED_PREFIX",
    "FAMILIES",
    "FRONT_KIND",
    "NEW_MODELS",
    "UNIT_KINDS",
    "Attention",
    "Convolution",
    "Family",
    "FeedForward",
    "FrontGroup",
    "Module",
    "NewModel",
    "Stock",
    "UnsupportedModelError",
    "block_mask",
    "block_units",
    "blocks_of",
    "ctc_head",
    "family_of",
    "fixed_blocks",
    "frame_lengths",
    "frame_mask",
    "frame_outputs",
    "front_channels",
    "front_groups",
    "head_logits",
    "kept_channels",
    "kept_units",
    "numbered_blocks",
    "original_config",
    "part",
    "skeleton",
    "structure_of",
    "submodule",
    "supported",
    "units_of",
]
