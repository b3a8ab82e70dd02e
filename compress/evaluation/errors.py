"""Word and character error rates, pooled over the corpus, and the alignment behind them (jiwer does the aligning)."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import jiwer
import numpy as np
from numpy.typing import NDArray
from transformers import ProcessorMixin

from compress.data.vocabulary import vocabulary_of

Kind = Literal["equal", "substitute", "delete", "insert"]
Normaliser = Literal["none", "lower", "words"]

_PUNCTUATION = str.maketrans({mark: " " for mark in string.punctuation if mark != "'"})
_NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "lower": str.lower,
    "words": lambda text: text.lower().translate(_PUNCTUATION),
}

IGNORED = {"none": "nothing", "lower": "case", "words": "case and punctuation"}
"""What each way of `normalise` makes scoring ignore, for a person to read."""


@dataclass(frozen=True)
class ErrorRates:
    """Errors of a whole corpus, pooled: the sum of errors over the sum of reference words, not a mean of utterances.

    Rates are fractions: 0.05 is 5 %. They exceed 1 when there are more insertions than correct words.
    """

    wer: float
    cer: float
    utterances: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    characters: int
    character_substitutions: int
    character_deletions: int
    character_insertions: int

    def to_dict(self) -> dict[str, float | int]:
        """Returns plain JSON-able values under the field names."""
        return asdict(self)


@dataclass(frozen=True)
class ErrorCounts:
    """Errors per utterance, the material of the bootstrap; every array has shape (utterances,)."""

    words: NDArray[np.int64]
    substitutions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    insertions: NDArray[np.int64]

    @property
    def errors(self) -> NDArray[np.int64]:
        """Substitutions, deletions and insertions together; (utterances,)."""
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True)
class AlignedWord:
    """One column of an alignment; `reference` is None for an insertion, `hypothesis` is None for a deletion."""

    kind: Kind
    reference: str | None
    hypothesis: str | None


def normalise(text: str, how: Normaliser = "none") -> str:
    """Prepares a transcript for scoring.

    Args:
        text: a reference or a hypothesis.
        how: "none" only collapses white space; "lower" also ignores case; "words" also ignores punctuation (but not
            apostrophes).

    Raises:
        ValueError: `how` is none of these.
    """
    if how not in _NORMALISERS:
        raise ValueError(f"normalise={how!r} is unknown; choose one of {', '.join(_NORMALISERS)}.")
    return " ".join(_NORMALISERS[how](text).split())


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRates:
    """Scores a corpus; the errors are pooled over all reference words.

    An empty reference is allowed: every word of its hypothesis counts as an insertion.

    Args:
        references: what was said, one text per utterance.
        hypotheses: what the model wrote, in the same order.

    Raises:
        ValueError: the numbers of texts differ, or the references hold no word at all.
    """
    references, hypotheses = _tidy(references, hypotheses)
    words = _pooled(jiwer.process_words(references, hypotheses))
    characters = _pooled(jiwer.process_characters(references, hypotheses))
    return ErrorRates(
        wer=_rate(words),
        cer=_rate(characters),
        utterances=len(references),
        words=words["units"],
        substitutions=words["substitutions"],
        deletions=words["deletions"],
        insertions=words["insertions"],
        characters=characters["units"],
        character_substitutions=characters["substitutions"],
        character_deletions=characters["deletions"],
        character_insertions=characters["insertions"],
    )


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts words and errors utterance by utterance; arguments and errors as in `error_rates`."""
    references, hypotheses = _tidy(references, hypotheses)
    aligned = jiwer.process_words(references, hypotheses)
    table = np.array([_chunk_sizes(chunks) for chunks in aligned.alignments], dtype=np.int64).reshape(-1, 3)
    words = np.array([len(reference) for reference in aligned.references], dtype=np.int64)
    return ErrorCounts(words, table[:, 0], table[:, 1], table[:, 2])


def align(reference: str, hypothesis: str) -> list[AlignedWord]:
    """Aligns two texts word by word: equal, substituted, deleted and inserted words in reading order."""
    result = jiwer.process_words([" ".join(reference.split())], [" ".join(hypothesis.split())])
    left, right = result.references[0], result.hypotheses[0]
    columns: list[AlignedWord] = []
    for chunk in result.alignments[0]:
        old = left[chunk.ref_start_idx : chunk.ref_end_idx]
        new = right[chunk.hyp_start_idx : chunk.hyp_end_idx]
        columns.extend(_columns(_kind(chunk.type), old, new))
    return columns


def _tidy(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[str], list[str]]:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} references but {len(hypotheses)} hypotheses: give exactly one hypothesis per reference."
        )
    tidy = [" ".join(text.split()) for text in references]
    if not any(tidy):
        raise ValueError(
            f"The {len(tidy)} references hold no word, so an error rate is undefined: "
            "check the text column and the split of the data set."
        )
    return tidy, [" ".join(text.split()) for text in hypotheses]


def _pooled(output: jiwer.WordOutput | jiwer.CharacterOutput) -> dict[str, int]:
    return {
        "units": output.hits + output.substitutions + output.deletions,
        "substitutions": output.substitutions,
        "deletions": output.deletions,
        "insertions": output.insertions,
    }


def _rate(counts: dict[str, int]) -> float:
    return (counts["substitutions"] + counts["deletions"] + counts["insertions"]) / counts["units"]


def _chunk_sizes(chunks: Sequence[jiwer.AlignmentChunk]) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of one utterance."""
    substitutions = sum(c.ref_end_idx - c.ref_start_idx for c in chunks if c.type == "substitute")
    deletions = sum(c.ref_end_idx - c.ref_start_idx for c in chunks if c.type == "delete")
    insertions = sum(c.hyp_end_idx - c.hyp_start_idx for c in chunks if c.type == "insert")
    return substitutions, deletions, insertions


def _kind(name: str) -> Kind:
    kinds: dict[str, Kind] = {
        "equal": "equal",
        "substitute": "substitute",
        "delete": "delete",
        "insert": "insert",
    }
    return kinds[name]


def _columns(kind: Kind, old: list[str], new: list[str]) -> list[AlignedWord]:
    if kind == "delete":
        return [AlignedWord(kind, word, None) for word in old]
    if kind == "insert":
        return [AlignedWord(kind, None, word) for word in new]
    return [AlignedWord(kind, before, after) for before, after in zip(old, new, strict=True)]


def shared_vocabulary(processors: Sequence[ProcessorMixin], how: Normaliser) -> set[str] | None:
    """Characters that every model can spell, or that scoring ignores; None if all of them can spell anything."""
    known = [characters for characters in map(vocabulary_of, processors) if characters is not None]
    if not known:
        return None
    if how == "none":
        return set.intersection(*known)
    folded = set.intersection(*({case for c in characters for case in (c.lower(), c.upper())} for characters in known))
    return folded | set(string.punctuation) if how == "words" else folded
