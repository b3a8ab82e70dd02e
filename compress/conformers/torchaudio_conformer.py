"""torchaudio's Conformer with a CTC head (`TorchaudioConformerForCTC`, see `torchaudio_model.py`)."""

from compress.conformers.description import Attention, Convolution, Family, FeedForward
from compress.conformers.new_model import NewModel
from compress.conformers.torchaudio_model import TorchaudioConformerForCTC

TORCHAUDIO_CONFORMER = Family(
    name="torchaudio_conformer",
    model_type="torchaudio_conformer_ctc",
    model_class="TorchaudioConformerForCTC",
    own_class=TorchaudioConformerForCTC,
    encoder="encoder",
    blocks="encoder.conformer_layers",
    ffn1=FeedForward("ffn1", norm="ffn1.sequential.0", up="sequential.1", down="sequential.4"),
    attention=Attention(
        "self_attn",
        norm="self_attn_layer_norm",
        query="query",
        key="key",
        value="value",
        out="out",
        head_dim="head_dim",
    ),
    conv=Convolution(
        "conv_module",
        norm="conv_module.layer_norm",
        glu="sequential.0",
        depthwise="sequential.2",
        inner_norm="sequential.3",
        out="sequential.5",
    ),
    ffn2=FeedForward("ffn2", norm="ffn2.sequential.0", up="sequential.1", down="sequential.4"),
    final_norm="final_layer_norm",
    frames_first=("ffn1", "attention", "ffn2"),
    dropouts=("dropout",),
    frame_lengths="_get_output_lengths",
    input_rate=100,
    input_features="num_features",
    padding_sensitive=True,
    head="ctc_head",
    masks=(("key_padding_mask", "padding"),),
    block_count="num_layers",
)

NEW_TORCHAUDIO_CONFORMER = NewModel(
    TORCHAUDIO_CONFORMER,
    settings={},
    processor="ParakeetProcessor",
    extractor="ParakeetFeatureExtractor",
    mel_bins="num_features",
)
"""Small as its config has it: 25 frames per second, about 4 million parameters."""
