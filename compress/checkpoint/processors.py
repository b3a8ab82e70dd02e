"""Loading processors: the feature extractor and the tokenizer of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertProcessor,
    Wav2Vec2Processor,
)

from compress.checkpoint.errors import CheckpointError, reason_of
from compress.checkpoint.folders import require_folder
from compress.checkpoint.limits import check_extractor_config
from compress.data.loader import feature_extractor_of
from compress.files.reading import read_json, require_regular

EXTRACTOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "special_tokens_map.json")
WITH_LANGUAGE_MODEL = "Wav2Vec2ProcessorWithLM"
"""The processor that decodes with a language model; here decoding is greedy, and the plain one does."""


def load_processor(model: str) -> Any:
    """Loads the processor (feature extractor and tokenizer) of a checkpoint.

    A processor that has a language model beside is loaded without it.

    Raises:
        CheckpointError: naming the checkpoint, if it has none, or one that cannot be used.
    """
    require_folder(model)
    _check_files(Path(model))
    try:
        processor = _load(model)
    except Exception as error:  # transformers lets through whatever its parsers raise
        raise CheckpointError(
            f"{model!r} has no processor (feature extractor and tokenizer) that can be loaded: {reason_of(error)}. "
            "Those of the original belong beside the weights: processor_config.json or preprocessor_config.json, and "
            "the files of the tokenizer."
        ) from error
    _require_both(model, processor)
    return processor


def _check_files(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        require_regular(path)
    for path in (folder / name for name in (*EXTRACTOR_FILES, *TOKENIZER_FILES)):
        content = read_json(path) if path.is_file() else None
        if path.name in EXTRACTOR_FILES and content is not None:
            check_extractor_config(content, str(path))


def _load(model: str) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
    except ImportError as error:
        if WITH_LANGUAGE_MODEL not in str(error):
            raise
        return _plain(model)
    return _plain(model) if type(processor).__name__ == WITH_LANGUAGE_MODEL else processor


def _plain(model: str) -> Any:
    """Puts together the processor without a language model."""
    extractor = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    spectral = isinstance(extractor, SeamlessM4TFeatureExtractor)
    return (Wav2Vec2BertProcessor if spectral else Wav2Vec2Processor)(extractor, tokenizer)


def _require_both(model: str, processor: Any) -> None:
    if getattr(processor, "tokenizer", None) is None:
        raise CheckpointError(
            f"{model!r} has no tokenizer; copy the files of the one that it was trained with into it."
        )
    if not any(getattr(processor, name, None) for name in ("feature_extractor", "audio_processor")):
        raise CheckpointError(f"{model!r} has no feature extractor; copy the file of the one that it was trained with.")
    rate = getattr(feature_extractor_of(processor), "sampling_rate", None)
    if not isinstance(rate, int) or isinstance(rate, bool) or rate < 1:
        raise CheckpointError(
            f"{model!r}: sampling_rate of its feature extractor is {rate!r}; give samples per second."
        )
