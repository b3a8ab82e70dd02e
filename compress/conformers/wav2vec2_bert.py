"""Wav2Vec2-BERT with a CTC head (`Wav2Vec2BertForCTC`): causal convolutions with a LayerNorm over their channels."""

from compress.conformers.description import Attention, Convolution, Family, FeedForward, Stock

WAV2VEC2_BERT = Family(
    name="wav2vec2_bert",
    model_type="wav2vec2-bert",
    model_class="Wav2Vec2BertForCTC",
    encoder="wav2vec2_bert.encoder",
    blocks="wav2vec2_bert.encoder.layers",
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
        inner_norm="depthwise_layer_norm",
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
    input_rate=50,
    input_features="feature_projection_input_dim",
    spec_augment="apply_spec_augment",
    spec_augment_embedding="wav2vec2_bert.masked_spec_embed",
    block_count="num_hidden_layers",
    stock=Stock(ffn_units="intermediate_size"),
)
