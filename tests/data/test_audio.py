"""Every format, rate and number of channels comes out as the same mono audio."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from compress.data.audio import AudioLimits, UnusableAudio, decode, to_float, to_int16
from compress.data.containers import defect
from tests.helpers.samples import RATE, tone, write_audio

LIMITS = AudioLimits(RATE, min_seconds=0.1, max_seconds=2.0, silence_dbfs=-60.0)


def peak_hertz(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
@pytest.mark.parametrize("from_bytes", [False, True])
def test_formats(tmp_path: Path, suffix: str, from_bytes: bool) -> None:
    path = write_audio(tmp_path / f"tone.{suffix}", tone(1.0))
    samples = decode(path.read_bytes() if from_bytes else path, LIMITS)
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(RATE, rel=0.1)
    assert peak_hertz(to_float(samples), RATE) == pytest.approx(440, abs=5)
    assert np.abs(to_float(samples)).max() == pytest.approx(0.3, abs=0.1)  # lossy codecs overshoot


def test_a_file_that_cannot_be_opened_is_no_error_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the user may not read it, or the disk fails."""
    path = write_audio(tmp_path / "tone.wav", tone(1.0))

    def refused(self: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UnusableAudio, match=r"^cannot be read: Permission denied$"):
        decode(path, LIMITS)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    samples = decode(write_audio(tmp_path / "tone.wav", tone(1.0, rate), rate), LIMITS)
    assert len(samples) == pytest.approx(RATE, abs=2)
    assert peak_hertz(to_float(samples), RATE) == pytest.approx(440, abs=2)


def test_what_resamples_to_nothing_is_too_short(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "click.wav", np.full(1, 0.5, np.float32), 48_000)
    with pytest.raises(UnusableAudio, match="too short: 1 samples at 48,000 Hz are none at 16,000 Hz"):
        decode(path, AudioLimits(RATE, 0.0, 30.0, -np.inf))


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(1.0, level=0.4), np.zeros(RATE, np.float32)], axis=1)
    samples = to_float(decode(write_audio(tmp_path / "stereo.flac", stereo), LIMITS))
    assert samples.shape == (RATE,)
    assert np.abs(samples).max() == pytest.approx(0.2, abs=0.001)


def test_sixteen_bit_audio_is_kept_exactly(tmp_path: Path) -> None:
    original = np.random.default_rng(0).integers(-30_000, 30_000, RATE, dtype=np.int16)
    path = write_audio(tmp_path / "noise.wav", to_float(original))
    assert np.array_equal(decode(path, LIMITS), original)


def test_beyond_full_scale_is_turned_down_not_clipped() -> None:
    loud = tone(0.1, level=2.0)
    assert np.allclose(to_float(to_int16(loud)), loud / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0, np.float32), "empty: no samples"),
        (np.zeros(RATE, np.float32), "silent: peak -inf dBFS, below silence_dbfs -60"),
        (tone(1.0, level=1e-4) + 0.25, "silent: peak -80 dBFS, below silence_dbfs -60"),
        (
            np.stack([tone(1.0), -tone(1.0)], axis=1),
            "silent: peak -inf dBFS, below silence_dbfs -60; several channels: 2, their mean is taken "
            "(data.channel takes one)",
        ),
        (tone(0.05), "too short: 0.05 s, less than min_seconds 0.1"),
        (tone(2.5), "too long: 2.50 s, more than max_seconds 2"),
        (tone(20.0), "too long: 20.00 s, more than max_seconds 2"),
    ],
)
def test_unusable_audio(tmp_path: Path, samples: np.ndarray, reason: str) -> None:
    import soundfile

    soundfile.write(tmp_path / "bad.wav", samples.astype(np.float32), RATE, subtype="FLOAT")
    with pytest.raises(UnusableAudio) as error:
        decode(tmp_path / "bad.wav", LIMITS)
    assert str(error.value) == reason


def test_unusable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.flac").write_text("this is not audio")
    whole = write_audio(tmp_path / "whole.flac", np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32))
    (tmp_path / "half.flac").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reasons = {}
    for name in ("missing.wav", "empty.wav", "text.flac", "half.flac"):
        with pytest.raises(UnusableAudio) as error:
            decode(tmp_path / name, LIMITS)
        reasons[name] = str(error.value)
    assert reasons["missing.wav"] == "file not found"
    assert reasons["empty.wav"] == "empty: 0 bytes"
    assert reasons["text.flac"] == "cannot be decoded: Format not recognised."
    assert reasons["half.flac"].startswith(("truncated: 0.", "cannot be decoded: "))


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    import soundfile

    samples = tone(1.0)
    samples[10] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(UnusableAudio, match="holds samples that are not finite numbers"):
        decode(tmp_path / "nan.wav", LIMITS)


CUTTABLE = {"wav": "WAV", "aiff": "AIFF", "au": "AU", "rf64": "RF64", "ogg": "OGG", "opus": "OGG", "flac": "FLAC",
            "w64": "W64", "sph": "NIST", "caf": "CAF"}  # fmt: skip


@pytest.mark.parametrize("kind", CUTTABLE)
@pytest.mark.parametrize("left", [0.5, 0.97])
def test_half_a_file_is_no_whole_one(tmp_path: Path, kind: str, left: float) -> None:
    import soundfile

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    path = tmp_path / f"whole.{kind}"
    soundfile.write(path, noise, RATE, format=CUTTABLE[kind], subtype="OPUS" if kind == "opus" else None)
    assert len(decode(path, LIMITS)) == pytest.approx(RATE, abs=4096)
    half = path.read_bytes()[: int(left * path.stat().st_size)]
    (tmp_path / f"half.{kind}").write_bytes(half)
    for payload in (half, tmp_path / f"half.{kind}"):
        with pytest.raises(UnusableAudio, match=r"truncated|cannot be decoded"):
            decode(payload, LIMITS)


@pytest.mark.parametrize("declared", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_of_undeclared_length_is_read_to_its_end(tmp_path: Path, declared: int) -> None:
    content = bytearray(write_audio(tmp_path / "piped.wav", tone(1.0)).read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = declared.to_bytes(4, "little")
    assert len(decode(bytes(content), LIMITS)) == RATE


def test_one_bit_per_sample_is_refused(tmp_path: Path) -> None:
    content = bytearray(write_audio(tmp_path / "bits.wav", tone(1.0)).read_bytes())
    place = content.index(b"fmt ") + 22
    content[place : place + 2] = (1).to_bytes(2, "little")
    with pytest.raises(UnusableAudio, match="cannot be decoded: 1 bits per sample"):
        decode(bytes(content), LIMITS)


def test_names_that_no_file_can_have_and_folders_are_refused(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / ("x" * 5000), "not found"),
        (tmp_path / "a\0b", "not found"),
        (tmp_path, "no reg"),
    ):
        with pytest.raises(UnusableAudio, match=reason):
            decode(path, LIMITS)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_page_of_ogg_that_was_changed_is_told(subtype: str) -> None:
    whole = io.BytesIO()
    soundfile.write(whole, tone(2.0), RATE, format="OGG", subtype=subtype)
    content = bytearray(whole.getvalue())
    assert defect(io.BytesIO(content)) is None
    content[len(content) // 2] ^= 1
    assert "does not have its checksum" in str(defect(io.BytesIO(content)))
