"""Speech as other programs write it: manifests, data folders, cuts and tars, each broken like the rest.

A line that is gone, or names another part of its file, makes another valid set. What counts as lost is a line of the
broken file that became neither an utterance nor a problem, and a file of a tar of which nothing was said.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from compress.data import SpeechConfig, open_speech
from compress.data.dataset import SpeechStream
from tools.hostility.kind import Kind

RATE, SECONDS = 16_000, 0.25
TEXTS = {"a": "turn on", "b": "stop", "c": "light"}
SHARD, PACKED = "shard_0.tar", "shard_1.tar.gz"


@dataclass(frozen=True)
class Heard:
    """What was read of a set.

    Attributes:
        seconds: of every utterance that can be used.
        problems: how many others there are.
    """

    seconds: Mapping[str, float]
    problems: int


def _read(folder: Path) -> Heard:
    config = SpeechConfig(str(folder), text_column="text", cache_max_gib=0, max_bad_fraction=1.0)
    speech = open_speech(config, sampling_rate=RATE)
    return Heard(dict(zip(speech.ids, speech.seconds, strict=True)), len(speech.problems))


def _read_stream(folder: Path) -> Heard:
    config = SpeechConfig(str(folder), text_column="text", streaming=True)
    stream = open_speech(config, sampling_rate=RATE)
    assert isinstance(stream, SpeechStream)
    rows = [row for block in stream.source.read(10, 1, shuffle=False, seed=0, epoch=0) for row in block.rows]
    return Heard({row.id: 1.0 for row in rows}, 0)


def _lines_lost(name: str) -> Callable[[Path, Heard, Heard], str]:
    """What tells lines of a file that became nothing."""

    def lost(folder: Path, heard: Heard, _: Heard) -> str:
        content = (folder / name).read_bytes()
        unpacked = gzip.decompress(content) if name.endswith(".gz") else content
        there, became = sum(bool(line.strip()) for line in unpacked.splitlines()), len(heard.seconds) + heard.problems
        return f"{there} lines, of which {became} became something" if became < there else ""

    return lost


def _files_lost(_: Path, heard: Heard, whole: Heard) -> str:
    gone = [name for name in whole.seconds if name not in heard.seconds]
    return ", ".join(gone) if len(gone) > heard.problems else ""


def _with_wavs(folder: Path) -> Path:
    """Makes the folder of the split that is read; where there is none, a warning would stand for every other."""
    folder = folder / "train"
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, round(SECONDS * RATE)).astype(np.float32)
    for name in TEXTS:
        soundfile.write(folder / f"{name}.wav", noise, RATE)
    return folder


def _write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def _made_by_nobody(header: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes in every run, so that equal seeds break equal things."""
    header.mtime = header.uid = header.gid = 0
    header.uname = header.gname = ""
    return header


def _write_tar(path: Path, files: Sequence[Path]) -> None:
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name, filter=_made_by_nobody)
            file.unlink()


def _make_nemo(folder: Path) -> None:
    folder = _with_wavs(folder)
    rows = [{"audio_filepath": f"{name}.wav", "text": text, "duration": SECONDS} for name, text in TEXTS.items()]
    rows[1] |= {"offset": 0.05, "duration": 0.15, "lang": "en"}
    _write_rows(folder / "manifest.jsonl", rows)


def _make_tarred(folder: Path) -> None:
    folder = _with_wavs(folder)
    _write_tar(folder / "audio_0.tar", sorted(folder.glob("*.wav")))
    rows = [{"audio_filepath": f"{name}.wav", "text": text, "duration": SECONDS, "shard_id": 0}
            for name, text in TEXTS.items()]  # fmt: skip
    _write_rows(folder / "tarred_audio_manifest.jsonl", rows)


def _make_kaldi(folder: Path) -> None:
    folder = _with_wavs(folder)
    (folder / "wav.scp").write_text("".join(f"r{name} {name}.wav\n" for name in TEXTS))
    (folder / "segments").write_text("".join(f"{name} r{name} 0.05 -1\n" for name in TEXTS))
    (folder / "text").write_text("".join(f"{name} {text}\n" for name, text in TEXTS.items()))
    (folder / "utt2spk").write_text("".join(f"{name} one\n" for name in TEXTS))


def _cut(name: str, kind: str, source: str) -> dict[str, object]:
    said = {"id": f"{name}-s", "recording_id": name, "start": 0.0, "duration": SECONDS, "channel": 0,
            "text": TEXTS[name], "speaker": "one", "custom": {"room": "hall"}}  # fmt: skip
    recording = {
        "id": name, "sources": [{"type": kind, "channels": [0], "source": source}], "sampling_rate": RATE,
        "num_samples": round(SECONDS * RATE), "duration": SECONDS, "channel_ids": [0],
    }  # fmt: skip
    return {"id": name, "start": 0, "duration": SECONDS, "channel": 0, "supervisions": [said], "recording": recording,
            "custom": {"take": 1}, "type": "MonoCut"}  # fmt: skip


def _make_cuts(folder: Path) -> None:
    folder = _with_wavs(folder)
    cuts = [_cut(name, "file", f"{name}.wav") for name in TEXTS]
    cuts[2]["supervisions"] = [*cuts[2]["supervisions"], *_cut("a", "file", "")["supervisions"]]  # type: ignore[misc]
    _write_rows(folder / "cuts.jsonl", cuts)


def _make_shar(folder: Path) -> None:
    folder = _with_wavs(folder)
    _write_tar(folder / "recording.000000.tar", sorted(folder.glob("*.wav")))
    _write_rows(folder / "cuts.000000.jsonl.gz", [_cut(name, "shar", "") for name in TEXTS])


def _make_tar(folder: Path) -> None:
    folder = _with_wavs(folder)
    (folder / "a.json").write_text(json.dumps({"text": TEXTS["a"], "speaker": "one"}))
    for name in ("b", "c"):
        (folder / f"{name}.json").write_text(json.dumps({"text": TEXTS[name]}))
    _write_tar(folder / SHARD, sorted(folder.iterdir()))


def _make_packed(folder: Path) -> None:
    _make_tar(folder)
    shard = folder / "train" / SHARD
    shard.with_name(PACKED).write_bytes(gzip.compress(shard.read_bytes(), mtime=0))


OTHER_FORMATS: Mapping[str, Kind] = {
    "nemo": Kind(("train/manifest.jsonl",), _make_nemo, _read, _lines_lost("train/manifest.jsonl")),
    "nemo_tarred": Kind(("train/tarred_audio_manifest.jsonl", "train/audio_0.tar"), _make_tarred, _read,
                        _lines_lost("train/tarred_audio_manifest.jsonl")),
    "kaldi": Kind(("train/wav.scp", "train/segments", "train/text", "train/utt2spk"), _make_kaldi, _read,
                  _lines_lost("train/segments")),
    "cuts": Kind(("train/cuts.jsonl",), _make_cuts, _read, _lines_lost("train/cuts.jsonl")),
    "shar": Kind(("train/cuts.000000.jsonl.gz", "train/recording.000000.tar"), _make_shar, _read,
                 _lines_lost("train/cuts.000000.jsonl.gz")),
    "tar_stream": Kind((f"train/{SHARD}", f"train/{PACKED}"), _make_packed, _read_stream, _files_lost),
    "webdataset": Kind((f"train/{SHARD}",), _make_tar, _read, _files_lost),
}  # fmt: skip
"""Every format of others, by its name."""
