"""The speech encoders of SeamlessM4T, version 1 and 2, in the models that write down speech (`...ForSpeechToText`).

Version 1 has the blocks of Wav2Vec2-Conformer, version 2 those of Wav2Vec2-BERT. The adapter between the encoder and
the text decoder stays as it is.
"""

from dataclasses import replace

from compress.conformers.description import Stock
from compress.conformers.wav2vec2_bert import WAV2VEC2_BERT

SEAMLESS_M4T_V2 = replace(
    WAV2VEC2_BERT,
    name="seamless_m4t_v2",
    model_type="seamless_m4t_v2",
    model_class="SeamlessM4Tv2ForSpeechToText",
    auto_class="AutoModelForSpeechSeq2Seq",
    other_classes=("SeamlessM4Tv2Model",),
    left_out=("text_encoder", "t2u_model", "vocoder"),
    projection="speech_encoder.feature_projection",
    encoder="speech_encoder.encoder",
    blocks="speech_encoder.encoder.layers",
    attention=replace(WAV2VEC2_BERT.attention, own_head_count="num_heads"),
    layerdrop="config.speech_encoder_layerdrop",
    dropouts=("speech_encoder_dropout",),
    frame_lengths=None,
    spec_augment=None,
    spec_augment_embedding=None,
    prompt="target_language",
    head=None,
    to_head=(),
    adapters=(),
    block_count="speech_encoder_layers",
    stock=Stock(),  # its adapter shares the number of heads and FFN units
)
SEAMLESS_M4T = replace(
    SEAMLESS_M4T_V2,
    name="seamless_m4t",
    model_type="seamless_m4t",
    model_class="SeamlessM4TForSpeechToText",
    other_classes=("SeamlessM4TModel",),
    attention=WAV2VEC2_BERT.attention,
    conv=replace(WAV2VEC2_BERT.conv, inner_norm="batch_norm"),
)
