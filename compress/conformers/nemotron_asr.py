"""Streaming Nemotron (`NemotronAsrStreamingForRNNT`, `Nemotron3_5AsrForRNNT`): a causal FastConformer and a transducer.

Its blocks have Parakeet's names. Convolutions are causal, with a LayerNorm over their channels, and attention can keep
keys and values of earlier chunks of a stream in a cache.
"""

from dataclasses import replace

from compress.conformers.parakeet import PARAKEET

NEMOTRON_ASR_STREAMING = replace(
    PARAKEET,
    name="nemotron_asr_streaming",
    model_type="nemotron_asr_streaming",
    model_class="NemotronAsrStreamingForRNNT",
    head=None,
    auto_class="AutoModelForRNNT",
    attention=replace(PARAKEET.attention, cache_number="layer_idx"),
)
NEMOTRON3_5_ASR = replace(
    NEMOTRON_ASR_STREAMING,
    name="nemotron3_5_asr",
    model_type="nemotron3_5_asr",
    model_class="Nemotron3_5AsrForRNNT",
    frame_lengths="encoder._get_subsampling_output_length",
)
