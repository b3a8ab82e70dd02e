"""An audio file or a part of one in, mono 16-bit samples at the wanted rate out."""

from __future__ import annotations

import io
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from compress.data.containers import defect
from compress.data.formats.entries import OTHER_AUDIO_SUFFIXES

INT16_SCALE = 32768.0
UNKNOWN_FRAMES = 1 << 40
"""libsndfile gives a frame count beyond this where a container does not tell its length."""
DECODER_PADDING_FRAMES = 4096
"""MP3 and Opus may end this many frames before or after what their header says."""
READ_MARGIN_SECONDS = 1.0
OVERHANG_SECONDS = 0.5
"""A clip may end so far behind its file, as in Kaldi; what is there of it is used."""
UNNOTICED_SECONDS = 0.02
"""So much of it is rounding."""
FILES_REMEMBERED = 64
"""Whole files of which a part was read lately, so that not every part looks through the file anew."""
RESAMPLER_QUALITY = "HQ"

Samples = NDArray[np.int16]


class UnusableAudio(Exception):
    """Why one file cannot be used; its text is the reason that is reported."""


@dataclass(frozen=True)
class AudioLimits:
    """What makes a file usable.

    Attributes:
        sampling_rate: wanted rate in Hz.
        min_seconds: shortest usable file.
        max_seconds: longest usable file.
        silence_dbfs: peak level below which a file is silent.
        channel: the one to take of several, from 0; None: their mean.
    """

    sampling_rate: int
    min_seconds: float
    max_seconds: float
    silence_dbfs: float
    channel: int | None = None


@dataclass(frozen=True)
class Clip:
    """A part of an audio file.

    Attributes:
        audio: the file's bytes, or its path.
        channel: the one that is meant, from 0; None leaves that to `AudioLimits`.
        start: where it begins, in seconds.
        seconds: its length; None: to the end.
    """

    audio: bytes | Path
    channel: int | None = None
    start: float = 0.0
    seconds: float | None = None


class Heard(NamedTuple):
    """What was decoded.

    Attributes:
        samples: as `decode` returns them.
        notes: what was noticed, and stops nothing; what stands before a colon is its kind.
    """

    samples: Samples
    notes: tuple[str, ...]


def decode(payload: bytes | Path | Clip, limits: AudioLimits) -> Samples:
    """Decodes wav, flac, mp3, ogg/opus of any rate and any number of channels.

    Args:
        payload: the file's bytes, its path, or a part of either.
        limits: the wanted rate and what is usable.

    Returns:
        Mono samples at `limits.sampling_rate`, int16, `(samples,)`. Audio beyond full scale is turned down to it.

    Raises:
        UnusableAudio: with the reason, if the file is missing, unreadable, empty, too long, too short or silent, or
            the part lies outside of it.
    """
    return listen(payload, limits).samples


def listen(payload: bytes | Path | Clip, limits: AudioLimits) -> Heard:
    """Decodes as `decode` does, and says what was noticed; arguments and errors are the same."""
    clip = payload if isinstance(payload, Clip) else Clip(payload)
    _check_present(clip.audio)
    _check_whole(clip.audio)
    samples, rate, notes = _read(clip, limits)
    seconds = len(samples) / rate
    if not len(samples):
        raise UnusableAudio("empty: no samples")
    if seconds < limits.min_seconds:
        raise UnusableAudio(f"too short: {seconds:.2f} s, less than min_seconds {limits.min_seconds:g}")
    if not np.isfinite(samples).all():
        raise UnusableAudio("holds samples that are not finite numbers")
    _check_level(samples, limits.silence_dbfs, notes)
    resampled = resample(samples, rate, limits.sampling_rate)
    if not len(resampled):
        raise UnusableAudio(f"too short: {len(samples)} samples at {rate:,} Hz are none at {limits.sampling_rate:,} Hz")
    return Heard(to_int16(resampled), notes)


def to_float(samples: Samples) -> NDArray[np.float32]:
    """Turns int16 samples into float32 in [-1, 1)."""
    return np.divide(samples, INT16_SCALE, dtype=np.float32)


def to_int16(samples: NDArray[np.float32]) -> Samples:
    """Turns float32 samples into int16; a signal beyond full scale is scaled down, never clipped."""
    scaled = samples * np.float32(INT16_SCALE)
    peak = float(np.abs(scaled).max())
    if peak > INT16_SCALE - 1:
        scaled = scaled * np.float32((INT16_SCALE - 1) / peak)
    return np.asarray(np.round(scaled), dtype=np.int16)


def resample(samples: NDArray[np.float32], rate: int, wanted_rate: int) -> NDArray[np.float32]:
    """Resamples with soxr.

    Args:
        samples: `(samples,)` at `rate` Hz.
        rate: present rate in Hz.
        wanted_rate: rate of the result in Hz.
    """
    if rate == wanted_rate:
        return samples
    return np.asarray(soxr.resample(samples, rate, wanted_rate, quality=RESAMPLER_QUALITY), dtype=np.float32)


def _check_whole(audio: bytes | Path) -> None:
    """Refuses files that end before their containers say they do; libsndfile reads what is left without a word."""
    if isinstance(audio, bytes):
        reason = defect(io.BytesIO(audio))
    else:
        status = audio.stat()
        try:
            reason = _defect_of(audio, status.st_size, status.st_mtime_ns)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
    if reason:
        raise UnusableAudio(reason)


@lru_cache(FILES_REMEMBERED)
def _defect_of(path: Path, size: int, changed: int) -> str | None:
    """What `defect` says of a file of this size that was changed then."""
    with path.open("rb") as file:
        return defect(file)


def _check_present(audio: bytes | Path) -> None:
    size = _file_size(audio) if isinstance(audio, Path) else len(audio)
    if size == 0:
        raise UnusableAudio("empty: 0 bytes")


def _file_size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError):  # no such file, or none can have such a name
        raise UnusableAudio("file not found") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableAudio("no regular file")
    return status.st_size


_Read = tuple[NDArray[np.float32], int, tuple[str, ...]]
"""Mono samples, their rate, and what was noticed."""


def _read(clip: Clip, limits: AudioLimits) -> _Read:
    source = io.BytesIO(clip.audio) if isinstance(clip.audio, bytes) else clip.audio
    try:
        with soundfile.SoundFile(source) as file:
            return _read_open(file, clip, limits)
    except soundfile.LibsndfileError as error:
        raise UnusableAudio(f"cannot be decoded: {error.error_string}{_hint(clip.audio)}") from None
    except (soundfile.SoundFileError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise UnusableAudio(f"cannot be decoded: {str(error).splitlines()[0]}") from None


def _hint(audio: bytes | Path) -> str:
    """What turns a file that libsndfile cannot read into one that it can."""
    suffix = audio.suffix.lower() if isinstance(audio, Path) else ""
    if suffix == ".sph":
        return "; unpack it with sph2pipe -f wav"
    return f"; {suffix} is not read here, write flac or wav" if suffix in OTHER_AUDIO_SUFFIXES else ""


def _read_open(file: soundfile.SoundFile, clip: Clip, limits: AudioLimits) -> _Read:
    rate = int(file.samplerate)
    frames, note = _frames(file, clip, rate)
    expected = min(frames, int((limits.max_seconds + READ_MARGIN_SECONDS) * rate))
    _go_to(file, round(clip.start * rate))
    several = file.read(frames=expected, dtype="float32", always_2d=True)
    samples, channel_note = _mono(several, clip.channel, limits.channel)
    if len(samples) > limits.max_seconds * rate:
        length = f"{frames / rate:.2f} s" if frames < UNKNOWN_FRAMES else "length unknown"
        raise UnusableAudio(f"too long: {length}, more than max_seconds {limits.max_seconds:g}")
    if len(samples) < expected - DECODER_PADDING_FRAMES and file.frames < UNKNOWN_FRAMES:
        raise UnusableAudio(f"truncated: {len(samples) / rate:.2f} of {expected / rate:.2f} s can be decoded")
    return samples, rate, tuple(filter(None, (note, channel_note)))


def _frames(file: soundfile.SoundFile, clip: Clip, rate: int) -> tuple[int, str]:
    """How many frames belong to a clip, and a note if fewer are there than it says."""
    there = int(file.frames) - round(clip.start * rate)
    end = f"the file ends at {file.frames / rate:.2f} s"
    if there <= 0 < file.frames:
        raise UnusableAudio(f"clip outside its file: it begins at {clip.start:.2f} s, {end}")
    if clip.seconds is None:
        return there, ""
    missing = clip.seconds - there / rate
    if missing > OVERHANG_SECONDS:
        raise UnusableAudio(f"clip outside its file: it ends at {clip.start + clip.seconds:.2f} s, {end}")
    note = f"clip beyond the end of its file: by {missing:.2f} s, cut" if missing > UNNOTICED_SECONDS else ""
    return min(there, round(clip.seconds * rate)), note


def _go_to(file: soundfile.SoundFile, frame: int) -> None:
    if frame and file.seekable():
        file.seek(frame)
    elif frame:
        file.read(frames=frame, dtype="float32")


def _mono(several: NDArray[np.float32], own: int | None, usual: int | None) -> tuple[NDArray[np.float32], str]:
    """One channel of `(frames, channels)`: its own, else the usual one of several, else their mean, with a note."""
    count = several.shape[1]
    channel = own if own is not None or count == 1 else usual
    if channel is None:
        note = f"several channels: {count}, their mean is taken (data.channel takes one)" if count > 1 else ""
        return np.asarray(several.mean(axis=1)), note
    if not 0 <= channel < count:
        raise UnusableAudio(f"has no channel {channel}: it has {count}, counted from 0")
    return several[:, channel], ""


def _check_level(samples: NDArray[np.float32], silence_dbfs: float, notes: Sequence[str]) -> None:
    peak = float(np.abs(samples - samples.mean()).max())
    level = 20 * np.log10(peak) if peak > 0 else -np.inf
    if level < silence_dbfs:
        silent = f"silent: peak {level:.0f} dBFS, below silence_dbfs {silence_dbfs:g}"
        raise UnusableAudio("; ".join([silent, *notes]))
