"""What a user can say about writing down files."""

from __future__ import annotations

from dataclasses import dataclass, field

from compress.config import check, check_at_least, check_choice
from compress.data import BatchConfig
from compress.evaluation import GenerateConfig
from compress.machine import DTYPES
from compress.transcription.layouts import LAYOUTS

SHORTEST_SECONDS = 1
"""Of the longest piece: in less no pause can be found, and models hear no word."""


@dataclass(frozen=True, kw_only=True)
class TranscribeConfig:
    """What is written down, and how.

    Attributes:
        model: checkpoint folder or Hub name.
        source: an audio file, or a folder whose audio files are all taken, those in folders below it too.
        out: folder for one file of each format beside another, named after the audio; null prints the texts.
        formats: any of txt, srt (subtitles) and json (texts, segments and, of a CTC model, the times of words).
        piece_seconds: a longer file is cut in pauses, into pieces of at most this length; null: 20, or less where the
            model's config says that it was trained on shorter utterances.
        batch: how pieces are put together.
        device: auto, cpu, cuda or cuda:N.
        dtype: of the weights: float32, bfloat16 or float16.
        generate: how a model without a CTC head writes.
    """

    model: str
    source: str
    out: str | None = None
    formats: tuple[str, ...] = tuple(LAYOUTS)
    piece_seconds: float | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    device: str = "auto"
    dtype: str = "float32"
    generate: GenerateConfig = field(default_factory=GenerateConfig)

    def __post_init__(self) -> None:
        check(bool(self.formats), "formats", list(self.formats), f"choose from {', '.join(LAYOUTS)}")
        for name in self.formats:
            check_choice("formats", name, tuple(LAYOUTS))
        if self.piece_seconds is not None:
            check_at_least("piece_seconds", self.piece_seconds, SHORTEST_SECONDS, "second")
        check_choice("dtype", self.dtype, tuple(DTYPES))
