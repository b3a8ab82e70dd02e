"""Scores do not depend on how characters are written; public normalisers are those of transformers."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from compress.evaluation.normalisation import ScoringRule, normalise, scoring_rule, shared_vocabulary
from tests.helpers.samples import parakeet_processor


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", "Don't Stop, NOW"),
        ("lower", "don't stop, now"),
        ("words", "don't stop now"),
        ("whisper-basic", "don t stop now"),
        ("whisper", "do not stop now"),
    ],
)
def test_normalise(how: Any, expected: str) -> None:
    assert normalise("  Don't  Stop, NOW ", how) == expected


@pytest.mark.parametrize("how", ["none", "lower", "words", "whisper-basic", "whisper"])
def test_composed_and_decomposed_characters_are_equal(how: Any) -> None:
    for word in ("caf\u00e9", "\u00fcber", "\uac00\ub098", "\u0905\u0928\u0941"):
        assert normalise(unicodedata.normalize("NFD", word), how) == normalise(unicodedata.normalize("NFC", word), how)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u00bfQu\u00e9? \u2014 \u00abno\u00bb\u2026", "qu\u00e9 no"),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d \u4e16\u754c"),
        ("don\u2019t 5 \u20ac", "don't 5"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947\u0964", "\u0928\u092e\u0938\u094d\u0924\u0947"),
    ],
)
def test_punctuation_of_every_language_is_ignored_and_apostrophes_are_one(text: str, expected: str) -> None:
    assert normalise(text, "words") == expected


def test_the_spellings_are_the_models_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parakeet_processor().tokenizer.save_pretrained(tmp_path)
    processor = parakeet_processor()
    processor.tokenizer.name_or_path = str(tmp_path)
    with caplog.at_level(logging.WARNING):
        rule = scoring_rule("whisper", [processor])
    assert "No model brings a normalizer.json: British and American spellings count as different" in caplog.text
    assert rule.ignores.endswith("spellings are not unified")
    (tmp_path / "normalizer.json").write_text(json.dumps({"colour": "color"}))
    rule = scoring_rule("whisper", [parakeet_processor(), processor])
    assert rule("The colour twenty two") == "the color 22"
    assert "unified" not in rule.ignores
    (tmp_path / "normalizer.json").write_text("[]")
    with pytest.raises(ValueError, match=r"normalizer.json must be an object, and is list"):
        scoring_rule("whisper", [processor])


def test_what_is_ignored_may_stand_in_references() -> None:
    processors = [parakeet_processor()]
    assert "\u00bf" in (shared_vocabulary(processors, "words") or ())
    assert "," not in (shared_vocabulary(processors, "lower") or ",")
    assert shared_vocabulary(processors, "whisper") is None


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(
        ValueError, match="normalise='upper' is unknown; choose one of none, lower, words, whisper-basic"
    ):
        ScoringRule("upper")  # type: ignore[arg-type]
