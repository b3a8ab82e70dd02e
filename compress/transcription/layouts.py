"""The files in which a transcript is written: plain text, subtitles, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compress.transcription.words import Word

LONGEST_SUBTITLE_SECONDS = 6.0
LONGEST_SUBTITLE = 84
"""Characters: two lines of 42, as broadcasters have them."""
PAUSE_SECONDS = 0.8


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        file: its name.
        seconds: its length.
        text: everything.
        pieces: the pieces it was cut into, with their times.
        words: with their times; None where the model does not tell them.
    """

    file: str
    seconds: float
    text: str
    pieces: Sequence[Word]
    words: Sequence[Word] | None

    @property
    def segments(self) -> list[Word]:
        """Stretches of text short enough to be read at once where words have times, else the pieces."""
        if self.words is None:
            return [piece for piece in self.pieces if piece.text]
        return [
            Word(" ".join(word.text for word in group), group[0].start, group[-1].end) for group in _groups(self.words)
        ]


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words that belong together: a pause, the length or the time of a subtitle divides them."""
    group: list[Word] = []
    for word in words:
        if group and (
            word.start - group[-1].end > PAUSE_SECONDS
            or word.end - group[0].start > LONGEST_SUBTITLE_SECONDS
            or sum(len(each.text) + 1 for each in group) + len(word.text) > LONGEST_SUBTITLE
        ):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def as_text(transcript: Transcript) -> str:
    """One line."""
    return f"{transcript.text}\n"


def as_subtitles(transcript: Transcript) -> str:
    """Numbered blocks in the SubRip format."""
    return "".join(
        f"{number}\n{_clock(segment.start)} --> {_clock(segment.end)}\n{segment.text}\n\n"
        for number, segment in enumerate(transcript.segments, start=1)
    )


def as_json(transcript: Transcript) -> str:
    """Everything that is known; times in seconds."""
    said = {
        "file": transcript.file,
        "seconds": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": [_timed(segment) for segment in transcript.segments],
        "words": None if transcript.words is None else [_timed(word) for word in transcript.words],
    }
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


def _timed(word: Word) -> dict[str, str | float]:
    return {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}


def _clock(seconds: float) -> str:
    minutes, thousandths = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{thousandths // 1000:02},{thousandths % 1000:03}"


LAYOUTS: Mapping[str, Callable[[Transcript], str]] = {"txt": as_text, "srt": as_subtitles, "json": as_json}
