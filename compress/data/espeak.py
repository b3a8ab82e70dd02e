"""Speech from text with espeak-ng, called through ctypes from the `espeakng-loader` wheel."""

from __future__ import annotations

import _ctypes
import ctypes
import sys
from typing import Any

import espeakng_loader
import numpy as np

from compress.data.audio import Samples

OUTPUT_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
POSITION_CHARACTER = 1
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
NOISE_SEED = 1
SUCCESS = 0

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Voice:
    """A voice that says the same sentence in the same way each time.

    espeak-ng keeps state from one sentence to the next (flutter, filters), therefore `speak` loads it anew each time,
    which takes half a millisecond.

    Attributes:
        sampling_rate: of the result, in Hz.
    """

    def __init__(self) -> None:
        self.sampling_rate = 0
        self._pieces: list[bytes] = []
        self._callback = _Callback(self._collect)

    def speak(self, text: str, name: str, *, words_per_minute: int, pitch: int) -> Samples:
        """Speaks a text.

        Args:
            text: what to say.
            name: voice and variant, such as `en-us+f4`.
            words_per_minute: speaking rate, 80 to 450.
            pitch: 0 to 100.

        Returns:
            int16, `(samples,)`, at `sampling_rate`.

        Raises:
            ValueError: if espeak-ng has no such voice.
        """
        library = self._load()
        try:
            if library.espeak_SetVoiceByName(name.encode()) != SUCCESS:
                raise ValueError(f"espeak-ng has no voice {name!r}")
            library.espeak_SetParameter(PARAMETER_RATE, words_per_minute, 0)
            library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
            return self._synthesise(library, text)
        finally:
            library.espeak_Terminate()
            _unload(library)

    def _load(self) -> ctypes.CDLL:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        data = espeakng_loader.get_data_path().encode()
        self.sampling_rate = library.espeak_Initialize(OUTPUT_SYNCHRONOUS, 0, data, 0)
        if self.sampling_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot read its data in {data.decode()}: reinstall espeakng-loader")
        library.espeak_SetSynthCallback(self._callback)
        return library

    def _synthesise(self, library: ctypes.CDLL, text: str) -> Samples:
        self._pieces.clear()
        if sys.platform != "win32":
            ctypes.CDLL(None).srand(NOISE_SEED)  # some voices add noise from the C library's generator
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, POSITION_CHARACTER, 0, CHARACTERS_UTF8, None, None)
        return np.frombuffer(b"".join(self._pieces), dtype=np.int16)

    def _collect(self, wave: Any, count: int, _events: Any) -> int:
        if wave and count > 0:
            self._pieces.append(ctypes.string_at(wave, count * ctypes.sizeof(ctypes.c_short)))
        return SUCCESS


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
