"""Making a model that can skip: the same weights, with intermediate CTC heads and what its config says of them."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import block_units, family_of, structure_of
from compress.model.registration import compressed_config
from compress.model.removal import rebuild
from compress.running.aspects import aspect_fields
from compress.running.skipping import Skipping, check_skipping, write_skipping
from compress.structure import Structure


def able_to_skip(model: PreTrainedModel, skipping: Skipping) -> PreTrainedModel:
    """Builds the form of a model that can skip; the given one stays untouched.

    Args:
        model: a CTC model of any family, compressed or not, elastic or not.
        skipping: where it gets intermediate outputs, and by which settings it skips. Heads that it has there already
            stay; new ones begin as copies of its CTC head and have yet to be trained.

    Returns:
        A new model on the same device, in the same dtype and mode, which shares no memory with the given one.

    Raises:
        SkippingError: if the model cannot skip there.
        UnsupportedModelError: if the outputs of its blocks cannot be led to a CTC head.
    """
    check_skipping(model, skipping)
    full = Structure.full(family_of(model).name, len(block_units(model)))
    return rebuild(model, full, config_able_to_skip(model.config, skipping))


def config_able_to_skip(config: PreTrainedConfig, skipping: Skipping) -> PreTrainedConfig:
    """The config of the model that `able_to_skip` makes; all else that it says of running in part stays."""
    fields = aspect_fields(config) | {"skipping": write_skipping(skipping)}
    return compressed_config(config, structure_of(config), fields)
