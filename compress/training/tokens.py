"""Tokens for a model trained from scratch: learned from the transcripts, in a processor that travels with the model."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ParakeetTokenizer, ProcessorMixin

from compress.conformers import NEW_MODELS, NewModel

logger = logging.getLogger(__name__)

BLANK, UNKNOWN = "<pad>", "<unk>"
"""The padding token doubles as the CTC blank in every family."""

SPACE = "▁"
"""How tokens write a space (the SentencePiece convention)."""

WORD_DELIMITER = "|"
"""How tokenizers for single characters write a space."""

SAMPLING_RATE = 16000
"""Of the audio that a new model takes, in Hz."""

Pieces = list[tuple[str, float]]
"""Tokens and their log-probabilities (0 where the kind has none)."""


@dataclass(frozen=True)
class TokensConfig:
    """What a model trained from scratch spells with.

    Attributes:
        kind: `characters`, or word pieces by byte-pair merges (`bpe`) or by a unigram language model (`unigram`), both
            as SentencePiece does them.
        vocabulary_size: upper limit for word pieces, blank and unknown included; characters take what they need.
    """

    kind: Literal["characters", "bpe", "unigram"] = "characters"
    vocabulary_size: int = 256


def build_processor(
    family: str, texts: Iterable[str], config: TokensConfig, *, sampling_rate: int = SAMPLING_RATE, mel_bins: int = 80
) -> ProcessorMixin:
    """Learns tokens from transcripts and puts them into the family's processor.

    Args:
        family: one of `compress.conformers.NEW_MODELS`.
        texts: the training transcripts; every character in them can be spelled.
        config: what to learn.
        sampling_rate: of the audio the model will take, in Hz.
        mel_bins: mel features per frame (ignored by families that take raw samples).

    Returns:
        A processor whose tokenizer has the blank where the family expects it: last for Parakeet, first for the others.

    Raises:
        ValueError: if the family is unknown, there is no text, or `vocabulary_size` is too small for the characters.
    """
    if family not in NEW_MODELS:
        raise ValueError(f"No processor can be built for family {family!r}; choose one of {', '.join(NEW_MODELS)}.")
    sentences = [" ".join(text.split()) for text in texts if text and text.strip()]
    if not sentences:
        raise ValueError("There is no transcript to learn tokens from; check the data set's text_column.")
    new = NEW_MODELS[family]
    return _processor(new, _tokenizer(new, sentences, config), sampling_rate, mel_bins)


def _processor(new: NewModel, tokenizer: Any, sampling_rate: int, mel_bins: int) -> ProcessorMixin:
    bins = dict.fromkeys(new.extractor_bins, mel_bins // new.frames_stacked) if new.mel_bins else {}
    settings = {**bins, **(new.extractor_settings or {}), "sampling_rate": sampling_rate}
    extractor = getattr(transformers, new.extractor)(**settings)
    processor: ProcessorMixin = getattr(transformers, new.processor)(extractor, tokenizer)
    return processor


def _tokenizer(new: NewModel, sentences: Sequence[str], config: TokensConfig) -> ParakeetTokenizer | Any:
    """A tokenizer of the family's own where it has one and it knows the kind; the general CTC tokenizer otherwise."""
    if new.characters and config.kind == "characters":
        return _own_characters(getattr(transformers, new.characters), sentences)
    return _piece_tokenizer(sentences, config, blank_first=new.blank_first)


def _own_characters(tokenizer_class: Any, sentences: Sequence[str]) -> Any:
    """A tokenizer such as `Wav2Vec2CTCTokenizer`, which reads its tokens from a file."""
    alphabet = _alphabet(sentences)
    if WORD_DELIMITER in alphabet:
        raise ValueError(
            f"A transcript holds {WORD_DELIMITER!r}, which this tokenizer uses for spaces; "
            "remove it from the transcripts, or set tokens.kind to bpe or unigram."
        )
    tokens = [BLANK, UNKNOWN, WORD_DELIMITER, *(character for character in alphabet if character != " ")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
        return tokenizer_class(
            str(path),
            pad_token=BLANK,
            unk_token=UNKNOWN,
            bos_token=None,
            eos_token=None,
            word_delimiter_token=WORD_DELIMITER,
        )


def _piece_tokenizer(sentences: Sequence[str], config: TokensConfig, *, blank_first: bool) -> ParakeetTokenizer:
    """A tokenizer that decodes CTC output: repeats merged, blanks dropped, one space between words."""
    if config.kind == "characters":
        tokenizer = _characters(sentences, blank_first)
    else:
        tokenizer = _learned(sentences, config, blank_first)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.Fuse(),
            decoders.Replace(Regex(" +"), " "),
            decoders.Replace(Regex("^ | $"), ""),  # not Strip: it panics on a text that is one space
        ]
    )
    return ParakeetTokenizer(tokenizer_object=tokenizer, pad_token=BLANK, unk_token=UNKNOWN)


def _characters(sentences: Sequence[str], blank_first: bool) -> Tokenizer:
    alphabet: Pieces = [(character.replace(" ", SPACE), 0.0) for character in _alphabet(sentences)]
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(alphabet, blank_first), merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return tokenizer


def _learned(sentences: Sequence[str], config: TokensConfig, blank_first: bool) -> Tokenizer:
    needed = len({*_alphabet(sentences), " "}) + len((BLANK, UNKNOWN))
    if config.vocabulary_size <= needed:
        raise ValueError(
            f"tokens.vocabulary_size is {config.vocabulary_size}, but single characters already take {needed}; "
            "raise it, or set tokens.kind to characters."
        )
    build = _bpe if config.kind == "bpe" else _unigram
    tokenizer = build(sentences, config.vocabulary_size, blank_first)
    if (size := tokenizer.get_vocab_size()) < config.vocabulary_size:
        logger.info("The transcripts yield %d tokens; tokens.vocabulary_size allows %d.", size, config.vocabulary_size)
    return tokenizer


def _bpe(sentences: Sequence[str], size: int, blank_first: bool) -> Tokenizer:
    tokenizer = _by_word(models.BPE(unk_token=UNKNOWN))
    tokenizer.train_from_iterator(
        sentences,
        trainers.BpeTrainer(vocab_size=size, special_tokens=[UNKNOWN, BLANK], show_progress=False),
    )
    learned = json.loads(tokenizer.to_str())["model"]
    pieces = [(piece, 0.0) for piece in sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
    merges = [tuple(merge) for merge in learned["merges"]]
    return _by_word(models.BPE(vocab=_numbered(pieces, blank_first), merges=merges, unk_token=UNKNOWN))


def _unigram(sentences: Sequence[str], size: int, blank_first: bool) -> Tokenizer:
    tokenizer = _by_word(models.Unigram())
    tokenizer.train_from_iterator(
        sentences,
        trainers.UnigramTrainer(
            vocab_size=size, special_tokens=[UNKNOWN, BLANK], unk_token=UNKNOWN, show_progress=False
        ),
    )
    pieces: Pieces = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    ordered = _ordered(pieces, blank_first)
    unknown = [piece for piece, _ in ordered].index(UNKNOWN)
    return _by_word(models.Unigram(ordered, unk_id=unknown, byte_fallback=False))


def _by_word(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    return tokenizer


def _ordered(pieces: Pieces, blank_first: bool) -> Pieces:
    """The unknown token first and the blank at the very end, or the blank at the very beginning."""
    plain = [piece for piece in pieces if piece[0] not in (BLANK, UNKNOWN)]
    blank, unknown = (BLANK, 0.0), (UNKNOWN, 0.0)
    return [blank, unknown, *plain] if blank_first else [unknown, *plain, blank]


def _numbered(pieces: Pieces, blank_first: bool) -> dict[str, int]:
    return {piece: index for index, (piece, _) in enumerate(_ordered(pieces, blank_first))}


def _alphabet(sentences: Sequence[str]) -> list[str]:
    return sorted(set().union(*sentences))
