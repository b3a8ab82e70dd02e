"""Parakeet: NVIDIA's FastConformer with a CTC head (`ParakeetForCTC`)."""

from compress.conformers.description import Attention, Convolution, Family, FeedForward, Stock
from compress.conformers.new_model import NewModel

PARAKEET = Family(
    name="parakeet",
    model_type="parakeet_ctc",
    model_class="ParakeetForCTC",
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
        position="relative_k_proj",
        per_head=("bias_u", "bias_v"),
        head_count="num_attention_heads",
    ),
    conv=Convolution(
        "conv",
        norm="norm_conv",
        glu="pointwise_conv1",
        depthwise="depthwise_conv",
        inner_norm="norm",
        out="pointwise_conv2",
    ),
    ffn2=FeedForward("feed_forward2", norm="norm_feed_forward2", up="linear1", down="linear2"),
    final_norm="norm_out",
    layerdrop="encoder.layerdrop",
    dropouts=tuple(
        f"encoder_config.{name}" for name in ("dropout", "dropout_positions", "activation_dropout", "attention_dropout")
    ),
    frame_lengths="_get_subsampling_output_length",
    input_rate=100,
    input_features="encoder_config.num_mel_bins",
    head="ctc_head",
    masks=(("attention_mask", "pairs"),),
    positions="position_embeddings",
    block_count="encoder_config.num_hidden_layers",
    front=("encoder.subsampling",),
    stock=Stock(
        ffn_units="encoder_config.intermediate_size",
        heads=("encoder_config.num_attention_heads", "encoder_config.num_key_value_heads"),
        head_dim="encoder_config.head_dim",
        front="encoder_config.subsampling_conv_channels",
    ),
)

NEW_PARAKEET = NewModel(
    PARAKEET,
    settings={
        "hidden_size": 144,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "intermediate_size": 576,
        "conv_kernel_size": 9,
        "subsampling_factor": 4,
        "subsampling_conv_channels": 64,
        "layerdrop": 0.0,
    },
    processor="ParakeetProcessor",
    extractor="ParakeetFeatureExtractor",
    mel_bins="num_mel_bins",
    blank_first=False,
)
"""A FastConformer that learns on a CPU: 25 frames per second, about 4 million parameters."""
