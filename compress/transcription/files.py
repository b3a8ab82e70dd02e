"""From audio files to transcripts: decoded, cut, put together into batches, and joined again file by file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from compress.checkpoint import load_recogniser
from compress.conformers import family_of, frame_lengths
from compress.data import extract_features, feature_extractor_of
from compress.data.audio import AudioLimits, UnusableAudio, decode, to_float
from compress.data.formats.entries import AUDIO_SUFFIXES
from compress.data.loader import LEAST_SECONDS
from compress.evaluation.generate import generate
from compress.evaluation.transcribe import batching_for, best_tokens, to_model
from compress.files.writing import require_writable, write_text
from compress.machine import DTYPES, find_device
from compress.transcription.layouts import LAYOUTS, Transcript
from compress.transcription.pieces import cuts
from compress.transcription.settings import TranscribeConfig
from compress.transcription.words import Word, timed_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

logger = logging.getLogger(__name__)

LONGEST_SECONDS = 24 * 3600.0
LONGEST_PIECE_SECONDS = 20.0
CONTEXT_SECONDS = 0.3
"""A CTC model hears so much before and after a piece, whose own frames alone are written down."""


@dataclass(frozen=True)
class Piece:
    """A part of a recording.

    Attributes:
        file: the number of the recording.
        start: when it begins, in seconds.
        seconds: its length.
        samples: of the piece, and of what stands on either side of it as its context.
        before: how much of the samples is context before the piece, in seconds.
    """

    file: int
    start: float
    seconds: float
    samples: NDArray[np.float32]
    before: float


@dataclass(frozen=True)
class PieceText:
    """What was written of a piece; `words` is None where the model does not tell their times."""

    text: str
    words: list[Word] | None


def transcribe_files(config: TranscribeConfig, *, console: Console | None = None) -> Iterator[Transcript]:
    """Writes down every file, and gives each transcript as soon as it is there.

    Args:
        config: see there.
        console: where progress is drawn; None draws nothing.

    Raises:
        WriteError: if nothing can be written to `out`.
        ValueError: if there is no audio, or two files have one name but for the ending; at the end, if some files could
            not be read, with the reasons.
    """
    files = audio_files(Path(config.source).expanduser())
    if config.out is not None:
        require_writable(config.out)
        _require_own_names([name for name, _ in files])
        _refuse_to_replace(files, Path(config.out), config.formats)
    writer = Writer(config)
    unusable: list[str] = []
    pieces = writer.pieces(files, unusable)
    for transcript in track(writer.transcripts(files, pieces), "Transcribing", len(files), console=console or _NOWHERE):
        if config.out is not None:
            _write(transcript, Path(config.out), config.formats)
        yield transcript
    if unusable:
        share = f"{len(unusable)} of {len(files)} files could not be written down"
        raise ValueError("\n  ".join([f"{share}:", *unusable]))


_NOWHERE = Console(quiet=True)


def audio_files(source: Path) -> list[tuple[str, Path]]:
    """Finds what is to be written down.

    Args:
        source: a file, or a folder.

    Returns:
        Names, relative to the folder, and paths, in order.

    Raises:
        ValueError: if there is no such file or folder, or no audio in it.
    """
    if source.is_file():
        return [(source.name, source)]
    if not source.is_dir():
        raise ValueError(f"There is no file or folder {source}.")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"{source} holds no audio: no file ends in {', '.join(AUDIO_SUFFIXES)}.")
    return [(path.relative_to(source).as_posix(), path) for path in found]


class Writer:
    """A model that writes down pieces of recordings.

    Args:
        config: names the model and how it runs.
    """

    def __init__(self, config: TranscribeConfig) -> None:
        self.config = config
        self.model: PreTrainedModel
        self.processor: ProcessorMixin
        self.model, self.processor = load_recogniser(
            config.model, dtype=DTYPES[config.dtype], device=find_device(config.device)
        )
        self.extractor = feature_extractor_of(self.processor)
        self.rate = int(self.extractor.sampling_rate)
        self.batch = batching_for(self.model, config.batch)
        self.piece_seconds = config.piece_seconds or _piece_seconds(self.model)
        self.context = round(CONTEXT_SECONDS * self.rate) if family_of(self.model).has_ctc else 0

    def pieces(self, files: Sequence[tuple[str, Path]], unusable: list[str]) -> Iterator[Piece]:
        """Reads the files in turn; reasons why one cannot be used are added to `unusable`."""
        limits = AudioLimits(self.rate, 0.0, LONGEST_SECONDS, float("-inf"))
        for number, (name, path) in enumerate(files):
            try:
                samples = to_float(decode(path, limits))
            except UnusableAudio as error:
                unusable.append(f"{name}: {error}")
                continue
            for start, end in cuts(samples, self.rate, self.piece_seconds):
                first = max(0, start - self.context)
                seconds, before = (end - start) / self.rate, (start - first) / self.rate
                yield Piece(number, start / self.rate, seconds, samples[first : end + self.context], before)

    def transcripts(self, files: Sequence[tuple[str, Path]], pieces: Iterator[Piece]) -> Iterator[Transcript]:
        """Writes pieces down in batches, and joins those of each file, which follow one another."""
        done: list[tuple[Piece, PieceText]] = []
        for batch in self.batches(pieces):
            for piece, written in zip(batch, self.write(batch), strict=True):
                if done and done[0][0].file != piece.file:
                    yield self.joined(files[done[0][0].file][0], done)
                    done = []
                done.append((piece, written))
        if done:
            yield self.joined(files[done[0][0].file][0], done)

    def batches(self, pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
        """Puts neighbours together as long as they fit, padding counted."""
        batch: list[Piece] = []
        for piece in pieces:
            padded = (len(batch) + 1) * max(len(each.samples) for each in (*batch, piece)) / self.rate
            if batch and (padded > self.batch.seconds or len(batch) == self.batch.max_utterances):
                yield batch
                batch = []
            batch.append(piece)
        if batch:
            yield batch

    @torch.no_grad()
    def write(self, batch: Sequence[Piece]) -> list[PieceText]:
        """Writes down one batch."""
        inputs = extract_features(self.extractor, [piece.samples for piece in batch], self.rate)
        if not family_of(self.model).has_ctc:
            texts = generate(self.model, to_model(self.model, inputs), self.processor, self.config.generate)
            return [PieceText(text, None) for text in texts]
        frames, tokens = frame_lengths(self.model, inputs["attention_mask"]), best_tokens(self.model, inputs)
        return [self._timed(*each) for each in zip(batch, tokens.tolist(), frames.tolist(), strict=True)]

    def _timed(self, piece: Piece, tokens: list[int], frames: int) -> PieceText:
        frame_seconds = max(len(piece.samples) / self.rate, LEAST_SECONDS) / max(1, frames)
        blank = int(self.model.config.pad_token_id)
        first, last = (round(time / frame_seconds) for time in (piece.before, piece.before + piece.seconds))
        own = [token if first <= frame < last else blank for frame, token in enumerate(tokens[:frames])]
        words = timed_words(own, blank, self._decoded, piece.start - piece.before, frame_seconds)
        end = piece.start + piece.seconds
        return PieceText(self._decoded(own), [replace(word, end=min(word.end, end)) for word in words])

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self.processor.batch_decode(torch.tensor([list(tokens)]))[0])

    def joined(self, name: str, parts: Sequence[tuple[Piece, PieceText]]) -> Transcript:
        """The transcript of a file whose pieces have been written down."""
        ends = [piece.start + piece.seconds for piece, _ in parts]
        pieces = [Word(said.text.strip(), piece.start, end) for (piece, said), end in zip(parts, ends, strict=True)]
        text = " ".join(piece.text for piece in pieces if piece.text)
        timed = [said.words for _, said in parts if said.words is not None]
        words = [word for group in timed for word in group] if len(timed) == len(parts) else None
        return Transcript(name, ends[-1], text, pieces, words)


def _piece_seconds(model: PreTrainedModel) -> float:
    """The longest piece for a model: the length that its config says it was trained on, or what all models take."""
    trained = getattr(model.config, "trained_seconds", None)
    if isinstance(trained, int | float) and not isinstance(trained, bool) and trained > 0:
        return min(LONGEST_PIECE_SECONDS, float(trained))
    return LONGEST_PIECE_SECONDS


def _require_own_names(names: Sequence[str]) -> None:
    by_stem: dict[Path, str] = {}
    for name in names:
        other = by_stem.setdefault(Path(name).with_suffix(""), name)
        if other != name:
            raise ValueError(f"{other} and {name} would be written to the same files; rename one of them.")


def _refuse_to_replace(files: Sequence[tuple[str, Path]], out: Path, formats: Sequence[str]) -> None:
    """Refuses to write over what lies beside the audio: transcripts of people are called like those that are made."""
    for (name, path), ending in product(files, formats):
        target = (out / name).with_suffix(f".{ending}")
        if target.exists() and _folders(target) & _folders(path):
            raise ValueError(
                f"{target} lies beside its audio and would be replaced; give another folder with --out, or move it."
            )


def _folders(path: Path) -> set[Path]:
    """Where a file lies, and, if it is a link, where what it links to does."""
    return {path.parent.resolve(), path.resolve().parent}


def _write(transcript: Transcript, out: Path, formats: Sequence[str]) -> None:
    for name in formats:
        write_text((out / transcript.file).with_suffix(f".{name}"), LAYOUTS[name](transcript))
