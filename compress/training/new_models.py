"""The model to train: a new one of a family, or a checkpoint's, ready for training."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from transformers import (
    GraniteSpeech5CTCConfig,
    GraniteSpeech5EncoderConfig,
    GraniteSpeech5ForCTC,
    LasrCTCConfig,
    LasrEncoderConfig,
    LasrForCTC,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetForCTC,
    PreTrainedModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
)

from compress.checkpoint import load_model
from compress.conformers.torchaudio_model import TorchaudioConformerConfig, TorchaudioConformerForCTC
from compress.training.preparation import prepare_for_training

SMALL_PARAKEET: Mapping[str, Any] = {
    "hidden_size": 144,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "conv_kernel_size": 9,
    "subsampling_factor": 4,
    "subsampling_conv_channels": 64,
    "layerdrop": 0.0,
}
"""A FastConformer that learns on a CPU: 25 frames per second, about 4 million parameters."""

SMALL_WAV2VEC2_CONFORMER: Mapping[str, Any] = {
    "hidden_size": 144,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "conv_depthwise_kernel_size": 15,
    "conv_dim": (64, 96, 96, 96, 144),
    "conv_stride": (5, 4, 4, 4, 2),
    "conv_kernel": (10, 8, 8, 8, 4),
    "num_conv_pos_embeddings": 16,
    "position_embeddings_type": "relative",
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "ctc_loss_reduction": "mean",
    "ctc_zero_infinity": True,
}
"""A Wav2Vec2-Conformer that learns on a CPU: raw samples, 25 frames per second, about 4 million parameters."""


SMALL_WAV2VEC2_BERT: Mapping[str, Any] = {
    "hidden_size": 144,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "conv_depthwise_kernel_size": 15,
    "feature_projection_input_dim": 160,
    "position_embeddings_type": "relative_key",
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "ctc_loss_reduction": "mean",
    "ctc_zero_infinity": True,
}
"""A Wav2Vec2-BERT that learns on a CPU: pairs of 80 mel features, 50 frames per second, about 4 million parameters."""

SMALL_LASR: Mapping[str, Any] = {
    "hidden_size": 144,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "conv_kernel_size": 16,
    "subsampling_conv_channels": 64,
    "layerdrop": 0.0,
}
"""A LASR that learns on a CPU: 128 mel features, 25 frames per second, about 4 million parameters."""


SMALL_GRANITE_SPEECH5: Mapping[str, Any] = {
    "hidden_size": 144,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "intermediate_size": 576,
    "subsample_layers": [0],
}
"""A Granite Speech 5 that learns on a CPU: 25 frames per second, about 4 million parameters."""

MEL_BINS: Mapping[str, tuple[str, int]] = {
    "parakeet": ("num_mel_bins", ParakeetEncoderConfig.num_mel_bins),
    "wav2vec2_bert": ("feature_projection_input_dim", SMALL_WAV2VEC2_BERT["feature_projection_input_dim"]),
    "lasr": ("num_mel_bins", LasrEncoderConfig.num_mel_bins),
    "granite_speech5": ("num_mel_bins", GraniteSpeech5EncoderConfig.num_mel_bins),
    "torchaudio_conformer": ("num_features", TorchaudioConformerConfig.num_features),
}
"""Per family that takes mel features: the setting that holds their number per frame, and its default."""


@dataclass(frozen=True)
class ModelConfig:
    """Which model to train; give either a family or a checkpoint.

    Attributes:
        family: a new model of this family, one of `BUILDERS`.
        settings: of the new model, under the names transformers gives them (those of the encoder where it has a config
            of its own); those that are not named make a model small enough to learn on a CPU.
        checkpoint: folder or Hub name of a model to go on from, with its own tokens.
    """

    family: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if (self.family is None) == (self.checkpoint is None):
            raise ValueError(
                "Set either model.family (a new model) or model.checkpoint (one to go on from), "
                f"got family={self.family!r} and checkpoint={self.checkpoint!r}."
            )
        if self.checkpoint is not None and self.settings:
            raise ValueError(
                "model.settings describes a new model, and a checkpoint brings its own: remove one of them."
            )
        if self.family is not None and self.family not in BUILDERS:
            raise ValueError(f"model.family is {self.family!r}; choose one of {', '.join(BUILDERS)}.")


def build_model(config: ModelConfig, *, vocabulary_size: int, blank: int) -> PreTrainedModel:
    """The model, in training mode on the CPU, with layerdrop off and unused parts frozen.

    A new model's weights come from torch's global generator.

    Args:
        config: which model.
        vocabulary_size: number of tokens of the processor.
        blank: id of its blank.

    Raises:
        ValueError: naming a setting the family does not have and the nearest it has; or if the checkpoint has another
            vocabulary than the processor.
    """
    if config.checkpoint is None:
        assert config.family is not None
        model = BUILDERS[config.family](config.settings, vocabulary_size, blank)
        _draw_weights(model)
    else:
        model = load_model(config.checkpoint)
        if model.config.pad_token_id != blank:
            raise ValueError(
                f"{config.checkpoint}: the processor's blank is {blank}, the model's is {model.config.pad_token_id}."
            )
    prepare_for_training(model)
    model.train()
    return model


def fresh_model(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class, config and device whose weights are new, from torch's global generator."""
    fresh: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    _draw_weights(fresh)
    nn.Module.to(fresh, model.device)
    fresh.train(model.training)
    return fresh


def _draw_weights(model: nn.Module) -> None:
    """Draws the weights of linear and convolution layers anew as torch does, scaled by their number of inputs.

    transformers draws them with one small deviation (0.02) whatever the layer, which suits fine-tuning of large models.
    In a small one the signal dies on the way through the depthwise convolutions, and CTC stays at its prior for long.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not parametrize.is_parametrized(module):
            module.reset_parameters()


def mel_bins(config: ModelConfig) -> int:
    """Mel features per frame that a new model takes."""
    name, default = MEL_BINS.get(config.family or "", ("num_mel_bins", ParakeetEncoderConfig.num_mel_bins))
    return int(config.settings.get(name, default))


def _parakeet(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    encoder = _filled(SMALL_PARAKEET, settings, ParakeetEncoderConfig)
    return ParakeetForCTC(ParakeetCTCConfig(encoder_config=encoder, vocab_size=vocabulary_size, pad_token_id=blank))


def _lasr(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    encoder = _filled(SMALL_LASR, settings, LasrEncoderConfig)
    return LasrForCTC(LasrCTCConfig(encoder_config=encoder, vocab_size=vocabulary_size, pad_token_id=blank))


def _granite_speech5(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    encoder = _filled(SMALL_GRANITE_SPEECH5, settings, GraniteSpeech5EncoderConfig, vocab_size=vocabulary_size)
    config = GraniteSpeech5CTCConfig(encoder_config=encoder, vocab_size=vocabulary_size, pad_token_id=blank)
    return GraniteSpeech5ForCTC(config)


def _wav2vec2_conformer(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    own = {"vocab_size": vocabulary_size, "pad_token_id": blank}
    return Wav2Vec2ConformerForCTC(_filled(SMALL_WAV2VEC2_CONFORMER, settings, Wav2Vec2ConformerConfig, **own))


def _wav2vec2_bert(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    own = {"vocab_size": vocabulary_size, "pad_token_id": blank}
    return Wav2Vec2BertForCTC(_filled(SMALL_WAV2VEC2_BERT, settings, Wav2Vec2BertConfig, **own))


def _torchaudio_conformer(settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    own = {"vocab_size": vocabulary_size, "pad_token_id": blank}
    return TorchaudioConformerForCTC(_filled({}, settings, TorchaudioConformerConfig, **own))


BUILDERS: dict[str, Callable[[Mapping[str, Any], int, int], PreTrainedModel]] = {
    "parakeet": _parakeet,
    "wav2vec2_conformer": _wav2vec2_conformer,
    "wav2vec2_bert": _wav2vec2_bert,
    "lasr": _lasr,
    "granite_speech5": _granite_speech5,
    "torchaudio_conformer": _torchaudio_conformer,
}


def _filled(small: Mapping[str, Any], settings: Mapping[str, Any], config_class: type[Any], **own: Any) -> Any:
    """A config of small defaults and the settings given, whose names are checked."""
    known = [item.name for item in fields(config_class)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"model.settings has no {name!r} in {config_class.__name__}{hint}")
    return config_class(**{**small, **settings, **own})
