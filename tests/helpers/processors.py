"""Processors for the tiny models without a CTC head (`tests.helpers.tiny`): characters, and tokens they look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CanaryProcessor,
    CohereAsrFeatureExtractor,
    CohereAsrProcessor,
    GraniteSpeechFeatureExtractor,
    GraniteSpeechProcessor,
    Nemotron3_5AsrProcessor,
    NemotronAsrStreamingFeatureExtractor,
    NemotronAsrStreamingProcessor,
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    SeamlessM4TProcessor,
)

from compress.checkpoint import save
from compress.conformers import family_of
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.tiny import PARAKEET_ENCODER, VOCABULARY

MEL_BINS = 16
CHAT = "{% for message in messages %}{{ message['content'] if message['content'] is string else 'low' }}{% endfor %}"


def tokenizer(last: str) -> Any:
    """Characters of the tones' names; the last token is a special one."""
    found = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=MEL_BINS).tokenizer
    found.add_tokens([f"<{number}>" for number in range(len(found), VOCABULARY - 1)])
    found.add_special_tokens({"additional_special_tokens": [last]})
    assert len(found) == VOCABULARY
    return found


def save_tiny(folder: Path) -> None:
    """Writes a new Parakeet that spells the tones' names."""
    processor = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=MEL_BINS)
    sizes = {"vocab_size": len(processor.tokenizer), "pad_token_id": processor.tokenizer.pad_token_id}
    torch.manual_seed(0)
    save(ParakeetForCTC(ParakeetCTCConfig(**sizes, encoder_config=PARAKEET_ENCODER)), processor, folder)


def processor_of(model: PreTrainedModel) -> Any:
    """The processor of a model of `OTHER_MODELS`, and what its generation config has to know of it."""
    name = family_of(model).name
    if hasattr(model.config, "blank_token_id"):
        model.generation_config.decoder_start_token_id = model.config.blank_token_id
    if hasattr(model.config, "durations"):  # the joint network's last outputs are no tokens
        model.generation_config.suppress_tokens = [VOCABULARY + index for index in range(len(model.config.durations))]
    mel = {"feature_size": MEL_BINS}
    if name.startswith("parakeet"):
        kind = name.removeprefix("parakeet_")
        return ParakeetProcessor(ParakeetFeatureExtractor(**mel), tokenizer("<blank>"), decoder_type=kind)
    if name == "nemotron_asr_streaming":
        return NemotronAsrStreamingProcessor(NemotronAsrStreamingFeatureExtractor(**mel), tokenizer("<blank>"))
    if name == "nemotron3_5_asr":
        extractor = NemotronAsrStreamingFeatureExtractor(**mel)
        return Nemotron3_5AsrProcessor(extractor, tokenizer("<blank>"), prompt_dictionary={"en": 1})
    if name == "canary":
        return CanaryProcessor(ParakeetFeatureExtractor(**mel), tokenizer("<en>"), chat_template=CHAT)
    if name == "cohere_asr":
        return CohereAsrProcessor(CohereAsrFeatureExtractor(**mel), tokenizer("<en>"))
    if name == "granite_speech":
        extractor = GraniteSpeechFeatureExtractor(n_mels=model.config.encoder_config.input_dim // 2)
        return GraniteSpeechProcessor(extractor, tokenizer("<|audio|>"), chat_template=CHAT)
    model.generation_config.text_decoder_lang_to_code_id = {"eng": 4}
    model.generation_config._from_model_config = False  # else it is made anew when loaded
    extractor = SeamlessM4TFeatureExtractor(feature_size=MEL_BINS // 2, num_mel_bins=MEL_BINS // 2, stride=2)
    return SeamlessM4TProcessor(extractor, tokenizer("<eng>"))
