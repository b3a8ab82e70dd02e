"""Bootstrap intervals: seeded, paired, equal to a plain loop, and as wide as theory says."""

from __future__ import annotations

import numpy as np
import pytest

from compress.evaluation import bootstrap
from compress.evaluation.bootstrap import BootstrapConfig, paired_interval, rate_interval

CONFIG = BootstrapConfig(resamples=2000, seed=3)


def corpus(seed: int = 0, utterances: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    words = generator.integers(0, 20, utterances)
    return generator.binomial(words, 0.1), words


def test_same_seed_same_interval_and_another_seed_another():
    errors, words = corpus()
    first = rate_interval(errors, words, CONFIG)
    assert first == rate_interval(errors, words, CONFIG)
    assert first != rate_interval(errors, words, BootstrapConfig(resamples=2000, seed=4))


def test_interval_equals_a_plain_loop():
    errors, words = corpus(utterances=40)
    config = BootstrapConfig(resamples=150, seed=9)
    generator = np.random.default_rng(9)
    rates = []
    for drawn in generator.integers(0, 40, (150, 40)):
        rates.append(errors[drawn].sum() / words[drawn].sum())
    assert rate_interval(errors, words, config).to_list() == pytest.approx(np.quantile(rates, [0.025, 0.975]))


def test_chunks_of_resamples_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch):
    errors, words = corpus(utterances=40)
    whole = rate_interval(errors, words, CONFIG)
    monkeypatch.setattr(bootstrap, "_DRAWS_PER_CHUNK", 40 * 7)
    assert rate_interval(errors, words, CONFIG) == whole


def test_interval_is_about_as_wide_as_theory_says():
    """Independent errors at rate p over n words: a standard deviation of about sqrt(p (1 - p) / n)."""
    errors, words = corpus(utterances=2000)
    interval = rate_interval(errors, words, CONFIG)
    expected = 2 * 1.96 * np.sqrt(0.1 * 0.9 / words.sum())
    assert interval.high - interval.low == pytest.approx(expected, rel=0.15)
    assert interval.low < errors.sum() / words.sum() < interval.high


def test_pairing_cancels_what_both_share():
    """Two extra errors per hundred utterances on top of the same mistakes: a narrow interval above zero."""
    errors, words = corpus()
    worse = errors.copy()
    worse[::10] += 1
    paired = paired_interval(worse, errors, words, CONFIG)
    alone = rate_interval(errors, words, CONFIG)
    assert 0 < paired.low < 30 / words.sum() < paired.high
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)
    assert paired_interval(errors, errors, words, CONFIG).to_list() == [0, 0]
    mirrored = paired_interval(errors, worse, words, CONFIG)
    assert mirrored.to_list() == pytest.approx([-paired.high, -paired.low])


def test_resamples_without_a_word_are_left_out():
    interval = rate_interval(np.array([1, 0, 0]), np.array([2, 0, 0]), BootstrapConfig(resamples=500))
    assert interval.to_list() == [0.5, 0.5]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no error rate"):
        rate_interval(np.array([1]), np.array([0]), CONFIG)
    with pytest.raises(ValueError, match="equal length"):
        rate_interval(np.array([1, 2]), np.array([1]), CONFIG)
    with pytest.raises(ValueError, match=r"resamples is 5.*1000"):
        BootstrapConfig(resamples=5)
