"""The list of supported families, and finding the one that a model belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from compress.conformers.canary import CANARY
from compress.conformers.cohere_asr import COHERE_ASR
from compress.conformers.description import Family
from compress.conformers.granite_speech import GRANITE_SPEECH
from compress.conformers.granite_speech5 import GRANITE_SPEECH5, NEW_GRANITE_SPEECH5
from compress.conformers.lasr import LASR, NEW_LASR
from compress.conformers.nemotron_asr import NEMOTRON3_5_ASR, NEMOTRON_ASR_STREAMING
from compress.conformers.new_model import NewModel
from compress.conformers.parakeet import NEW_PARAKEET, PARAKEET
from compress.conformers.parakeet_transducers import PARAKEET_RNNT, PARAKEET_TDT
from compress.conformers.seamless_m4t import SEAMLESS_M4T, SEAMLESS_M4T_V2
from compress.conformers.torchaudio_conformer import NEW_TORCHAUDIO_CONFORMER, TORCHAUDIO_CONFORMER
from compress.conformers.wav2vec2_bert import NEW_WAV2VEC2_BERT, WAV2VEC2_BERT
from compress.conformers.wav2vec2_conformer import NEW_WAV2VEC2_CONFORMER, WAV2VEC2_CONFORMER

FAMILIES: tuple[Family, ...] = (
    PARAKEET,
    WAV2VEC2_CONFORMER,
    WAV2VEC2_BERT,
    LASR,
    GRANITE_SPEECH5,
    TORCHAUDIO_CONFORMER,
    PARAKEET_TDT,
    PARAKEET_RNNT,
    CANARY,
    COHERE_ASR,
    SEAMLESS_M4T,
    SEAMLESS_M4T_V2,
    GRANITE_SPEECH,
    NEMOTRON_ASR_STREAMING,
    NEMOTRON3_5_ASR,
)

NEW_MODELS: Mapping[str, NewModel] = {
    new.family.name: new
    for new in (
        NEW_PARAKEET,
        NEW_WAV2VEC2_CONFORMER,
        NEW_WAV2VEC2_BERT,
        NEW_LASR,
        NEW_GRANITE_SPEECH5,
        NEW_TORCHAUDIO_CONFORMER,
    )
}
"""The families of which new models can be trained, by name."""

COMPRESSED_PREFIX = "compressed_"
"""`model_type` of a compressed model: this prefix and the original's `model_type`."""


class UnsupportedModelError(ValueError):
    """A model that no family describes."""


def family_of_type(model_type: str, class_name: str) -> Family:
    """The family of a model with that `config.model_type` and class.

    Raises:
        UnsupportedModelError: listing what is supported and saying why this model is not.
    """
    original = model_type.removeprefix(COMPRESSED_PREFIX)
    for family in FAMILIES:
        if family.model_type == original:
            return family
    near = next((family.name for family in FAMILIES if family.name in original.replace("-", "_")), None)
    reason = "no family file describes where its modules and units live"
    if near:
        whole = [family.model_class for family in FAMILIES if f"{family.name}_".startswith(f"{near}_")]
        described = f"{', '.join(whole)} {'is' if len(whole) == 1 else 'are'} described so far"
        reason = f"its encoder looks like a {near}, but of that only {described}"
    raise UnsupportedModelError(f"{class_name} (model_type {model_type!r}) is not supported: {reason}. {supported()}")


def supported() -> str:
    """A sentence that lists the supported models."""
    names = ", ".join(f"{family.model_class} (model_type {family.model_type!r})" for family in FAMILIES)
    return f"Supported: {names}."
