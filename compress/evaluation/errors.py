"""Word and character error rates, pooled over the corpus, and the alignment behind them (jiwer does the aligning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import jiwer
import numpy as np
from numpy.typing import NDArray

Kind = Literal["equal", "substitute", "delete", "insert"]


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


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | int]:
    """Counts the errors of a corpus by word: `wer`, `words`, `substitutions`, `deletions`, `insertions`.

    An empty reference is allowed: every word of its hypothesis counts as an insertion.

    Args:
        references: what was said, one text per utterance.
        hypotheses: what the model wrote, in the same order.

    Raises:
        ValueError: the numbers of texts differ, or the references hold no word at all.
    """
    output = jiwer.process_words(*tidy(references, hypotheses))
    return {"wer": _rate(output), "words": _units(output)} | _errors(output)


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | int]:
    """Counts the errors of a corpus by character, spaces included; see `word_errors`."""
    output = jiwer.process_characters(*tidy(references, hypotheses))
    counts = {f"character_{name}": count for name, count in _errors(output).items()}
    return {"cer": _rate(output), "characters": _units(output)} | counts


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts words and errors utterance by utterance; arguments and errors as in `word_errors`."""
    references, hypotheses = tidy(references, hypotheses)
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


def tidy(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Collapses the white space of a corpus.

    Raises:
        ValueError: the numbers of texts differ, or the references hold no word at all.
    """
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


def _units(output: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return int(output.hits + output.substitutions + output.deletions)


def _errors(output: jiwer.WordOutput | jiwer.CharacterOutput) -> dict[str, int]:
    return {"substitutions": output.substitutions, "deletions": output.deletions, "insertions": output.insertions}


def _rate(output: jiwer.WordOutput | jiwer.CharacterOutput) -> float:
    return sum(_errors(output).values()) / _units(output)


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
