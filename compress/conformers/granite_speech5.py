"""Granite Speech 5: IBM's self-conditioned Conformer with a CTC head (`GraniteSpeech5ForCTC`).

Its first blocks halve the frame rate and cannot be dropped; the rest may. The encoder counts its blocks: after half of
them the CTC posteriors are fed back. So a dropped block leaves a placeholder, and the others keep their numbers.
"""

from compress.conformers.description import Attention, Convolution, Family, FeedForward, Stock
from compress.conformers.new_model import NewModel

GRANITE_SPEECH5 = Family(
    name="granite_speech5",
    model_type="granite_speech5_ctc",
    model_class="GraniteSpeech5ForCTC",
    encoder="encoder",
    blocks="encoder.layers",
    ffn1=FeedForward("feed_forward1", norm="norm_feed_forward1", up="linear1", down="linear2"),
    attention=Attention(
        "self_attn",
        norm="norm_self_att",
        query="q_proj",
        key="k_proj",
        value="v_proj",
        out="o_proj",
        head_dim="head_dim",
        head_count="num_attention_heads",
    ),
    conv=Convolution(
        "conv",
        norm="norm_conv",
        glu="pointwise_lin1",
        depthwise="depthwise_conv",
        inner_norm="norm",
        out="pointwise_lin2",
    ),
    ffn2=FeedForward("feed_forward2", norm="norm_feed_forward2", up="linear1", down="linear2"),
    final_norm="norm_out",
    dropouts=("encoder_config.activation_dropout", "encoder_config.attention_dropout"),
    frame_lengths="_get_subsampling_output_length",
    input_rate=50,
    input_features="encoder_config.num_mel_bins",
    features_per_bin=4,
    numbered_blocks=True,
    fixed_blocks="encoder_config.subsample_layers",
    head="ctc_head",
    masks=(("attention_mask", "frames"),),
    block_count="encoder_config.num_hidden_layers",
    stock=Stock(
        ffn_units="encoder_config.intermediate_size",
        heads=("encoder_config.num_attention_heads", "encoder_config.num_key_value_heads"),
        head_dim="encoder_config.head_dim",
        halves=True,
    ),
)

NEW_GRANITE_SPEECH5 = NewModel(
    GRANITE_SPEECH5,
    settings={
        "hidden_size": 144,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "intermediate_size": 576,
        "subsample_layers": [0],
    },
    processor="GraniteSpeech5Processor",
    extractor="GraniteSpeech5FeatureExtractor",
    mel_bins="num_mel_bins",
    extractor_bins=("num_mel_bins",),
)
"""A Granite Speech 5 that learns on a CPU: 25 frames per second, about 4 million parameters."""
