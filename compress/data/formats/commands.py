"""Commands in data, as Kaldi, NeMo and lhotse allow them: told from paths, replaced by the file they mean, refused."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PIPE = "pipe:"
_DECODING = frozenset("cds")
_LONG_DECODING = frozenset({"--stdout", "--decode", "--silent"})
_REFUSED = "a command: {command!r} is not run; write files instead, or set data.allow_commands"


@dataclass(frozen=True)
class Command:
    """A command whose output is an audio file.

    Attributes:
        line: as a shell takes it.
    """

    line: str

    @property
    def place(self) -> None:
        """None: a program makes the audio."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Words of the command that are called as files are."""
        try:
            words = shlex.split(self.line)
        except ValueError:
            words = []
        return tuple(path for path in map(Path, words) if os.path.isfile(path))

    def read(self) -> bytes:
        """Runs the command, and returns what it writes.

        Raises:
            ValueError: if it fails.
        """
        done = subprocess.run(self.line, shell=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise ValueError(f"the command failed with {done.returncode}: {self.line}: {said[-1]}")
        return done.stdout


def command_in(name: str) -> str | None:
    """Returns the command that stands in place of a path: `COMMAND |` or `pipe:COMMAND`; None for a path."""
    if name.startswith(PIPE):
        return name.removeprefix(PIPE).strip()
    return name.rstrip()[:-1].strip() if name.rstrip().endswith("|") else None


def file_of(command: str) -> str | None:
    """Returns the file that a command only hands on: that of `cat F` or `flac -c -d -s F`; None for any other."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or any(character in command for character in "|;&<>`$"):
        return None
    flags = [word for word in words[1:] if word.startswith("-")]
    files = [word for word in words[1:] if not word.startswith("-")]
    program = PurePosixPath(words[0]).name
    only_reads = (program == "cat" and not flags) or (program == "flac" and all(map(_only_decodes, flags)))
    return files[0] if only_reads and len(files) == 1 else None


def allowed(command: str, allow: bool) -> tuple[Command | None, str]:
    """Returns a command that may be run, or None and why it may not."""
    return (Command(command), "") if allow else (None, _REFUSED.format(command=command))


def _only_decodes(flag: str) -> bool:
    return flag in _LONG_DECODING or (not flag.startswith("--") and _DECODING.issuperset(flag[1:]))
