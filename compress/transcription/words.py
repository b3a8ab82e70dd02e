"""When words were said, by the frames in which a CTC model wrote their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Word:
    """A word, or a piece of text, with its time in seconds from the start of the recording."""

    text: str
    start: float
    end: float


def timed_words(tokens: Sequence[int], blank: int, decode: Decode, start: float, frame_seconds: float) -> list[Word]:
    """Finds the words of one utterance: each lasts from the frame of its first token to that of its last.

    A CTC model writes a token in one or two frames of the time in which it is heard, so that times are right within
    some frames; they are no forced alignment.

    Args:
        tokens: of every frame, as the model gives them.
        blank: id of the blank token.
        decode: what the processor makes of such tokens.
        start: of the utterance, in seconds from the start of the recording.
        frame_seconds: how long a frame is.
    """
    spans: list[tuple[int, int]] = []
    text = ""
    for first, last in _runs(tokens, blank):
        longer = decode(tokens[: last + 1])
        count = len(longer.split())
        if count < len(spans):  # decoding has joined words, such as `it` and `'s`
            spans = [*spans[: count - 1], (spans[count - 1][0], last)] if count else []
        elif count > len(spans):
            spans += [(first, last)] * (count - len(spans))
        elif spans and longer.strip() != text:
            spans[-1] = (spans[-1][0], last)
        text = longer.strip()
    return [
        Word(word, start + first * frame_seconds, start + (last + 1) * frame_seconds)
        for word, (first, last) in zip(text.split(), spans, strict=True)
    ]


def _runs(tokens: Sequence[int], blank: int) -> Iterator[tuple[int, int]]:
    """First and last frame of each token that is no blank."""
    first = 0
    for frame, token in enumerate(tokens):
        if frame + 1 == len(tokens) or tokens[frame + 1] != token:
            if token != blank:
                yield first, frame
            first = frame + 1
