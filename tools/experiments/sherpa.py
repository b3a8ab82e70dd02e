"""Runs sherpa-onnx in a process of its own, which it ends where it cannot read a graph."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SCRIPT = """
import json, sys, sherpa_onnx, soundfile
method, options, *files = json.load(sys.stdin)
recogniser = getattr(sherpa_onnx.OfflineRecognizer, method)(**options)
for file in files:
    audio, rate = soundfile.read(file, dtype="float32")
    stream = recogniser.create_stream()
    stream.accept_waveform(rate, audio)
    recogniser.decode_stream(stream)
    print(stream.result.text)
"""


def by_sherpa(
    method: str,
    folder: Path,
    graphs: Mapping[str, str],
    files: Sequence[str | Path],
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """What sherpa-onnx writes down, one text for each file.

    Args:
        method: that makes its `OfflineRecognizer`.
        folder: with graphs and `tokens.txt`.
        graphs: the files of the graphs by the names of its arguments.
        files: wave files.
        options: what else it is told.

    Raises:
        ValueError: with what it said, if its process fails.
    """
    places = {key: str(folder / name) for key, name in {**graphs, "tokens": "tokens.txt"}.items()}
    words = json.dumps([method, {**places, **(options or {})}, *map(str, files)])
    done = subprocess.run([sys.executable, "-c", _SCRIPT], input=words, capture_output=True, text=True, check=False)
    texts = done.stdout.splitlines()
    if done.returncode or len(texts) != len(files):
        raise ValueError(f"sherpa-onnx could not run {folder} (exit status {done.returncode}):\n{done.stderr.strip()}")
    return texts
