"""The synthetic corpus: reproducible to the last bit, with voices and sentences in dev and test that train lacks."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from compress.data import SpeechDataset, SyntheticConfig, make_corpus, synthetic
from compress.data.espeak import Voice
from compress.data.grammar import COMMANDS, DIGITS, SPLITS, split_of
from compress.data.synthetic import ACCENTS, VARIANTS, draw, make_noise, render

Open = Callable[..., SpeechDataset]
SIZES: dict[str, Any] = {"hours": 60 / 3600, "dev_utterances": 8, "test_utterances": 8}


def rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / split / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", seed=3, **SIZES)


def test_it_is_an_audiofolder_of_the_wanted_size(corpus: Path) -> None:
    assert sorted(path.name for path in corpus.iterdir()) == ["corpus.json", "dev", "test", "train"]
    assert len(rows(corpus, "dev")) == len(rows(corpus, "test")) == 8
    seconds = [float(row["seconds"]) for row in rows(corpus, "train")]
    assert 60 <= sum(seconds) < 60 + max(seconds)
    for split in SPLITS:
        listed = {row["file_name"] for row in rows(corpus, split)}
        assert listed == {path.relative_to(corpus / split).as_posix() for path in (corpus / split).rglob("*.flac")}
        for row in rows(corpus, split):
            information = soundfile.info(corpus / split / row["file_name"])
            assert information.samplerate == 16_000
            assert information.channels == 1
            assert information.duration == pytest.approx(float(row["seconds"]), abs=1e-3)
            assert set(row["transcription"]) <= set("abcdefghijklmnopqrstuvwxyz' ")
            assert split_of(row["transcription"]) == split


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.data.pool.usable_cores", lambda: 1)
    assert digest(make_corpus(tmp_path / "again", seed=3, **SIZES)) == digest(corpus)
    other = make_corpus(tmp_path / "other", seed=4, **SIZES | {"hours": 1 / 3600, "test_utterances": 1})
    assert rows(other, "dev") != rows(corpus, "dev")


def test_dev_and_test_have_unseen_voices_and_sentences(corpus: Path) -> None:
    speakers = {split: {row["speaker"].split("+")[1] for row in rows(corpus, split)} for split in SPLITS}
    sentences = {split: {row["transcription"] for row in rows(corpus, split)} for split in SPLITS}
    for held_out in ("dev", "test"):
        assert not speakers["train"] & speakers[held_out]
        assert not sentences["train"] & sentences[held_out]
    assert len(speakers["train"]) > 10


def test_what_is_drawn_varies_and_stays_in_its_split() -> None:
    config = SyntheticConfig()
    for split in SPLITS:
        drawn = [draw(config, split, number) for number in range(200)]
        assert {spoken.speaker.split("+")[1] for spoken in drawn} <= set(VARIANTS[split])
        assert {split_of(spoken.text) for spoken in drawn} == {split}
        assert {spoken.speaker.split("+")[0] for spoken in drawn} == set(ACCENTS)
        assert {spoken.noise for spoken in drawn} == {"white", "pink"}
        assert len({spoken.words_per_minute for spoken in drawn}) > 30
        assert len({spoken.pitch for spoken in drawn}) > 20
    assert not set(VARIANTS["train"]) & (set(VARIANTS["dev"]) | set(VARIANTS["test"]))
    assert not set(VARIANTS["dev"]) & set(VARIANTS["test"])


def test_every_voice_speaks_and_repeats_itself() -> None:
    voice = Voice()
    said = {}
    for variant in (variant for split in SPLITS for variant in VARIANTS[split]):
        name = f"{ACCENTS[0]}+{variant}"
        first = voice.speak("turn on the light", name, words_per_minute=170, pitch=50)
        voice.speak("something else altogether", f"{ACCENTS[2]}+m3", words_per_minute=120, pitch=20)
        assert np.array_equal(first, voice.speak("turn on the light", name, words_per_minute=170, pitch=50)), variant
        assert len(first) > 0.5 * voice.sampling_rate
        said[variant] = first.tobytes()
    assert len(set(said.values())) == len(said)
    with pytest.raises(ValueError, match="espeak-ng has no voice 'nobody'"):
        voice.speak("hello", "nobody", words_per_minute=170, pitch=50)


def test_rate_and_pitch_are_heard() -> None:
    voice = Voice()
    slow, fast = (voice.speak("turn on the light", "en-us+m3", words_per_minute=w, pitch=50) for w in (120, 220))
    assert len(slow) > 1.3 * len(fast)
    low, high = (voice.speak("turn on the light", "en-us+m3", words_per_minute=170, pitch=p) for p in (20, 80))
    assert not np.array_equal(low, high)


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_noise_has_unit_power_and_its_colour(colour: str) -> None:
    noise = make_noise(colour, 50_000, np.random.default_rng(0))
    assert np.mean(noise**2) == pytest.approx(1.0, rel=0.05)
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = power[100:2500].mean(), power[12_500:].mean()
    assert (low / high > 5) == (colour == "pink")


def test_noise_is_as_loud_as_drawn() -> None:
    spoken = draw(SyntheticConfig(min_snr_db=10, max_snr_db=10), "train", 0)
    quiet = draw(SyntheticConfig(min_snr_db=90, max_snr_db=90), "train", 0)
    noisy, clean = render(spoken, 16_000), render(quiet, 16_000)
    before, after = (round(pause * 16_000) for pause in quiet.pauses)
    speech = clean[before : len(clean) - after]
    ratio = 10 * np.log10(np.mean(speech**2) / np.mean((noisy - clean) ** 2))
    assert ratio == pytest.approx(10, abs=0.5)
    assert 20 * np.log10(np.abs(clean).max()) == pytest.approx(quiet.peak_dbfs, abs=0.1)


def test_an_interrupted_corpus_goes_on(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_corpus(folder, seed=3, **SIZES)
    assert not folder.exists()
    partial = tmp_path / ".corpus.partial"
    written = {path: path.stat().st_mtime_ns for path in partial.rglob("*.flac")}
    assert written
    make_corpus(folder, seed=3, **SIZES)
    assert digest(folder) == digest(corpus)
    kept = {path.relative_to(partial): time for path, time in written.items()}
    assert any((folder / path).exists() and (folder / path).stat().st_mtime_ns == time for path, time in kept.items())
    assert not partial.exists()


def test_a_made_corpus_is_found_and_others_are_refused(corpus: Path, tmp_path: Path) -> None:
    before = (corpus / "corpus.json").stat().st_mtime_ns
    assert make_corpus(corpus, seed=3, **SIZES) == corpus
    assert (corpus / "corpus.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds a synthetic corpus with seed 3 \(asked for 9\)"):
        make_corpus(corpus, seed=9, **SIZES)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="exists and is no synthetic corpus"):
        make_corpus(tmp_path / "mine", **SIZES)


def test_it_is_a_source_of_its_own(open_folder: Open, cache: str) -> None:
    options = SyntheticConfig(hours=10 / 3600, dev_utterances=2, test_utterances=3, grammar="digits")
    test = open_folder("synthetic", split="test", synthetic=options)
    assert len(test) == 3
    assert set(" ".join(text or "" for text in test.texts).split()) <= DIGITS.words()
    description = next(Path(cache).glob("synthetic/digits-*/corpus.json"))
    assert json.loads(description.read_text())["grammar"] == "digits"
    before = description.stat().st_mtime_ns
    assert len(open_folder("synthetic", split="dev", synthetic=options)) == 2
    assert description.stat().st_mtime_ns == before


def test_the_grammar_is_small_and_its_sentences_are_many() -> None:
    random = np.random.default_rng(0)
    sentences = [COMMANDS.sentence(random) for _ in range(20_000)]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert 60 <= len(COMMANDS.words()) <= 100
    assert {word for sentence in sentences for word in sentence.split()} == COMMANDS.words()
    assert len(set(sentences)) > 4_000
    assert 5 < np.mean(lengths) < 7
    shares = [np.mean([split_of(sentence) == split for sentence in set(sentences)]) for split in ("dev", "test")]
    assert shares == pytest.approx([0.1, 0.2], abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hours": 0}, "synthetic.hours is 0; give a number of hours above 0"),
        ({"grammar": "poems"}, "synthetic.grammar='poems' is unknown; choose one of commands, digits"),
        ({"min_snr_db": 50}, "synthetic.max_snr_db is 40.0; give at least min_snr_db 50"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**options)
