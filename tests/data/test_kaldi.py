"""Kaldi's data folders, as recipes of fifteen years leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.data import SpeechDataset
from tests.helpers.formats import audio_bytes, lengths, reasons, remarks, write_kaldi, write_tone
from tests.helpers.samples import tone, write_audio

Open = Callable[..., SpeechDataset]


def test_case_11_12_14_any_white_space_any_order(tmp_path: Path, opened: Open) -> None:
    for name in ("a", "b"):
        write_tone(tmp_path / f"wavs/{name}.wav")
    folder = write_kaldi(
        tmp_path / "data/train",
        wav_scp="\ufeffb  wavs/b.wav\r\n\r\na\twavs/a.wav",
        text="\ufeffa\tturn  on\r\nb stop",
        utt2spk="b bob\na ann\n",
    )
    dataset = opened(tmp_path / "data", split="train")
    assert (dataset.ids, dataset.texts, dataset.whole) == (["b", "a"], ["stop", "turn on"], False)
    assert dataset.groups("speaker") == ["bob", "ann"]
    assert remarks(dataset) == []
    assert opened(folder / "wav.scp").ids == ["b", "a"]


def test_case_13_segments(tmp_path: Path, opened: Open) -> None:
    left, right = tone(3, hertz=200), tone(3, hertz=800)
    write_audio(tmp_path / "r.wav", np.stack([left, right], axis=1))
    lines = ["u1 r 1.0 -1", "u2 r 0.5 1.5 1", "u3 r 2 1", "u4 q 0 1", "u5 r 0 3.3", "u6 r 1"]
    texts = "".join(f"u{number} stop\n" for number in range(1, 7))
    write_kaldi(tmp_path, wav_scp="r r.wav\n", segments="\n".join(lines), text=texts)
    dataset = opened(tmp_path)
    assert lengths(dataset) == {"u1": 2.0, "u2": 1.0, "u5": 3.0}
    assert np.allclose(dataset[1].samples, right[8_000:24_000], atol=1e-3)
    assert "u5: clip beyond the end of its file: by 0.30 s, cut" in remarks(dataset)
    assert reasons(dataset) == {
        "u3": "segments line 3 names no part of a recording: from 2 to 1",
        "u4": "segments line 4 names a recording that wav.scp does not have: 'q'",
        "u6": "segments line 6 has 3 fields; utterance, recording, start, end",
    }


def test_case_15_ids_that_stand_twice(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    write_kaldi(tmp_path, wav_scp="a a.wav\na a.wav\n", text="a stop\n")
    assert remarks(opened(tmp_path)) == ["a: the same line twice: wav.scp lines 1 and 2"]
    write_kaldi(tmp_path, text="a stop\nb x\na now\n")
    with pytest.raises(ValueError, match=r"text: 'a' stands on lines 1 and 3, which differ; keep one"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [("touch {marker} |", "wav.scp line 1 is a command"), ("-", "names no file"), ("", "names no file")],
)
def test_case_16_commands_are_not_run(tmp_path: Path, opened: Open, line: str, reason: str) -> None:
    marker = tmp_path / "marker"
    write_tone(tmp_path / "b.wav")
    write_kaldi(tmp_path, wav_scp=f"a {line.format(marker=marker)}\nb b.wav\n", text="a stop\nb stop\n")
    assert reason in reasons(opened(tmp_path))["a"]
    assert not marker.exists()


@pytest.mark.parametrize("command", ["flac -c -d -s a.flac |", "/usr/bin/flac -cd --silent a.flac |", "cat a.flac|"])
def test_case_17_commands_that_only_read(tmp_path: Path, opened: Open, command: str) -> None:
    write_tone(tmp_path / "a.flac")
    write_kaldi(tmp_path, wav_scp=f"a {command}\n", text="a stop\n")
    assert lengths(opened(tmp_path)) == {"a": 0.5}


@pytest.mark.parametrize(("channel", "usable"), [("1", True), ("A", False), ("0.9", False), ("-1", False)])
def test_a_channel_is_a_number(tmp_path: Path, opened: Open, channel: str, usable: bool) -> None:
    write_audio(tmp_path / "a.wav", np.stack([tone(1, hertz=200), tone(1, hertz=800)], axis=1))
    write_kaldi(tmp_path, wav_scp="a a.wav\n", segments=f"u a 0 0.5 {channel}\nv a 0 0.5\n", text="u stop\nv stop\n")
    dataset = opened(tmp_path)
    assert dataset.ids == (["u", "v"] if usable else ["v"])
    assert usable or reasons(dataset) == {"u": f"segments line 1 names channel {channel!r}: give its number, from 0"}


def test_case_18_archives(tmp_path: Path, opened: Open) -> None:
    wav, flac = audio_bytes(0.5, 300), audio_bytes(0.75, 400, "FLAC")
    length = len(wav).to_bytes(3, "little")
    contents = [wav, flac, b"AUDIO\x03" + length + wav, b"PKL\x80\x04.", b"\0BFM \x04"]
    ark, lines, texts = b"", [], []
    for number, content in enumerate(contents):
        ark += f"u{number} ".encode()
        lines.append(f"u{number} x.ark:{len(ark)}\n")
        texts.append(f"u{number} stop\n")
        ark += content
    (tmp_path / "x.ark").write_bytes(ark)
    write_kaldi(tmp_path, wav_scp="".join(lines), text="".join(texts))
    dataset = opened(tmp_path)
    assert lengths(dataset) == {"u0": 0.5, "u1": 0.75, "u2": 0.5}
    assert np.array_equal(dataset[0].samples, dataset[2].samples)
    assert np.allclose(dataset[0].samples, tone(0.5, hertz=300), atol=1e-3)
    assert "holds a pickle, which could run any code when read, and is not read" in reasons(dataset)["u3"]
    assert "holds numbers such as features" in reasons(dataset)["u4"]


def test_what_does_not_belong_together_is_told(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    write_kaldi(tmp_path, wav_scp="a a.wav\nb a.wav\n", text="a stop\nc now\n")
    assert reasons(opened(tmp_path)) == {
        "b": "no transcript",
        "c": "no audio: text line 2 has it, wav.scp or segments not",
    }
    write_kaldi(tmp_path, text="x-a stop\n")
    with pytest.raises(ValueError, match=r"no id is shared by text and the audio; text has 'x-a', the audio has 'a'"):
        opened(tmp_path)
    (tmp_path / "text").unlink()
    with pytest.raises(ValueError, match=r"no transcripts; the file 'text' is missing"):
        opened(tmp_path)
    assert len(opened(tmp_path, labels=False)) == 2
    write_kaldi(tmp_path / "features", feats_scp="a x.ark:1\n", text="a stop\n")
    with pytest.raises(ValueError, match=r"features or text only, as of Kaldi; audio is needed \(wav.scp\)"):
        opened(tmp_path / "features")
