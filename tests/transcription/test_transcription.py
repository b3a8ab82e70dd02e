"""Files of any length become text, subtitles and JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.cli import main
from compress.data import extract_features
from compress.evaluation.transcribe import best_tokens
from compress.transcription import TranscribeConfig, transcribe_files
from compress.transcription.files import CONTEXT_SECONDS, Writer
from compress.transcription.layouts import LONGEST_SUBTITLE_SECONDS, Transcript, as_json, as_subtitles, as_text
from compress.transcription.pieces import SHORTEST, cuts
from compress.transcription.words import Word, timed_words
from tests.helpers.exports import save_talkative_of
from tests.helpers.processors import save_tiny
from tests.helpers.samples import RATE, tone, write_audio


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder)
    return folder


@given(seconds=st.floats(0, 30), longest=st.floats(0.1, 9), seed=st.integers(0, 9))
def test_pieces_are_the_whole_recording_and_none_is_too_long(seconds: float, longest: float, seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * 1000)).astype(np.float32)
    pieces = cuts(samples, 1000, longest)
    assert [pieces[0][0], *(end for _, end in pieces)] == [*(start for start, _ in pieces), len(samples)]
    assert all(end - start <= max(2, round(longest * 1000)) for start, end in pieces)
    assert len(pieces) <= 2 * seconds / longest + 2
    assert len(pieces) == 1 or all(end - start >= round(SHORTEST * longest * 1000) for start, end in pieces)


def test_no_cut_leaves_a_rest_of_nothing() -> None:
    """Where no pause comes, and it is quietest just before the end."""
    samples = tone(5.05, RATE) * np.linspace(1.0, 0.5, round(5.05 * RATE), dtype=np.float32)
    (_, cut), (_, end) = cuts(samples, RATE, 5.0)
    assert end - cut >= SHORTEST * 5.0 * RATE


def test_cuts_are_in_pauses() -> None:
    loud, pause = tone(3.0, RATE), np.zeros(RATE // 2, dtype=np.float32)
    pieces = cuts(np.concatenate([loud, pause, loud, pause, loud]), RATE, 5.0)
    ends = [end / RATE for _, end in pieces[:-1]]
    assert ends == pytest.approx([3.25, 6.75], abs=0.2)


def test_pieces_end_in_the_first_pause_and_none_is_tiny() -> None:
    """Words of 0.4 s with pauses between: a pause within an eighth of the longest length ends nothing."""
    word, pause = tone(0.4, RATE), np.zeros(RATE // 5, dtype=np.float32)
    samples = np.concatenate([part for _ in range(20) for part in (word, pause)])
    lengths = [(end - start) / RATE for start, end in cuts(samples, RATE, 8.0)]
    assert all(1.0 <= length <= 8.0 for length in lengths)
    assert lengths[:-1] == pytest.approx([1.1] + [1.2] * (len(lengths) - 2), abs=0.1)


@pytest.mark.parametrize(("trained", "longest"), [(None, 20.0), (4.4, 4.4), (90.0, 20.0), (True, 20.0), ("x", 20.0)])
def test_pieces_are_as_long_as_what_the_model_was_trained_on(
    model: Path, tmp_path: Path, trained: object, longest: float
) -> None:
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"trained_seconds": trained}))
    settings = TranscribeConfig(model=str(tmp_path / "model"), source="a.wav")
    assert Writer(settings).piece_seconds == longest
    assert Writer(replace(settings, piece_seconds=7.0)).piece_seconds == 7.0


def letters(tokens: list[int]) -> str:
    """CTC over a, b and the space; 0 is the blank."""
    kept = [t for i, t in enumerate(tokens) if t and (i == 0 or tokens[i - 1] != t)]
    return "".join(" ab"[t - 1] for t in kept)


@given(st.lists(st.integers(0, 3), max_size=25))
def test_words_have_the_frames_of_their_tokens(tokens: list[int]) -> None:
    words = timed_words(tokens, 0, letters, 2.0, 0.1)
    assert [word.text for word in words] == letters(tokens).split()
    for word in words:
        first, last = (round((time - 2.0) / 0.1) for time in (word.start, word.end))
        assert letters(tokens[first:last]).strip().startswith(word.text[:1])
        assert tokens[first] > 1
    assert all(one.end <= two.start + 1e-9 for one, two in pairwise(words))


def test_words_that_decoding_joins_are_one_word() -> None:
    """As by tokenizers that clean up spaces: `it 's` becomes `it's`."""
    spelt = "_it 's"

    def cleaned(tokens: Sequence[int]) -> str:
        return "".join(spelt[token] for token in tokens if token).replace(" '", "'")

    words = timed_words([1, 2, 0, 3, 4, 5, 3, 1], 0, cleaned, 0.0, 1.0)
    assert [(word.text, word.start, word.end) for word in words] == [("it's", 0, 6), ("i", 7, 8)]


def test_subtitles_are_short_and_pauses_divide_them() -> None:
    words = [
        Word("word", 0.5 * n + (3.0 if n > 4 else 0.0), 0.5 * n + 0.4 + (3.0 if n > 4 else 0.0)) for n in range(30)
    ]
    transcript = Transcript("a.wav", 20.0, "word " * 30, [], words)
    segments = transcript.segments
    assert segments[0].text == " ".join(["word"] * 5)
    assert all(segment.end - segment.start <= LONGEST_SUBTITLE_SECONDS for segment in segments)
    assert as_subtitles(transcript).startswith(
        "1\n00:00:00,000 --> 00:00:02,400\nword word word word word\n\n2\n00:00:05,500"
    )


def test_without_times_of_words_segments_are_the_pieces() -> None:
    transcript = Transcript("a.wav", 4.0, "so so", [Word("so so", 0.0, 2.0), Word("", 2.0, 4.0)], None)
    assert json.loads(as_json(transcript))["segments"] == [{"text": "so so", "start": 0.0, "end": 2.0}]
    assert json.loads(as_json(transcript))["words"] is None
    assert as_text(transcript) == "so so\n"


def test_a_short_file_is_written_as_an_evaluation_would(model: Path, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(1.0))
    (transcript,) = transcribe_files(TranscribeConfig(model=str(model), source=str(path)))
    writer = Writer(TranscribeConfig(model=str(model), source=str(path)))
    inputs = extract_features(writer.extractor, [tone(1.0)], writer.rate)
    with torch.no_grad():
        (text,) = writer.processor.batch_decode(best_tokens(writer.model, inputs))
    assert transcript.text == text.strip()
    assert " ".join(word.text for word in transcript.words or ()) == " ".join(text.split())
    assert transcript.seconds == pytest.approx(1.0)


def test_a_folder_becomes_a_folder(model: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["a.wav", "sub/b.flac", "sub/long.wav"]):
        write_audio(tmp_path / "in" / name, tone(5.0 if "long" in name else 0.5, hertz=300 + 50 * number))
    out = tmp_path / "out"
    words = [str(model), str(tmp_path / "in"), "--out", str(out), "--piece-seconds", "1.5", "--batch.seconds", "4"]
    assert main(["transcribe", *words]) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert written == sorted(f"{stem}.{end}" for stem in ("a", "sub/b", "sub/long") for end in ("txt", "srt", "json"))
    said = json.loads((out / "sub/long.json").read_text())
    assert said["seconds"] == pytest.approx(5.0)
    assert (out / "sub/long.txt").read_text().strip() == said["text"]


def test_context_is_heard_and_not_written(model: Path, tmp_path: Path) -> None:
    """Cut or not, the frames that are written down are each second's own, once."""
    path = write_audio(tmp_path / "a.wav", tone(6.0))
    writer = Writer(TranscribeConfig(model=str(model), source=str(path), piece_seconds=2.0))
    pieces = list(writer.pieces([("a.wav", path)], []))
    assert sum(piece.seconds for piece in pieces) == pytest.approx(6.0)
    assert [len(piece.samples) / writer.rate > piece.seconds for piece in pieces] == [True] * len(pieces)
    assert pieces[0].before == 0
    assert all(piece.before == pytest.approx(CONTEXT_SECONDS) for piece in pieces[1:])


def test_words_of_the_shortest_files_are_within_them(tmp_path: Path) -> None:
    """The model's front makes two frames of the 0.2 s that it needs."""
    save_talkative_of("lasr", tmp_path / "model")
    seconds = {"a.wav": 1 / RATE, "b.wav": 0.01, "c.wav": 0.13, "d.wav": 0.16, "e.wav": 1.0}
    for name, length in seconds.items():
        write_audio(tmp_path / "in" / name, tone(length))
    config = TranscribeConfig(model=str(tmp_path / "model"), source=str(tmp_path / "in"))
    written = {transcript.file: transcript for transcript in transcribe_files(config)}
    assert {name: transcript.seconds for name, transcript in written.items()} == pytest.approx(seconds)
    times = {name: [(word.start, word.end) for word in written[name].words or ()] for name in seconds}
    assert times.pop("e.wav")
    assert times == {"a.wav": [], "b.wav": [], "c.wav": [(0.0, 0.1)], "d.wav": [(0.0, 0.16)]}


def test_what_cannot_be_read_is_named_after_all_else_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(tmp_path / "in/good.wav", tone(0.5))
    (tmp_path / "in/bad.wav").write_bytes(b"no audio")
    with pytest.raises(SystemExit):
        main(["transcribe", str(model), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert "1 of 2 files could not be written down:\n  bad.wav: " in capsys.readouterr().err
    assert (tmp_path / "out/good.txt").exists()


def test_transcripts_beside_the_audio_are_not_replaced(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(tmp_path / "a.wav", tone(0.3))
    (tmp_path / "a.txt").write_text("by hand")
    with pytest.raises(SystemExit):
        main(["transcribe", str(model), str(tmp_path), "--out", str(tmp_path)])
    assert f"{tmp_path / 'a.txt'} lies beside its audio and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == "by hand"


@pytest.mark.parametrize("linked", [["a.wav"], ["a.txt"], ["a.wav", "a.txt"]])
def test_transcripts_beside_links_are_not_replaced(model: Path, tmp_path: Path, linked: list[str]) -> None:
    """As in data sets of links into a store, each file in a folder of its own."""
    for name in ("a.wav", "a.txt"):
        place = tmp_path / "store" / name / name if name in linked else tmp_path / "in" / name
        for folder in (place.parent, tmp_path / "in"):
            folder.mkdir(parents=True, exist_ok=True)
        write_audio(place, tone(0.3)) if name == "a.wav" else place.write_text("by hand")
        if name in linked:
            (tmp_path / "in" / name).symlink_to(place)
    with pytest.raises(ValueError, match="lies beside its audio and would be replaced"):
        list(
            transcribe_files(TranscribeConfig(model=str(model), source=str(tmp_path / "in"), out=str(tmp_path / "in")))
        )
    assert (tmp_path / "in/a.txt").read_text() == "by hand"


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], [], "holds no audio"),
        (["a.wav", "a.flac"], ["--out", "out"], "would be written to the same files"),
        (["a.wav"], ["--out", __file__], "Could not write"),
        (["a.wav"], ["--formats", "[doc]"], "formats='doc' is unknown"),
        (["a.wav"], ["--piece-seconds", "0.2"], "piece_seconds is 0.2; give at least 1 second"),
    ],
)
def test_mistakes_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], options: list[str], message: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        write_audio(tmp_path / "in" / name, tone(0.3))
    with pytest.raises(SystemExit) as stop:
        main(["transcribe", str(model), str(tmp_path / "in"), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
