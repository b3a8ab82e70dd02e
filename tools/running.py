"""What the tools share that start recipes and verbs, one after another, and make tables of what these leave."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from add_result import head_commit
from numpy.typing import NDArray

from compress.evaluation.bootstrap import BootstrapConfig, paired_interval
from compress.evaluation.errors import ErrorCounts, count_errors
from compress.files.writing import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--cpu")
LAUNCH = (*ACCELERATE, "--num_processes", "1", "--num_machines", "1")
LAUNCH_TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
COMPRESS = (sys.executable, "-m", "compress")
PERCENT = 100


def execute(command: Sequence[str], log: Path, *, stop: bool = True) -> None:
    """Runs a command in the repository, with this checkout's package; what it says is appended to a log.

    Raises:
        SystemExit: if it fails, and `stop` does not say that the log will do.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with log.open("a") as file:
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=file, check=False)
    if done.returncode and stop:
        raise SystemExit(f"{' '.join(command)} failed; {log} says why.")


def train(config: str, data: str, output: Path, *options: str) -> None:
    """Runs recipes/train.py on one process, unless that has been done."""
    if not (output / "done.json").exists():
        given = ("--config", config, "--data.source", data, "--output", str(output), *options)
        execute((*LAUNCH, "recipes/train.py", *given), output.with_name(f"{output.name}.log"))


def evaluate(model: str | Path, data: str, report: Path, *options: str) -> dict[str, Any]:
    """The report of `compress evaluate`, made unless it is there; a baseline, the split and more are options."""
    if not (report / "report.json").exists():
        given = ("--data", data, "--out", str(report), "--speed.repetitions", "1", *options)
        execute((*COMPRESS, "evaluate", str(model), *given), report.with_name(f"{report.name}.log"))
    found: dict[str, Any] = read(report / "report.json")
    return found


def search(model: str | Path, data: str, out: Path, *options: str) -> dict[str, Any]:
    """What `compress search` finds, searched for unless it has been."""
    if not (out / "search.json").exists():
        given = ("--data", data, "--out", str(out), *options)
        execute((*COMPRESS, "search", str(model), *given), out.with_name(f"{out.name}.log"))
    found: dict[str, Any] = read(out / "search.json")
    return found


def typed() -> str:
    """The command that runs at present, as a reader of RESULTS.md would type it."""
    words = (os.path.relpath(word, REPOSITORY) if os.path.isabs(word) else word for word in sys.argv)
    return shlex.join(["python", *words])


def remember(state: Path, **more: Any) -> None:
    """Adds to what a folder of evidence says of how it was made: the commit, and what else is given."""
    write_json(state, {**recall(state), "commit": head_commit(), **more})


def recall(state: Path) -> dict[str, Any]:
    """What `remember` noted; nothing where it never ran."""
    found: dict[str, Any] = read(state) if state.exists() else {}
    return found


def read(path: Path) -> Any:
    """A file of JSON."""
    return json.loads(path.read_text())


def rate(value: float, interval: Sequence[float], *, bold: bool = False) -> str:
    """A word error rate in percent with its 95 % interval."""
    low, high = (PERCENT * end for end in interval)
    shown = f"{PERCENT * value:.2f}"
    return f"{f'**{shown}**' if bold else shown} ({low:.2f} to {high:.2f})"


def difference(value: float, interval: Sequence[float]) -> str:
    """A difference of word error rates in points with its 95 % interval."""
    low, high = (PERCENT * end for end in interval)
    return f"{PERCENT * value:+.2f} ({low:+.2f} to {high:+.2f})"


def counted(report: Path, role: str = "model") -> ErrorCounts:
    """Errors and words of every utterance, in the order of their ids, from what `compress evaluate` left."""
    lines = sorted(map(json.loads, (report / "transcripts.jsonl").read_text().splitlines()), key=itemgetter("id"))
    return count_errors([line["reference"] for line in lines], [line[role] for line in lines])


def paired(mine: NDArray[Any], other: NDArray[Any], words: NDArray[Any]) -> str:
    """The difference of two pooled error rates in points, with its interval over the same utterances.

    Args:
        mine: errors, `(utterances,)`, or `(seeds, utterances)`, of which the mean counts.
        other: the same of what is compared with.
        words: `(utterances,)`.
    """
    means = np.atleast_2d(mine).mean(0), np.atleast_2d(other).mean(0)
    interval = paired_interval(*means, words, BootstrapConfig())
    return difference(float((means[0] - means[1]).sum() / words.sum()), interval.to_list())


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown; nothing where there are no rows."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""] if rows else []
