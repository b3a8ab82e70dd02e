"""What is wrong with a checkpoint, and the words of strangers turned into one line."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded completely."""


def reason_of(error: BaseException) -> str:
    """Says in one line what went wrong in somebody else's code, whose errors have many kinds and lines."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]).rstrip(".:")
    return (
        f"{type(error).__name__}: {text}"
        if text and not isinstance(error, ValueError | OSError)
        else text or type(error).__name__
    )
