"""Wav2Vec2-Conformer with a CTC head (`Wav2Vec2ConformerForCTC`), relative, rotary or no position embeddings."""

from compress.conformers.description import Attention, Convolution, Family, FeedForward, Stock
from compress.conformers.new_model import NewModel

WAV2VEC2_CONFORMER = Family(
    name="wav2vec2_conformer",
    model_type="wav2vec2-conformer",
    model_class="Wav2Vec2ConformerForCTC",
    encoder="wav2vec2_conformer.encoder",
    blocks="wav2vec2_conformer.encoder.layers",
    ffn1=FeedForward("ffn1", norm="ffn1_layer_norm", up="intermediate_dense", down="output_dense"),
    attention=Attention(
        "self_attn",
        norm="self_attn_layer_norm",
        query="linear_q",
        key="linear_k",
        value="linear_v",
        out="linear_out",
        head_dim="head_size",
        position="linear_pos",
        per_head=("pos_bias_u", "pos_bias_v"),
    ),
    conv=Convolution(
        "conv_module",
        norm="conv_module.layer_norm",
        glu="pointwise_conv1",
        depthwise="depthwise_conv",
        inner_norm="batch_norm",
        out="pointwise_conv2",
    ),
    ffn2=FeedForward("ffn2", norm="ffn2_layer_norm", up="intermediate_dense", down="output_dense"),
    final_norm="final_layer_norm",
    layerdrop="config.layerdrop",
    dropouts=(
        "hidden_dropout",
        "activation_dropout",
        "attention_dropout",
        "feat_proj_dropout",
        "final_dropout",
        "conformer_conv_dropout",
    ),
    frame_lengths="_get_feat_extract_output_lengths",
    input_rate=16000,
    dead=("wav2vec2_conformer.encoder.pos_conv_embed",),
    spec_augment="apply_spec_augment",
    spec_augment_embedding="wav2vec2_conformer.masked_spec_embed",
    padding_sensitive=True,
    head="lm_head",
    to_head=("wav2vec2_conformer.encoder.layer_norm", "dropout"),
    adapters=("wav2vec2_conformer.adapter",),
    masks=(("attention_mask", "attention"),),
    positions="relative_position_embeddings",
    block_count="num_hidden_layers",
    stock=Stock(
        ffn_units="intermediate_size",
        dead=(("num_conv_pos_embeddings", 1), ("num_conv_pos_embedding_groups", "hidden_size")),
    ),
)

NEW_WAV2VEC2_CONFORMER = NewModel(
    WAV2VEC2_CONFORMER,
    settings={
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
    },
    processor="Wav2Vec2Processor",
    extractor="Wav2Vec2FeatureExtractor",
    extractor_settings={"return_attention_mask": True, "do_normalize": True},
    characters="Wav2Vec2CTCTokenizer",
)
"""A Wav2Vec2-Conformer that learns on a CPU: raw samples, 25 frames per second, about 4 million parameters."""
