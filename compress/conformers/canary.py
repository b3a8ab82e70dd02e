"""Canary (`CanaryForConditionalGeneration`): a Parakeet encoder under an attention decoder."""

from dataclasses import replace

from compress.conformers.parakeet import PARAKEET

CANARY = replace(
    PARAKEET,
    name="canary",
    model_type="canary",
    model_class="CanaryForConditionalGeneration",
    auto_class="AutoModelForSpeechSeq2Seq",
    encoder="model.encoder",
    blocks="model.encoder.layers",
    layerdrop="model.encoder.layerdrop",
    frame_lengths="model.encoder._get_subsampling_output_length",
    front=("model.encoder.subsampling",),
    prompt="transcription_request",
    head=None,
)
