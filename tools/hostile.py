"""Gives the package thousands of broken inputs, each in a process of its own, and counts how it takes them.

    python tools/hostile.py --seed 0
    python tools/hostile.py --kinds [config,state] --count 50 --seed 3

A mutation of a valid input must be accepted, or refused in one message that names the file, the key or the tensor. The
table shows, by the kind of input, how many mutations ended otherwise:

    traceback   an error of another kind than users are shown
    unclear     refused, but the message names nothing
    silent      accepted without a word, though something that the file says got lost
    other       a run was gone on from, and reached another result
    memory      more than 1 GiB beyond what was in use
    time        more than 20 s
    signal      the process was killed

Exit code 0 if there are none.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from compress.config import check_at_least, check_choice, parse
from tools.hostility.forks import in_a_fork, outcome
from tools.hostility.kinds import KINDS
from tools.hostility.mutations import mutate

GOOD = ("accepted", "refused")
BAD = ("traceback", "unclear", "silent", "other", "memory", "time", "signal")


@dataclass(frozen=True)
class HostileConfig:
    """What is tried.

    Attributes:
        kinds: of input; none: all.
        count: mutations of each kind.
        seed: of the mutations.
        show: print the mutations that end badly.
    """

    kinds: tuple[str, ...] = ()
    count: int = 400
    seed: int = 0
    show: bool = True

    def __post_init__(self) -> None:
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        check_at_least("count", self.count, 1)


@dataclass
class Verdict:
    """How one mutation ended.

    Attributes:
        kind: of input.
        mutation: what was done to which file.
        outcome: one of `GOOD` or `BAD`.
        said: the message, or the traceback.
    """

    kind: str
    mutation: str
    outcome: str
    said: str = field(default="", repr=False)


def run_hostile(config: HostileConfig) -> list[Verdict]:
    """Tries all mutations of a config, one after another."""
    torch.set_num_threads(1)  # a fork has no other threads
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        for name in config.kinds or KINDS:
            whole = Path(folder, name, "whole")
            whole.mkdir(parents=True)
            KINDS[name].make(whole)
            whole_reading = KINDS[name].read(whole)
            for number in range(config.count):
                chooser = random.Random(f"{config.seed} {name} {number}")
                verdicts.append(_tried(name, whole, chooser, whole_reading))
    return verdicts


def _tried(name: str, whole: Path, chooser: random.Random, whole_reading: Any) -> Verdict:
    broken = whole.with_name("broken")
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    file = broken / chooser.choice(KINDS[name].files)
    mutation = f"{file.relative_to(broken)}: {mutate(file, chooser)}"
    return Verdict(name, mutation, *in_a_fork(lambda: outcome(KINDS[name], broken, whole_reading)))


def table(verdicts: list[Verdict]) -> str:
    """The number of mutations by kind and outcome."""
    counts = Counter((verdict.kind, verdict.outcome) for verdict in verdicts)
    kinds = list(dict.fromkeys(verdict.kind for verdict in verdicts))
    rows = [("kind", *GOOD, *BAD), *((kind, *(str(counts[kind, name]) for name in (*GOOD, *BAD))) for kind in kinds)]
    return "\n".join("  ".join(f"{cell:>10}" for cell in row) for row in rows)


def main() -> int:
    """Tries what the command line asks for, and prints the table."""
    config = parse(HostileConfig, prog="hostile.py", description=__doc__ or "")
    verdicts = run_hostile(config)
    bad = [verdict for verdict in verdicts if verdict.outcome in BAD]
    for verdict in bad if config.show else ():
        sys.stdout.write(f"{verdict.outcome}: {verdict.kind}: {verdict.mutation}\n{verdict.said}\n\n")
    sys.stdout.write(table(verdicts) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
