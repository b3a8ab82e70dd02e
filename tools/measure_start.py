"""Measures how long the light commands take: CPU seconds of the whole process, median of several.

    python -m tools.measure_start --repetitions 7 --title "How long a command takes to say something"

CPU seconds are those of user and system together, as the operating system counts them for the process and its children,
so that other programs on the machine disturb them little.
"""

from __future__ import annotations

import platform
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from compress.config import check_at_least
from tools.commands import main
from tools.results import RESULTS, EntryConfig, add, facts, grid

COMMANDS = (("--help",), ("ls",), ("cat", "configs/demo/train.yaml"), ("evalaute",))
"""What is measured; the last one is a typo."""


@dataclass(frozen=True, kw_only=True)
class StartConfig(EntryConfig):
    """What is measured.

    Attributes:
        repetitions: of each command; the median counts.
    """

    repetitions: int = 7
    results: str | None = str(RESULTS)

    def __post_init__(self) -> None:
        check_at_least("repetitions", self.repetitions, 1)


def measure_start(config: StartConfig) -> None:
    """Measures every command, and appends an entry."""
    measured = {words: [cpu_seconds(words) for _ in range(config.repetitions)] for words in COMMANDS}
    rows = [
        (f"`compress {shlex.join(words)}`", f"{median(times):.2f}", f"{max(times):.2f}")
        for words, times in measured.items()
    ]
    lines = grid(("command", "CPU seconds, median", "longest"), rows)
    machine = f"{platform.system()} on {platform.machine()}, Python {platform.python_version()}"
    note = f"{config.note}{'; ' if config.note else ''}{machine}; {config.repetitions} repetitions of each"
    command = f"python -m tools.measure_start --repetitions {config.repetitions} --title {shlex.quote(config.title)}"
    add(config, [*facts(command, "none", note), *lines])
    sys.stdout.write("\n".join(lines) + "\n")


def cpu_seconds(words: Sequence[str]) -> float:
    """CPU seconds of one run of `compress`, from an empty folder of its own."""
    before = _used()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "compress", *words]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return _used() - before


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(measure_start)
