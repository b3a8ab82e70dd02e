"""Granite Speech (`GraniteSpeechForConditionalGeneration`): a self-conditioned Conformer in front of a language model.

The encoder counts its blocks: after half of them its own CTC posteriors are fed back. So a dropped block leaves a
placeholder. It knows no padding: an utterance's frames depend on what stands beside it in the batch.
"""

from compress.conformers.description import Attention, Convolution, Family, FeedForward, Stock

GRANITE_SPEECH = Family(
    name="granite_speech",
    model_type="granite_speech",
    model_class="GraniteSpeechForConditionalGeneration",
    auto_class="AutoModelForSpeechSeq2Seq",
    encoder="model.encoder",
    ignores_padding=True,
    blocks="model.encoder.layers",
    ffn1=FeedForward("ff1", norm="ff1.pre_norm", up="up_proj", down="down_proj"),
    attention=Attention(
        "attn",
        norm="attn.pre_norm",
        query="to_q",
        key="to_kv",
        value="to_kv",
        out="to_out",
        head_dim="dim_head",
        own_head_count="num_heads",
        returns_weights=False,
    ),
    conv=Convolution(
        "conv",
        norm="conv.norm",
        glu="up_conv",
        depthwise="depth_conv.conv",
        inner_norm="batch_norm",
        out="down_conv",
    ),
    ffn2=FeedForward("ff2", norm="ff2.pre_norm", up="up_proj", down="down_proj"),
    final_norm="post_norm",
    dropouts=("encoder_config.dropout",),
    frame_lengths=None,
    input_rate=50,
    input_features="encoder_config.input_dim",
    padding_sensitive=True,
    numbered_blocks=True,
    prompt="chat",
    block_count="encoder_config.num_layers",
    stock=Stock(heads=("encoder_config.num_heads",), head_dim="encoder_config.dim_head", halves=True),
)
