"""Write down what is said in audio files, as text, subtitles or JSON with times.

Files of any length: longer ones are cut into pieces, each in its quietest place.

Examples:
  compress transcribe runs/prune/final interview.wav
  compress transcribe runs/prune/final recordings --out transcripts --formats [txt,srt]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Writes one file of each format beside another for every audio file, or prints the texts.

    Args:
        arguments: The words after `compress transcribe`.

    Raises:
        ValueError: If the model or an option is unusable, or some audio could not be read.
        OSError: If the model or the audio cannot be found.
    """
    from rich.console import Console

    from compress.config import parse
    from compress.transcription import TranscribeConfig, transcribe_files

    config = parse(
        TranscribeConfig, arguments, prog="compress transcribe", description=__doc__, positional=["model", "source"]
    )
    console = Console(stderr=True)
    for transcript in transcribe_files(config, console=console):
        if config.out is None:
            sys.stdout.write(f"{transcript.file}: {transcript.text}\n")
    if config.out is not None:
        console.print(f"Written to {config.out}.", style="dim", markup=False)
