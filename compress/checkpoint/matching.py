"""Where a model meets its processor: whether the tokens of one are those of the other."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from compress.checkpoint.errors import CheckpointError, reason_of
from compress.checkpoint.loading import load_model, read_compression
from compress.checkpoint.processors import EXTRACTOR_FILES, load_processor
from compress.conformers import family_of, part
from compress.data.loader import extract_features, feature_extractor_of

logger = logging.getLogger(__name__)

TOKENS_SHOWN = 10


def load_recogniser(
    name: str, *, dtype: torch.dtype | Literal["auto"] = torch.float32, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel, Any]:
    """Loads a model in eval mode and its processor, which fit each other.

    Args:
        name: folder or Hub name.
        dtype: of the weights; `"auto"` leaves it as it was saved.
        device: where to put the model.

    Raises:
        CheckpointError: if one of them is not complete, or if they do not fit.
        ReadError: if what is known of how the model was made is damaged.
        UnsupportedModelError: if no family describes the model.
    """
    read_compression(name)  # what is said of the model at the end must not turn out to be damaged by then
    model, processor = load_model(name, dtype=dtype, device=device), load_processor(name)
    require_match(model.config, processor, name)
    return model, processor


def require_match(config: PreTrainedConfig, processor: Any, name: str) -> None:
    """Refuses a processor whose tokens are not those of a CTC model, or whose features are not those that it takes.

    A token beyond the model's outputs would make torch's CTC loss write outside of its memory, and with another blank
    every transcript comes out wrong. Special tokens beyond the outputs are common and do no harm: no transcript is
    spelt with them. A model without a CTC head brings its own way to write, and passes.

    Args:
        config: of the model.
        processor: a `transformers` processor with a `tokenizer`.
        name: of the checkpoint, for messages.

    Raises:
        CheckpointError: naming the tokens and the sizes, both blanks, or both numbers of features.
    """
    if not family_of(config).has_ctc:
        return
    _require_blank(config, processor.tokenizer, name)
    _require_outputs(config, processor.tokenizer, name)
    _require_features(config, processor, name)


def _require_blank(config: PreTrainedConfig, tokenizer: Any, name: str) -> None:
    blank, outputs = getattr(config, "pad_token_id", None), config.vocab_size
    if type(blank) is not int or not 0 <= blank < outputs:
        raise CheckpointError(
            f"{name}: pad_token_id, the model's CTC blank, is {blank!r} in config.json; set it to the number of one of "
            f"the model's {outputs} tokens, which is {tokenizer.pad_token_id!r} by the tokenizer."
        )
    if tokenizer.pad_token_id != blank:
        raise CheckpointError(
            f"{name}: the CTC blank is token {blank} by pad_token_id in config.json, and token "
            f"{tokenizer.pad_token_id!r} ({tokenizer.pad_token!r}) by the tokenizer; mend the one that is wrong, or "
            "take the processor that the model was trained with."
        )


def _require_features(config: PreTrainedConfig, processor: Any, name: str) -> None:
    family, extractor = family_of(config), feature_extractor_of(processor)
    features = _features_of_silence(extractor, name)
    if family.features not in features:
        raise CheckpointError(
            f"{name}: the model takes {family.features}, and the feature extractor ({type(extractor).__name__}) gives "
            f"{', '.join(features)}; take the processor that the model was trained with."
        )
    wanted = family.features_per_bin * part(config, family.input_features) if family.input_features else None
    given = features[family.features].shape[-1]
    if wanted not in (None, given):
        raise CheckpointError(
            f"{name}: the model takes {wanted} features a frame by {family.input_features} in config.json, and the "
            f"feature extractor gives {given}; take the processor that the model was trained with."
        )


def _features_of_silence(extractor: Any, name: str) -> Any:
    """What a feature extractor makes of a second of silence, or why it makes nothing."""
    rate = int(extractor.sampling_rate)
    try:
        return extract_features(extractor, [np.zeros(rate, np.float32)], rate)
    except Exception as error:  # whatever a class of transformers makes of settings that do not fit
        raise CheckpointError(
            f"{name}: the feature extractor ({type(extractor).__name__}) makes no features by its settings in "
            f"{' or '.join(EXTRACTOR_FILES)}: {reason_of(error)}."
        ) from error


def _require_outputs(config: PreTrainedConfig, tokenizer: Any, name: str) -> None:
    outputs, special = config.vocab_size, set(tokenizer.all_special_tokens)
    vocabulary = tokenizer.get_vocab()
    beyond = sorted((number, token) for token, number in vocabulary.items() if number >= outputs)
    spelt = [repr(token) for _, token in beyond if token not in special]
    if spelt:
        shown = ", ".join(spelt[:TOKENS_SHOWN]) + (", ..." if len(spelt) > TOKENS_SHOWN else "")
        raise CheckpointError(
            f"{name}: the tokenizer has {len(vocabulary)} tokens, but the model has outputs for {outputs}: there is "
            f"none for {shown}. Take the tokenizer that the model was trained with, or give the model a larger head."
        )
    if nameless := sorted(set(range(outputs)) - set(vocabulary.values())):
        logger.warning(
            "%s: no token of the tokenizer stands for %d of the model's %d outputs, such as %d; what they say is lost.",
            name,
            len(nameless),
            outputs,
            nameless[0],
        )
