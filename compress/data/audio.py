"""One audio file in, mono 16-bit samples at the wanted rate out. Imports numpy, soundfile and soxr only."""

from __future__ import annotations

import io
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from compress.data.containers import defect

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga")
INT16_SCALE = 32768.0
UNKNOWN_FRAMES = 1 << 40
"""libsndfile gives a frame count beyond this where a container does not tell its length."""
DECODER_PADDING_FRAMES = 4096
"""MP3 and Opus may end this many frames before or after what their header says."""
READ_MARGIN_SECONDS = 1.0
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
    """

    sampling_rate: int
    min_seconds: float
    max_seconds: float
    silence_dbfs: float


def decode(payload: bytes | Path, limits: AudioLimits) -> Samples:
    """Decodes wav, flac, mp3, ogg/opus of any rate and any number of channels.

    Args:
        payload: the file's bytes, or its path.
        limits: the wanted rate and what is usable.

    Returns:
        Mono samples at `limits.sampling_rate`, int16, `(samples,)`. Audio beyond full scale is turned down to it.

    Raises:
        UnusableAudio: with the reason, if the file is missing, unreadable, empty, too long, too short or silent.
    """
    _check_present(payload)
    _check_whole(payload)
    samples, rate = _read(payload, limits.max_seconds)
    seconds = len(samples) / rate
    if not len(samples):
        raise UnusableAudio("empty: no samples")
    if seconds < limits.min_seconds:
        raise UnusableAudio(f"too short: {seconds:.2f} s, less than min_seconds {limits.min_seconds:g}")
    if not np.isfinite(samples).all():
        raise UnusableAudio("holds samples that are not finite numbers")
    _check_level(samples, limits.silence_dbfs)
    return to_int16(resample(samples, rate, limits.sampling_rate))


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


def _check_whole(payload: bytes | Path) -> None:
    """Refuses files that end before their containers say they do; libsndfile reads what is left without a word."""
    with io.BytesIO(payload) if isinstance(payload, bytes) else payload.open("rb") as file:
        if reason := defect(file):
            raise UnusableAudio(reason)


def _check_present(payload: bytes | Path) -> None:
    size = _file_size(payload) if isinstance(payload, Path) else len(payload)
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


def _read(payload: bytes | Path, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    source = io.BytesIO(payload) if isinstance(payload, bytes) else payload
    try:
        with soundfile.SoundFile(source) as file:
            return _read_open(file, max_seconds)
    except soundfile.LibsndfileError as error:
        raise UnusableAudio(f"cannot be decoded: {error.error_string}") from None
    except (soundfile.SoundFileError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise UnusableAudio(f"cannot be decoded: {str(error).splitlines()[0]}") from None


def _read_open(file: soundfile.SoundFile, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    rate = int(file.samplerate)
    expected = min(int(file.frames), int((max_seconds + READ_MARGIN_SECONDS) * rate))
    samples = file.read(frames=expected, dtype="float32", always_2d=True).mean(axis=1)
    if len(samples) > max_seconds * rate:
        length = f"{file.frames / rate:.2f} s" if file.frames < UNKNOWN_FRAMES else "length unknown"
        raise UnusableAudio(f"too long: {length}, more than max_seconds {max_seconds:g}")
    if len(samples) < expected - DECODER_PADDING_FRAMES and file.frames < UNKNOWN_FRAMES:
        raise UnusableAudio(f"truncated: {len(samples) / rate:.2f} of {expected / rate:.2f} s can be decoded")
    return samples, rate


def _check_level(samples: NDArray[np.float32], silence_dbfs: float) -> None:
    peak = float(np.abs(samples - samples.mean()).max())
    level = 20 * np.log10(peak) if peak > 0 else -np.inf
    if level < silence_dbfs:
        raise UnusableAudio(f"silent: peak {level:.0f} dBFS, below silence_dbfs {silence_dbfs:g}")
