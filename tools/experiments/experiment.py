"""What the experiments stand on: a folder that commands fill, and the entry of RESULTS.md that is made of it.

The verbs and recipes are started one after another, each only where its outcome is not there yet, so that every command
of an experiment can be started anew at any time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.files.reading import read_json
from compress.files.writing import write_json
from tools.commands import typed
from tools.results import REPOSITORY, RESULTS, EntryConfig, add, facts, head_commit

ON_A_CPU = () if torch.cuda.is_available() else ("--cpu",)
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", *ON_A_CPU)
LAUNCH = (*ACCELERATE, "--num_processes", "1", "--num_machines", "1")
LAUNCH_TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
COMPRESS = (sys.executable, "-m", "compress")
REPORT = "report.json"
BY_ADAMW = ("--optim", "adamw", "--optimizer.learning_rate", "1e-3")
"""How models of the demo's size are trained that are compressed afterwards: those trained by Muon lose far more."""


@dataclass(frozen=True, kw_only=True)
class TableConfig(EntryConfig):
    """An entry of RESULTS.md from what an experiment has left.

    Attributes:
        out: The folder that was filled.
        data: The data set, splits, and what a reader must know about it.
    """

    out: str
    data: str
    results: str | None = str(RESULTS)


class Experiment:
    """A comparison of models, all of which live in one folder.

    Args:
        folder: everything that its commands make goes there.
        name: of the file that says how the folder was made.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        self.folder = Path(folder).absolute()
        self._state = self.folder / f"{name}.json"

    @property
    def settings(self) -> dict[str, Any]:
        """What its commands have noted; nothing before the first."""
        settings: dict[str, Any] = read(self._state) if self._state.exists() else {}
        return settings

    def note(self, command: str, **settings: Any) -> None:
        """Notes that a command runs as it was typed, at which commit, and what a table must know of its settings."""
        commands = self.settings.get("commands", {}) | {command: typed()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._state, {**self.settings, "commit": head_commit(), "commands": commands, **settings})

    def enter(self, config: TableConfig, lines: Sequence[str], seeds: Sequence[Any] = ()) -> None:
        """Makes an entry of what was found.

        Args:
            config: heading and words of the entry.
            lines: its tables and remarks, in Markdown.
            seeds: of the trainings, where the entry says them.
        """
        commands = " ; ".join(self.settings.get("commands", {}).values())
        data = f"{config.data}; {seeds_said(seeds)}" if seeds else config.data
        add(config, [*facts(commands, data, config.note, commit=self.settings.get("commit")), *lines])


def seeds_said(seeds: Sequence[Any]) -> str:
    """One seed is called one seed."""
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"one seed ({seeds[0]})"


def environment() -> dict[str, str]:
    """The variables of this process, with which another one finds the package of this checkout first."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def execute(command: Sequence[str], log: Path, *, stop: bool = True, seconds: float | None = None) -> None:
    """Runs a command in the checkout, with the package of this checkout; what it says is appended to a log.

    Raises:
        SystemExit: if it fails, and `stop` does not say that the log will do.
        TimeoutExpired: if it takes longer than it may.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment(), stdout=file, stderr=file, timeout=seconds, check=False
        )
    if done.returncode and stop:
        raise SystemExit(f"{' '.join(command)} failed; {log} says why.")


def run_recipe(recipe: str, output: Path, *options: str, launch: Sequence[str] = LAUNCH) -> None:
    """Runs a recipe, unless it has ended already.

    Args:
        recipe: its name, such as `prune`.
        output: its folder; the log is written beside it.
        options: of the recipe, all but the folder.
        launch: how it is started.
    """
    if not (output / "done.json").exists():
        execute((*launch, f"recipes/{recipe}.py", *options, "--output", str(output)), log_of(output))


def run_verb(verb: str, out: Path, *words: str, stop: bool = True, last: str = "") -> None:
    """Runs a verb of `compress` that writes a file or folder, unless that is there.

    Args:
        verb: the verb.
        out: what it writes.
        words: its other options.
        stop: whether a failure ends everything.
        last: the file of the folder that is written last, for verbs that go on where they were interrupted.
    """
    if not (out / last).exists():
        execute((*COMPRESS, verb, *words, "--out", str(out)), log_of(out), stop=stop)


def evaluate(model: str | Path, data: str, out: Path, *options: str, repetitions: int = 1) -> dict[str, Any]:
    """The report of `compress evaluate`, made unless it is there; a baseline, the split and more are options."""
    if not (out / REPORT).exists():
        given = (str(model), "--data", data, "--out", str(out), "--speed.repetitions", str(repetitions), *options)
        execute((*COMPRESS, "evaluate", *given), log_of(out))
    report: dict[str, Any] = read(out / REPORT)
    return report


def search(model: str | Path, data: str, out: Path, *options: str) -> dict[str, Any]:
    """What `compress search` finds, searched for unless it has been."""
    if not (out / "search.json").exists():
        execute((*COMPRESS, "search", str(model), "--data", data, "--out", str(out), *options), log_of(out))
    searched: dict[str, Any] = read(out / "search.json")
    return searched


def log_of(folder: Path) -> Path:
    """The file beside a folder that holds what was said while it was made."""
    return folder.with_name(f"{folder.name}.log")


def listed(values: Iterable[Any]) -> str:
    """A list as options take it."""
    return f"[{','.join(map(str, values))}]"


def read(path: Path) -> Any:
    """A file of JSON."""
    return read_json(path)
