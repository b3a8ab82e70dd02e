"""What scoring ignores in transcripts on both sides, and what may therefore stand in references."""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from transformers import ProcessorMixin
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer
from transformers.utils.hub import cached_file

from compress.data.checks import composed
from compress.data.vocabulary import Alphabet, vocabulary_of
from compress.files.reading import read_object

logger = logging.getLogger(__name__)

Normaliser = Literal["none", "lower", "words", "whisper-basic", "whisper"]

IGNORED: dict[str, str] = {
    "none": "nothing",
    "lower": "case",
    "words": "case and punctuation",
    "whisper-basic": "case, punctuation, symbols and words in brackets, as Whisper's basic normaliser does",
    "whisper": "what Whisper's normaliser of English does",
}
"""What each way of `normalise` makes scoring ignore, for a person to read."""

SPELLINGS_FILE = "normalizer.json"
"""Beside a tokenizer: the British spellings that Whisper's normaliser of English writes as American ones."""
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\uff07"), "'")
_IGNORED_KINDS = ("P", "S")
"""Unicode categories of punctuation and symbols."""
_LAST_OF_WRITING = 0x1FFFF
"""Beyond this code point Unicode has neither punctuation nor symbols."""


@dataclass(frozen=True)
class ScoringRule:
    """Prepares transcripts for scoring.

    Attributes:
        how: what is ignored, a key of `IGNORED`.
        spellings: words and what they are written as, for `whisper`.
    """

    how: Normaliser = "none"
    spellings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.how not in IGNORED:
            raise ValueError(f"normalise={self.how!r} is unknown; choose one of {', '.join(IGNORED)}.")

    def __call__(self, text: str) -> str:
        """Prepares one transcript."""
        return " ".join(self._without(composed(text)).split())

    @property
    def ignores(self) -> str:
        """What is ignored, for a person to read."""
        apart = self.how == "whisper" and not self.spellings
        return IGNORED[self.how] + ("; spellings are not unified" if apart else "")

    def _without(self, text: str) -> str:
        if self.how == "whisper":
            return str(_english(self.spellings)(text))
        if self.how == "whisper-basic":
            return str(_basic()(text))
        if self.how == "none":
            return text
        lower = text.lower()
        return lower.translate(_APOSTROPHES).translate(_punctuation()) if self.how == "words" else lower


def normalise(text: str, how: Normaliser = "none") -> str:
    """Prepares a transcript for scoring, as `ScoringRule` does.

    Args:
        text: a reference or a hypothesis.
        how: "none" only collapses white space and composes characters (Unicode NFC); "lower" also ignores case; "words"
            also ignores punctuation and symbols of any language (but not apostrophes); "whisper-basic" and "whisper"
            are the normalisers that public leaderboards use.

    Raises:
        ValueError: `how` is none of these.
    """
    return ScoringRule(how)(text)


def scoring_rule(how: Normaliser, processors: Sequence[ProcessorMixin]) -> ScoringRule:
    """Finds the rule for some models: for `whisper`, with the map of spellings that the first of them brings.

    Args:
        how: what is ignored.
        processors: of the models.
    """
    if how != "whisper":
        return ScoringRule(how)
    spellings = next(filter(None, map(_spellings_of, processors)), {})
    if not spellings:
        logger.warning("No model brings a %s: British and American spellings count as different.", SPELLINGS_FILE)
    return ScoringRule(how, tuple(spellings.items()))


def shared_vocabulary(processors: Sequence[ProcessorMixin], how: Normaliser) -> Alphabet | None:
    """Characters that every model can spell, or that scoring ignores; None if all of them can spell anything.

    Whisper's normalisers write much in other characters, such as numbers in digits; then anything may stand there.
    """
    known = [alphabet for alphabet in map(vocabulary_of, processors) if alphabet is not None]
    if not known or how in ("whisper", "whisper-basic"):
        return None
    tokenizers = [tokenizer for alphabet in known for tokenizer in alphabet.tokenizers]
    if how == "none":
        return Alphabet(set.intersection(*map(set, known)), tokenizers)
    folded = set.intersection(*({case for c in characters for case in (c.lower(), c.upper())} for characters in known))
    marks = {"'", *map(chr, (*_APOSTROPHES, *_punctuation()))} if how == "words" else set()
    return Alphabet(folded | marks, tokenizers)


def _spellings_of(processor: Any) -> dict[str, str]:
    """The map of spellings beside the tokenizer of a checkpoint; empty if there is none."""
    name = processor.tokenizer.name_or_path
    path: Any = Path(name, SPELLINGS_FILE) if Path(name).is_dir() else _on_the_hub(name)
    if path is None or not Path(path).is_file():
        return {}
    content = read_object(path)
    if not all(isinstance(word, str) for word in content.values()):
        raise ValueError(f"{path} must hold an object of words by words, such as {{'colour': 'color'}}.")
    return content


def _on_the_hub(name: str) -> str | None:
    options = {
        f"_raise_exceptions_for_{trouble}": False for trouble in ("missing_entries", "connection_errors", "gated_repo")
    }
    found: str | None = cached_file(name, SPELLINGS_FILE, **options) if name else None
    return found


@lru_cache
def _english(spellings: tuple[tuple[str, str], ...]) -> EnglishTextNormalizer:
    return EnglishTextNormalizer(dict(spellings))


@lru_cache
def _basic() -> BasicTextNormalizer:
    return BasicTextNormalizer()


@lru_cache
def _punctuation() -> dict[int, str]:
    """Every mark of punctuation and every symbol but the apostrophe, as blank."""
    every = range(min(sys.maxunicode, _LAST_OF_WRITING) + 1)
    marks = (code for code in every if unicodedata.category(chr(code))[0] in _IGNORED_KINDS)
    return {code: " " for code in marks if chr(code) != "'"}
