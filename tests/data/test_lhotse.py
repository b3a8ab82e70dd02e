"""lhotse's cuts and Shar, read without lhotse."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.data import SpeechDataset
from tests.helpers.formats import (
    audio_bytes,
    cut,
    lengths,
    reasons,
    remarks,
    write_lines,
    write_tar,
    write_tone,
)  # fmt: skip
from tests.helpers.samples import tone, write_audio

Open = Callable[..., SpeechDataset]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.json", "cuts_train.jsonl.gz"])
def test_case_01_03_cuts_are_known_by_their_lines(tmp_path: Path, opened: Open, name: str) -> None:
    write_tone(tmp_path / "wavs/a.wav")
    path = write_lines(tmp_path / name, [cut("a", "wavs/a.wav"), cut("b", "b.wav")], packed=name.endswith("gz"))
    dataset = opened(path)
    assert (dataset.ids, dataset.texts) == (["a"], ["stop"])
    assert reasons(dataset)["b"].startswith(f"file not found: tried {tmp_path / 'b.wav'} and ")
    assert opened(tmp_path, split="train").ids == ["a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recording": 3}, "line 2: recording is int, which cannot be"),
        ({"custom": ["x"]}, "line 2: custom is list, which cannot be"),
        ({"supervisions": ["x"]}, "line 2: supervisions is str, which cannot be"),
        ({"supervisions": [{"text": "stop", "custom": 1}]}, "line 2: supervisions.custom is int, which cannot be"),
        ({"channel": {}}, "line 2: channel is {}, which cannot be"),
        ({"duration": -1}, "line 2 names no part of a recording: start 0, duration -1"),
        ({"start": -1}, "line 2 names no part of a recording: start -1, duration 0.5"),
        ({"type": "MixedCut", "tracks": [{"cut": []}]}, "line 2: tracks.cut is list, which cannot be"),
    ],
)
def test_cuts_of_nonsense_are_problems(tmp_path: Path, opened: Open, change: dict[str, object], reason: str) -> None:
    write_tone(tmp_path / "a.wav")
    path = write_lines(tmp_path / "cuts.jsonl", [cut("a", "a.wav"), cut("b", "a.wav") | change])
    assert reasons(opened(path)) == {"b": reason}


def test_a_damaged_pack_is_named(tmp_path: Path, opened: Open) -> None:
    path = write_lines(tmp_path / "cuts_train.jsonl.gz", [cut(f"cut {n}", "a.wav") for n in range(50)], packed=True)
    content = bytearray(path.read_bytes())
    content[60:64] = b"xxxx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cuts_train\.jsonl\.gz: cannot be unpacked"):
        opened(path)


def test_cuts_are_parts_of_recordings(tmp_path: Path, opened: Open) -> None:
    left, right = tone(3, hertz=200), tone(3, hertz=800)
    write_audio(tmp_path / "a.wav", np.stack([left, right], axis=1))
    both = {"id": "a", "sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}], "duration": 3.0}
    said = [{"id": f"s{number}", "start": number, "duration": 0.5, "text": f"word {number}", "speaker": "ann"}
            for number in range(2)]  # fmt: skip
    cuts = [
        cut("part", "a.wav", start=1.0, duration=0.5, channel=1, recording=both),
        cut("several", "a.wav", start=0.5, duration=2.5, recording=both, supervisions=said),
        cut("wide", "a.wav", type="MultiCut", channel=[0, 1], recording=both),
        cut("none", "a.wav", text=None, recording=both),
        cut("features", "a.wav", recording=None, features={"type": "fbank"}),
        {"id": "p", "duration": 1.0, "type": "PaddingCut", "num_features": 3},
    ]
    dataset = opened(write_lines(tmp_path / "cuts.jsonl", cuts))
    assert lengths(dataset) == {"part": 0.5, "several/s0": 0.5, "several/s1": 0.5, "wide": 0.5}
    assert dataset.texts == ["stop", "word 0", "word 1", "stop"]
    assert np.allclose(dataset[0].samples, right[16_000:24_000], atol=1e-3)
    assert np.allclose(dataset[1].samples, left[8_000:16_000], atol=1e-3)
    assert np.allclose(dataset[3].samples, (left + right)[:8_000] / 2, atol=1e-3)
    assert dataset.groups("speaker") == [None, "ann", "ann", None]
    assert "several: several supervisions: 2, each an utterance of its own" in remarks(dataset)
    assert reasons(dataset) == {
        "none": "no transcript",
        "features": "line 5: no recording, features only",
        "p": "line 6 is padding, no speech",
    }


def said_by(start: float, seconds: float, text: str, channel: object) -> dict[str, object]:
    return {"id": text, "start": start, "duration": seconds, "text": text, "channel": channel}


@pytest.mark.parametrize("shar", [False, True])
def test_of_several_supervisions_each_is_heard_in_its_own_channel(tmp_path: Path, opened: Open, shar: bool) -> None:
    left, right = tone(3, hertz=200), tone(3, hertz=800)
    write_audio(tmp_path / "a.wav", np.stack([left, right], axis=1))
    both = {"id": "a", "sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}], "duration": 3.0}
    said = [said_by(0, 1, "left", 0), said_by(1, 1, "right", [1]), said_by(2, 1, "both", [0, 1])]
    row = cut("a", "a.wav", type="MultiCut", channel=[0, 1], duration=3.0, recording=both, supervisions=said)
    if shar:
        write_tar(tmp_path / "recording.000000.tar", {"a.wav": (tmp_path / "a.wav").read_bytes()})
    path = write_lines(tmp_path / ("cuts.000000.jsonl.gz" if shar else "cuts.jsonl"), [row], packed=shar)
    dataset = opened(tmp_path if shar else path)
    wanted = {"left": left, "right": right, "both": (left + right) / 2}
    assert dataset.texts == list(wanted)
    for second, (utterance, samples) in enumerate(zip(dataset, wanted.values(), strict=True)):
        assert np.allclose(utterance.samples, samples[second * 16_000 : (second + 1) * 16_000], atol=1e-3)


def test_some_of_many_channels_in_one_file_are_no_utterance(tmp_path: Path, opened: Open) -> None:
    write_audio(tmp_path / "a.wav", np.stack([tone(0.5)] * 4, axis=1))
    four = {"id": "a", "sources": [{"type": "file", "channels": [0, 1, 2, 3], "source": "a.wav"}], "duration": 0.5}
    rows = [cut(name, "a.wav", type="MultiCut", channel=channels, recording=four)
            for name, channels in (("some", [2, 3]), ("one", [2]), ("all", [0, 1, 2, 3]))]  # fmt: skip
    dataset = opened(write_lines(tmp_path / "cuts.jsonl", rows))
    assert dataset.ids == ["one", "all"]
    assert reasons(dataset) == {
        "some": "line 1: channels [2, 3] are some of the 4 in their file: cut them apart by channel"
    }


@pytest.mark.parametrize("shar", [False, True])
def test_who_speaks_before_the_recording_begins_is_heard_from_there(tmp_path: Path, opened: Open, shar: bool) -> None:
    said = [said_by(-0.5, 1.5, "one", 0), said_by(1, 1, "two", 0), said_by(-2, 1, "before", 0)]
    row = cut("a", "a.wav", seconds=2.0) | {"supervisions": said}
    write_tone(tmp_path / "a.wav", 2.0)
    if shar:
        write_tar(tmp_path / "recording.000000.tar", {"a.wav": (tmp_path / "a.wav").read_bytes()})
    path = write_lines(tmp_path / ("cuts.000000.jsonl.gz" if shar else "cuts.jsonl"), [row], packed=shar)
    dataset = opened(tmp_path if shar else path)
    assert lengths(dataset) == {"a/one": 1.0, "a/two": 1.0}
    assert reasons(dataset) == {"a/before": "ends before its recording begins: by 1.00 s"}


@pytest.mark.parametrize("kind", ["command", "file"])
def test_case_16_commands_are_not_run(tmp_path: Path, opened: Open, kind: str) -> None:
    marker = tmp_path / "marker"
    write_tone(tmp_path / "a.wav")
    source = f"{'pipe:' if kind == 'file' else ''}touch {marker}; cat {tmp_path / 'a.wav'}"
    path = write_lines(tmp_path / "cuts.jsonl", [cut("a", "a.wav"), cut("b", source, kind=kind)])
    assert "line 2 is a command" in reasons(opened(path))["b"]
    assert not marker.exists()
    assert opened(path, allow_commands=True).ids == ["a", "b"]
    assert marker.exists()


@pytest.mark.parametrize("seconds", [0.4, 3.0])
def test_case_19_the_file_says_its_rate(tmp_path: Path, opened: Open, seconds: float) -> None:
    write_audio(tmp_path / "a.wav", tone(seconds, 8_000, hertz=300), 8_000)
    wrong = cut("a", "a.wav", seconds=seconds / 2, rate=16_000)
    dataset = opened(write_lines(tmp_path / "cuts.jsonl", [wrong]))
    assert lengths(dataset) == {"a": seconds}
    assert np.allclose(dataset[0].samples[800:-800], tone(seconds, hertz=300)[800:-800], atol=1e-2)
    assert [text.partition(":")[0] for text in remarks(dataset)] == ["a"] * (seconds > 1)


def test_lhotse_is_asked_for_by_the_cut_that_needs_it(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    faster = cut("b", "a.wav")
    faster["recording"]["transforms"] = [{"name": "Speed", "kwargs": {"factor": 1.1}}]
    mixed = {"id": "m", "type": "MixedCut", "tracks": [{"cut": cut("c", "a.wav"), "offset": 0.0, "type": "MonoCut"}]}
    path = write_lines(tmp_path / "cuts.jsonl", [cut("a", "a.wav"), faster, mixed])
    try:
        import lhotse  # noqa: F401
    except ImportError:
        assert set(reasons(opened(path))) == {"b", "m"}
        assert "lhotse is needed for its tracks or transforms" in reasons(opened(path))["m"]
    else:
        assert opened(path).texts == ["stop"] * 3
        assert sum("computed by lhotse" in text for text in remarks(opened(path))) == 2


def test_parts_of_lhotse_are_no_cuts(tmp_path: Path, opened: Open) -> None:
    for name, row in (("recordings", cut("a", "a.wav")["recording"]), ("supervisions", {"recording_id": "a"})):
        with pytest.raises(ValueError, match=r"cuts are wanted: CutSet.from_manifests\(recordings, supervisions\)"):
            opened(write_lines(tmp_path / f"{name}.jsonl.gz", [row], packed=True))


def write_shar(folder: Path, names: list[str], there: list[str]) -> None:
    members: dict[str, bytes] = {}
    for name in there:
        members |= {f"{name}.flac": audio_bytes(0.5, kind="FLAC"), f"{name}.json": json.dumps({"id": name}).encode()}
    write_tar(folder / "recording.000000.tar", {**members, "skipped.nodata": b"", "skipped.nometa": b""})
    write_lines(folder / "cuts.000000.jsonl.gz", [cut(name, "", kind="shar") for name in names], packed=True)


def test_a_packed_shar_is_named(tmp_path: Path, opened: Open) -> None:
    write_shar(tmp_path, ["a"], ["a"])
    tar = tmp_path / "recording.000000.tar"
    tar.with_suffix(".tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
    assert len(opened(tmp_path)) == 1
    tar.unlink()
    with pytest.raises(ValueError, match=r"recording\.000000\.tar\.gz: a packed tar .*; unpack it first \(gunzip\)"):
        opened(tmp_path)


def test_case_22_shar(tmp_path: Path, opened: Open) -> None:
    write_shar(tmp_path, ["x/a.1", "b", "c"], ["x/a.1", "b"])
    (tmp_path / "README").write_text("a README breaks lhotse's own reader")
    dataset = opened(tmp_path)
    assert lengths(dataset) == {"x/a.1": 0.5, "b": 0.5}
    assert reasons(dataset) == {"c": "no audio: recording.000000.tar does not hold this cut"}
    write_lines(tmp_path / "cuts.000001.jsonl.gz", [cut("d", "", kind="shar")], packed=True)
    with pytest.raises(ValueError, match=r"2 files of cuts and 1 of recordings; cuts.000001.jsonl.gz has no partner"):
        opened(tmp_path)
