"""Cohere ASR (`CohereAsrForConditionalGeneration`): a Parakeet encoder under an attention decoder."""

from dataclasses import replace

from compress.conformers.canary import CANARY

COHERE_ASR = replace(
    CANARY,
    name="cohere_asr",
    model_type="cohere_asr",
    model_class="CohereAsrForConditionalGeneration",
    prompt="decoder_prompt",
)
