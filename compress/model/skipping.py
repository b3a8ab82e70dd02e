"""Making a model that can skip: the same weights, with intermediate CTC heads and what its config says of them."""

from __future__ import annotations

from transformers import PreTrainedModel

from compress.conformers import block_units, family_of, structure_of
from compress.model.registration import compressed_config
from compress.model.removal import rebuild
from compress.running.skipping import Skipping, check_skipping
from compress.running.slimmable import PER_SIZE
from compress.running.subnets import elastic_fields
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
    config = compressed_config(model.config, structure_of(model), elastic_fields(model.config), skipping)
    made = rebuild(model, Structure.full(family_of(model).name, len(block_units(model))), config)
    own_by_size = {name: tensor for name, tensor in model.state_dict().items() if f".{PER_SIZE}." in name}
    made.load_state_dict(own_by_size, strict=False)
    return made
