"""Small data sets as other programs write them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from compress.data import SpeechDataset
from tests.helpers.samples import RATE, tone, write_audio

SECONDS = 0.5


def audio_bytes(seconds: float = SECONDS, hertz: float = 440.0, kind: str = "WAV") -> bytes:
    """An audio file of a tone."""
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, hertz=hertz), RATE, format=kind)
    return file.getvalue()


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]], *, packed: bool = False) -> Path:
    """Writes an object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def write_tar(path: Path, members: Mapping[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> Path:
    """Writes a tar of files by their names; a name that ends in a slash is a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_kaldi(folder: Path, **files: str) -> Path:
    """Writes a data folder: `wav_scp="a wavs/a.wav"`, `text=...`, `segments=...`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content.encode())
    return folder


def write_tone(path: Path, seconds: float = SECONDS, **options: Any) -> Path:
    """Writes a tone as a file."""
    return write_audio(path, tone(seconds, **options))


def cut(name: str, source: str, *, kind: str = "file", text: str | None = "stop", **options: Any) -> dict[str, Any]:
    """A lhotse cut of a whole recording, as JSON; options go in place of its own keys."""
    seconds, rate = options.pop("seconds", SECONDS), options.pop("rate", RATE)
    said = [{"id": f"{name}-s", "recording_id": name, "start": 0.0, "duration": seconds, "channel": 0, "text": text}]
    recording = {
        "id": name, "sources": [{"type": kind, "channels": [0], "source": source}], "sampling_rate": rate,
        "num_samples": round(seconds * rate), "duration": seconds, "channel_ids": [0],
    }  # fmt: skip
    return {"id": name, "start": 0, "duration": seconds, "channel": 0, "supervisions": said if text else [],
            "recording": recording, "type": "MonoCut", **options}  # fmt: skip


def lengths(dataset: SpeechDataset) -> dict[str, float]:
    """Seconds by name, rounded."""
    return {name: round(seconds, 2) for name, seconds in zip(dataset.ids, dataset.seconds, strict=True)}


def reasons(dataset: SpeechDataset) -> dict[str, str]:
    """Why entries cannot be used, by name."""
    return {problem.file: problem.reason for problem in dataset.problems}


def remarks(dataset: SpeechDataset) -> list[str]:
    """What was noticed, one text each."""
    return [str(remark) for remark in dataset.remarks]
