"""Whether this process is the command `compress`, or a program that imports the package."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

_PACKAGE = "compress"
_ENTRY = b"from compress.cli import main"
_LONGEST_SCRIPT = 4096


def is_the_command() -> bool:
    """Says whether Python was started as `python -m compress` or by the script that an installer made of `compress`."""
    program, words = (sys.argv or [""])[0], sys.orig_argv
    if program == "-m":
        return ("-m", _PACKAGE) in pairwise(words)
    script = Path(program)
    return script.stem == _PACKAGE and script.is_file() and _ENTRY in script.read_bytes()[:_LONGEST_SCRIPT]
