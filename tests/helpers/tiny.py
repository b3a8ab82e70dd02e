"""Tiny random models of every family, and random Structures of them. Rows of the parametrised tests."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    CanaryConfig,
    CanaryForConditionalGeneration,
    CohereAsrConfig,
    CohereAsrForConditionalGeneration,
    GraniteSpeech5CTCConfig,
    GraniteSpeech5ForCTC,
    GraniteSpeechConfig,
    GraniteSpeechForConditionalGeneration,
    LasrCTCConfig,
    LasrForCTC,
    Nemotron3_5AsrConfig,
    Nemotron3_5AsrForRNNT,
    NemotronAsrStreamingConfig,
    NemotronAsrStreamingForRNNT,
    ParakeetCTCConfig,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TConfig,
    SeamlessM4TForSpeechToText,
    SeamlessM4Tv2Config,
    SeamlessM4Tv2ForSpeechToText,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
)

from compress.conformers import block_units, family_of, fixed_blocks, front_channels
from compress.conformers.torchaudio_model import TorchaudioConformerConfig, TorchaudioConformerForCTC
from compress.structure import FEWEST_CHANNELS, Block, Kept, Structure

BLOCKS = 3
VOCABULARY = 20
DIMENSIONS = {"hidden_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "intermediate_size": 64}


PARAKEET_ENCODER = {**DIMENSIONS, "subsampling_conv_channels": 8, "num_mel_bins": 16, "subsampling_factor": 4}


def _built_once(build: Callable[..., PreTrainedModel]) -> Callable[..., PreTrainedModel]:
    """Gives copies of what `build` makes of the same arguments, which takes a third of the time."""
    known = functools.cache(build)

    @functools.wraps(build)
    def model(*arguments: Any, **named: Any) -> PreTrainedModel:
        return copy.deepcopy(known(*arguments, **named))

    return model


@_built_once
def parakeet(seed: int = 0, **encoder: Any) -> PreTrainedModel:
    settings = PARAKEET_ENCODER | encoder
    config = ParakeetCTCConfig(vocab_size=VOCABULARY, pad_token_id=VOCABULARY - 1, encoder_config=settings)
    return _shaken(lambda: ParakeetForCTC(config), seed)


@_built_once
def wav2vec2_conformer(position: str | None, seed: int = 0, last_stride: int = 2) -> PreTrainedModel:
    config = Wav2Vec2ConformerConfig(
        vocab_size=VOCABULARY,
        **DIMENSIONS,
        conv_dim=(16, 16),
        conv_kernel=(10, last_stride + 1),
        conv_stride=(5, last_stride),
        position_embeddings_type=position,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        max_source_positions=600,
    )
    return _shaken(lambda: Wav2Vec2ConformerForCTC(config), seed)


@_built_once
def wav2vec2_bert(position: str | None, seed: int = 0) -> PreTrainedModel:
    config = Wav2Vec2BertConfig(
        vocab_size=VOCABULARY,
        **DIMENSIONS,
        feature_projection_input_dim=16,
        conv_depthwise_kernel_size=7,
        position_embeddings_type=position,
        max_source_positions=600,
    )
    return _shaken(lambda: Wav2Vec2BertForCTC(config), seed)


@_built_once
def lasr(seed: int = 0) -> PreTrainedModel:
    encoder = {
        **DIMENSIONS,
        "conv_kernel_size": 8,
        "subsampling_conv_channels": 8,
        "num_mel_bins": 16,
    }
    return _shaken(lambda: LasrForCTC(LasrCTCConfig(vocab_size=VOCABULARY, encoder_config=encoder)), seed)


@_built_once
def granite_speech5(seed: int = 0) -> PreTrainedModel:
    encoder = {
        **DIMENSIONS,
        "num_mel_bins": 4,
        "context_size": 16,
        "max_position_embeddings": 16,
        "subsample_layers": [0],
        "vocab_size": VOCABULARY,
    }
    config = GraniteSpeech5CTCConfig(vocab_size=VOCABULARY, encoder_config=encoder)
    return _shaken(lambda: GraniteSpeech5ForCTC(config), seed)


@_built_once
def torchaudio_conformer(use_group_norm: bool, seed: int = 0, **settings: Any) -> PreTrainedModel:
    config = TorchaudioConformerConfig(
        vocab_size=VOCABULARY,
        num_features=16,
        input_dim=32,
        num_heads=4,
        ffn_dim=64,
        num_layers=BLOCKS,
        depthwise_conv_kernel_size=7,
        use_group_norm=use_group_norm,
        **settings,
    )
    return _shaken(lambda: TorchaudioConformerForCTC(config), seed)


SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LANGUAGE_MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    **SPECIAL,
}


@_built_once
def transducer(
    model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig], seed: int = 0, **more: Any
) -> PreTrainedModel:
    config = config_class(
        vocab_size=VOCABULARY,
        pad_token_id=0,
        blank_token_id=VOCABULARY - 1,
        decoder_hidden_size=16,
        num_decoder_layers=1,
        max_symbols_per_step=2,
        encoder_config=PARAKEET_ENCODER,
        **more,
    )
    return _shaken(lambda: model_class(config), seed)


@_built_once
def canary(seed: int = 0) -> PreTrainedModel:
    config = CanaryConfig(
        vocab_size=VOCABULARY,
        decoder_start_token_id=3,
        encoder_config=PARAKEET_ENCODER,
        decoder_config={**LANGUAGE_MODEL, "head_dim": 16},
        **SPECIAL,
    )
    return _shaken(lambda: CanaryForConditionalGeneration(config), seed)


@_built_once
def cohere_asr(seed: int = 0) -> PreTrainedModel:
    config = CohereAsrConfig(decoder_start_token_id=3, encoder_config=PARAKEET_ENCODER, **LANGUAGE_MODEL)
    return _shaken(lambda: CohereAsrForConditionalGeneration(config), seed)


@_built_once
def seamless_m4t(
    model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig], seed: int = 0, **more: Any
) -> PreTrainedModel:
    config = config_class(
        vocab_size=VOCABULARY,
        hidden_size=32,
        speech_encoder_layers=BLOCKS,
        speech_encoder_attention_heads=4,
        speech_encoder_intermediate_size=64,
        feature_projection_input_dim=16,
        conv_depthwise_kernel_size=7,
        decoder_layers=1,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        max_source_positions=600,
        **more,
    )
    return _shaken(lambda: model_class(config), seed)


@_built_once
def granite_speech(input_dim: int = 16, seed: int = 0) -> PreTrainedModel:
    config = GraniteSpeechConfig(
        has_lora_adapter=False,
        audio_token_index=VOCABULARY - 1,
        encoder_config={
            "input_dim": input_dim,
            "num_layers": BLOCKS,
            "hidden_dim": 32,
            "feedforward_mult": 2,
            "num_heads": 4,
            "output_dim": VOCABULARY,
            "context_size": 16,
            "max_pos_emb": 16,
            "conv_kernel_size": 7,
        },
        text_config={"model_type": "granite", **LANGUAGE_MODEL},
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 32,
            "encoder_hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
    )
    return _shaken(lambda: GraniteSpeechForConditionalGeneration(config), seed)


SETTINGS: dict[str, dict[str, Any]] = {
    "torchaudio_conformer": {"input_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 32},
} | {
    family: {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, **more}
    for family, more in {
        "parakeet": {"subsampling_conv_channels": 4},
        "wav2vec2_conformer": {"conv_dim": (8,) * 5},
        "wav2vec2_bert": {},
        "lasr": {"subsampling_conv_channels": 4},
        "granite_speech5": {"context_size": 16, "subsample_layers": [0], "num_hidden_layers": 2},
    }.items()
}
"""Per family, settings of `ModelConfig` that make a new model tiny."""

CTC_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "parakeet": parakeet,
    "wav2vec2_conformer-relative": lambda: wav2vec2_conformer("relative"),
    "wav2vec2_conformer-rotary": lambda: wav2vec2_conformer("rotary"),
    "wav2vec2_conformer-none": lambda: wav2vec2_conformer(None),
    "wav2vec2_bert-relative_key": lambda: wav2vec2_bert("relative_key"),
    "wav2vec2_bert-relative": lambda: wav2vec2_bert("relative"),
    "wav2vec2_bert-rotary": lambda: wav2vec2_bert("rotary"),
    "lasr": lasr,
    "granite_speech5": granite_speech5,
    "torchaudio_conformer-batch": lambda: torchaudio_conformer(use_group_norm=False),
    "torchaudio_conformer-group": lambda: torchaudio_conformer(use_group_norm=True),
}
OTHER_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "parakeet_tdt": lambda: transducer(ParakeetForTDT, ParakeetTDTConfig),
    "parakeet_rnnt": lambda: transducer(ParakeetForRNNT, ParakeetRNNTConfig),
    "canary": canary,
    "cohere_asr": cohere_asr,
    "seamless_m4t-relative": lambda: seamless_m4t(SeamlessM4TForSpeechToText, SeamlessM4TConfig),
    "seamless_m4t-rotary": lambda: seamless_m4t(
        SeamlessM4TForSpeechToText, SeamlessM4TConfig, position_embeddings_type="rotary"
    ),
    "seamless_m4t_v2": lambda: seamless_m4t(SeamlessM4Tv2ForSpeechToText, SeamlessM4Tv2Config),
    "granite_speech": granite_speech,
    "nemotron_asr_streaming": lambda: transducer(NemotronAsrStreamingForRNNT, NemotronAsrStreamingConfig),
    "nemotron3_5_asr": lambda: transducer(
        Nemotron3_5AsrForRNNT, Nemotron3_5AsrConfig, num_prompts=8, prompt_intermediate_size=16, default_prompt_id=1
    ),
}
MODELS = CTC_MODELS | OTHER_MODELS


def _shaken(build: Callable[[], PreTrainedModel], seed: int) -> PreTrainedModel:
    """A model whose every parameter and running statistic is random, so that no wrong slice goes unseen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.copy_(0.3 * torch.randn_like(buffer))
                elif name.endswith("running_var"):
                    buffer.copy_(0.5 + torch.rand_like(buffer))
    return model.eval()


def batch(model: PreTrainedModel, seed: int = 1) -> dict[str, torch.Tensor]:
    """Two utterances of different length with their attention mask."""
    generator = torch.Generator().manual_seed(seed)
    family = family_of(model)
    if family.input_features:
        mask = torch.ones(2, 96, dtype=torch.long)
        mask[1, 60:] = 0
        return {"input_features": torch.randn(2, 96, 16, generator=generator), "attention_mask": mask}
    mask = torch.ones(2, 3000, dtype=torch.long)
    mask[1, 1800:] = 0
    return {"input_values": torch.randn(2, 3000, generator=generator) * mask, "attention_mask": mask}


def random_structure(model: PreTrainedModel, seed: int, *, drop_blocks: bool = True, front: bool = False) -> Structure:
    """A random Structure with emptied modules, emptied blocks and dropped blocks among its parts.

    Args:
        model: that it is for.
        seed: the blocks depend on it alone.
        drop_blocks: whether blocks may be dropped.
        front: whether it keeps parts of groups in front of the blocks, too.
    """
    chooser = random.Random(seed)
    blocks: list[Block | None] = []
    fixed = fixed_blocks(model)
    for index, counts in enumerate(block_units(model)):
        fate = chooser.random()
        if fate < 0.15 and drop_blocks and index not in fixed:
            blocks.append(None)
        elif fate < 0.3:
            blocks.append(Block(None, None, None, None))
        else:
            blocks.append(Block(**{name: _random_kept(chooser, count) for name, count in counts.items()}))
    if not any(blocks):
        blocks[-1] = Block()
    kept = random_front(model, chooser) if front else {}
    return Structure(family_of(model).name, tuple(blocks), kept)


def random_front(model: PreTrainedModel, chooser: random.Random) -> dict[str, tuple[int, ...]]:
    """Random channels of most groups in front of the blocks."""
    channels = {name: count for name, count in front_channels(model).items() if chooser.random() < 0.6}
    return {
        name: tuple(sorted(chooser.sample(range(count), chooser.randint(FEWEST_CHANNELS, count))))
        for name, count in channels.items()
    }


def _random_kept(chooser: random.Random, count: int) -> Kept:
    fate = chooser.random()
    if fate < 0.2 or not count:
        return None
    if fate < 0.4:
        return "all"
    return tuple(sorted(chooser.sample(range(count), chooser.randint(1, count))))
