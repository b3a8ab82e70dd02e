"""Error rates: pooled, with empty texts, equal to a plain edit distance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.evaluation.errors import align, count_errors
from compress.evaluation.metrics import error_rates

TEXTS = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)


def edit_distance(left: list[str], right: list[str]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def test_errors_are_pooled_over_words_not_averaged_over_utterances():
    rates = error_rates(["a", "b c d e f g h i j"], ["x", "b c d e f g h i j"])
    assert rates.wer == pytest.approx(1 / 10)
    assert (rates.words, rates.substitutions, rates.deletions, rates.insertions) == (10, 1, 0, 0)


def test_empty_reference_counts_insertions():
    rates = error_rates(["", "a b"], ["x y z", "a"])
    assert (rates.words, rates.insertions, rates.deletions) == (2, 3, 1)
    assert rates.wer == 2.0
    assert error_rates(["a", ""], ["a", ""]).wer == 0


@pytest.mark.parametrize("references", [[], [""], ["", "  "]])
def test_corpus_without_a_word_is_refused(references: list[str]):
    with pytest.raises(ValueError, match=r"no word.*text column"):
        error_rates(references, ["a"] * len(references))


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 references but 1 hypotheses"):
        error_rates(["a", "b"], ["a"])


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_counts_equal_the_edit_distance(pairs: list[tuple[str, str]]):
    references, hypotheses = [left for left, _ in pairs], [right for _, right in pairs]
    if not any(references):
        return
    counts = count_errors(references, hypotheses)
    expected = [edit_distance(left.split(), right.split()) for left, right in pairs]
    assert counts.errors.tolist() == expected
    rates = error_rates(references, hypotheses)
    assert rates.wer == pytest.approx(sum(expected) / counts.words.sum())
    assert rates.cer == pytest.approx(
        sum(edit_distance(list(left), list(right)) for left, right in pairs) / sum(map(len, references))
    )


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_alignment_spells_both_texts_with_the_fewest_errors(reference: str, hypothesis: str):
    columns = align(reference, hypothesis)
    assert [c.reference for c in columns if c.reference is not None] == reference.split()
    assert [c.hypothesis for c in columns if c.hypothesis is not None] == hypothesis.split()
    assert sum(c.kind != "equal" for c in columns) == edit_distance(reference.split(), hypothesis.split())
