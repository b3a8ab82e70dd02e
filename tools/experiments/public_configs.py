"""Configurations of public checkpoints: their dimensions, without any weights.

The dimensions are those of the checkpoints' own configs as far as they are known, otherwise the defaults of
transformers' config classes, which follow these checkpoints.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    CanaryConfig,
    CohereAsrConfig,
    GraniteSpeech5CTCConfig,
    GraniteSpeechConfig,
    LasrCTCConfig,
    Nemotron3_5AsrConfig,
    NemotronAsrStreamingConfig,
    ParakeetCTCConfig,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    PreTrainedConfig,
    SeamlessM4TConfig,
    SeamlessM4Tv2Config,
    Wav2Vec2BertConfig,
    Wav2Vec2ConformerConfig,
)

LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "vocab_size": 32,
}
MEDIUM: dict[str, Any] = {
    "speech_encoder_layers": 12,
    "speech_encoder_intermediate_size": 4096,
    "decoder_ffn_dim": 4096,
}
GRANITE_2B = {
    "model_type": "granite",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 49160,
}

CONFIGS: dict[str, PreTrainedConfig] = {
    "nvidia/parakeet-ctc-0.6b": ParakeetCTCConfig(),
    "nvidia/parakeet-ctc-1.1b": ParakeetCTCConfig(encoder_config={"num_hidden_layers": 42}),
    "facebook/wav2vec2-conformer-rel-pos-large": Wav2Vec2ConformerConfig(**LARGE, position_embeddings_type="relative"),
    "facebook/wav2vec2-conformer-rope-large": Wav2Vec2ConformerConfig(**LARGE, position_embeddings_type="rotary"),
    "facebook/w2v-bert-2.0 (with a CTC head)": Wav2Vec2BertConfig(vocab_size=32),
    "google/medasr": LasrCTCConfig(),
    "ibm-granite/granite-speech-5.0-470m-turboctc": GraniteSpeech5CTCConfig(),
    "nvidia/parakeet-tdt-0.6b-v3": ParakeetTDTConfig(encoder_config={"num_mel_bins": 128}),
    "nvidia/parakeet-rnnt-0.6b": ParakeetRNNTConfig(vocab_size=1025, blank_token_id=1024),
    "nvidia/parakeet-rnnt-1.1b": ParakeetRNNTConfig(
        vocab_size=1025, blank_token_id=1024, encoder_config={"num_hidden_layers": 42}
    ),
    "nvidia/canary-1b-v2": CanaryConfig(),
    "CohereLabs/cohere-transcribe-03-2026": CohereAsrConfig(),
    "nvidia/nemotron-speech-streaming-en-0.6b": NemotronAsrStreamingConfig(),
    "nvidia/nemotron-3.5-asr-streaming-0.6b": Nemotron3_5AsrConfig(),
    "facebook/hf-seamless-m4t-medium (speech to text)": SeamlessM4TConfig(**MEDIUM),
    "facebook/seamless-m4t-v2-large (speech to text)": SeamlessM4Tv2Config(),
    "ibm-granite/granite-speech-3.3-2b": GraniteSpeechConfig(text_config=GRANITE_2B, encoder_config={"num_layers": 16}),
}
