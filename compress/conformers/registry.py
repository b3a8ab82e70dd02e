"""The list of supported families, and finding the one that a model belongs to."""

from __future__ import annotations

from compress.conformers.description import Family
from compress.conformers.granite_speech5 import GRANITE_SPEECH5
from compress.conformers.lasr import LASR
from compress.conformers.parakeet import PARAKEET
from compress.conformers.torchaudio_conformer import TORCHAUDIO_CONFORMER
from compress.conformers.wav2vec2_bert import WAV2VEC2_BERT
from compress.conformers.wav2vec2_conformer import WAV2VEC2_CONFORMER

FAMILIES: tuple[Family, ...] = (
    PARAKEET,
    WAV2VEC2_CONFORMER,
    WAV2VEC2_BERT,
    LASR,
    GRANITE_SPEECH5,
    TORCHAUDIO_CONFORMER,
)

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
    near = [family for family in FAMILIES if family.name in original.replace("-", "_")]
    reason = (
        f"its encoder looks like a {near[0].name}, but only the CTC model {near[0].model_class} is described so far"
        if near
        else "no family file describes where its modules and units live"
    )
    raise UnsupportedModelError(f"{class_name} (model_type {model_type!r}) is not supported: {reason}. {supported()}")


def supported() -> str:
    """A sentence that lists the supported models."""
    names = ", ".join(f"{family.model_class} (model_type {family.model_type!r})" for family in FAMILIES)
    return f"Supported: {names}."
