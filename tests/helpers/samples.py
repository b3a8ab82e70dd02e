"""Small audio files, folders and processors for the tests of `compress.data`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import soundfile
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    ParakeetFeatureExtractor,
    ParakeetProcessor,
    ParakeetTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

RATE = 16_000
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
WORDS = ("turn", "on", "the", "light", "don't", "stop", "music", "now")


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, level: float = 0.3) -> NDArray[np.float32]:
    """A sine wave."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_audio(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> Path:
    """Writes wav, flac, mp3, ogg (Vorbis) or opus, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {".mp3": ("MP3", "MPEG_LAYER_III"), ".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS")}
    container, subtype = kinds.get(path.suffix, (None, None))
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path


def write_metadata(folder: Path, rows: Sequence[dict[str, object]], name: str = "metadata.csv") -> Path:
    """Writes the metadata file of an audiofolder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def sentence(number: int) -> str:
    """A sentence of two to four words."""
    return " ".join(WORDS[(number + offset) % len(WORDS)] for offset in range(2 + number % 3))


def write_folder(folder: Path, count: int, name: str = "metadata.csv") -> list[dict[str, object]]:
    """Writes an audiofolder of `count` tones of 0.3 to 1.5 s, each of its own length and pitch."""
    rows: list[dict[str, object]] = []
    for number in range(count):
        seconds = 0.3 + 1.2 * ((number * 7) % count) / count
        write_audio(folder / f"clips/{number:03d}.wav", tone(seconds, hertz=200 + 10 * number))
        rows.append({"file_name": f"clips/{number:03d}.wav", "transcription": sentence(number), "speaker": "tone"})
    write_metadata(folder, rows, name)
    return rows


def parakeet_processor() -> ParakeetProcessor:
    """Mel features and a character tokenizer whose blank is the last token."""
    vocabulary = {token: number for number, token in enumerate(["<unk>", "▁", *LETTERS, "<pad>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")])
    fast = ParakeetTokenizer(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    return ParakeetProcessor(ParakeetFeatureExtractor(feature_size=16), fast, blank_token="<pad>")


def wav2vec2_processor(folder: Path) -> Wav2Vec2Processor:
    """Raw waveforms and upper-case characters."""
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<unk>", "|", *LETTERS.upper()])}
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(path), bos_token=None, eos_token=None)
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=True), tokenizer)


COLUMNS = {"audio_column": "sound", "text_column": "words"}
"""Of `table`."""


def table(folder: Path, count: int | None = None, *, as_bytes: bool = True) -> datasets.Dataset:
    """The folder as a table with the columns `sound` and `words`."""
    rows = [line.split(",") for line in (folder / "train/metadata.csv").read_text().splitlines()[1:]][:count]
    paths = [folder / "train" / row[0] for row in rows]
    cells = [{"bytes": path.read_bytes() if as_bytes else None, "path": str(path)} for path in paths]
    made = datasets.Dataset.from_dict({"sound": cells, "words": [row[1] for row in rows]})
    return made.cast_column("sound", datasets.Audio(decode=False))
