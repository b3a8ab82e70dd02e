"""Writing down files of any length, with times: `compress transcribe`."""

from compress.transcription.files import transcribe_files
from compress.transcription.settings import TranscribeConfig

__all__ = ["TranscribeConfig", "transcribe_files"]
