"""What a person watches while a model trains: a bar on a terminal, lines in a log, and numbers for the trackers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from compress.files.writing import explained, write_text
from compress.reports.formats import percent, significant
from compress.training.loop import processes
from compress.training.loop.losses import TOTAL, Losses

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
TIME_FORMAT = "%H:%M:%S"
DEV, RATES = "dev/", ("wer", "cer")
LOSS, EXPECTED, TARGET = f"loss/{TOTAL}", "size/expected", "size/target"
CONSOLE = Console(stderr=True)
"""Where bars and log lines of a training run go; both through one console, so that they do not overwrite each other."""


def start_logging() -> None:
    """Sends log records to `CONSOLE`: everything of rank 0, warnings of the other ranks; no bars of transformers."""
    disable_progress_bar()
    handler = RichHandler(console=CONSOLE, show_path=False) if CONSOLE.is_terminal else logging.StreamHandler()
    plain = "%(message)s" if CONSOLE.is_terminal else LOG_FORMAT  # rich writes time and level itself
    handler.setFormatter(logging.Formatter(plain, TIME_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("compress").setLevel(logging.INFO if processes.rank() == 0 else logging.WARNING)


def followed(metrics: Mapping[str, float]) -> str:
    """The two or three numbers that a person follows: error rates, or the loss and the way to the budget."""
    if rates := {name.removeprefix(DEV): value for name, value in metrics.items() if name.startswith(DEV)}:
        return "  ".join(f"{name.upper() if name in RATES else name} {percent(rate)}" for name, rate in rates.items())
    shown = [f"loss {significant(metrics[LOSS])}"] if LOSS in metrics else []
    if {EXPECTED, TARGET} <= metrics.keys():
        shown.append(f"size {percent(metrics[EXPECTED])}, wanted {percent(metrics[TARGET])}")
    return "  ".join(shown)


class Progress:
    """Follows a run: averages its losses between two reports, and measures its speed.

    Every report goes to `metrics.jsonl` and to the trackers of the accelerator, and two or three of its numbers to the
    bar or the log. Its state is part of the checkpoints, so that times are those of the whole run, however often it was
    interrupted. In a run of several processes rank 0 reports, with the losses of all.

    Args:
        total_steps: steps of the whole run.
        description: a word or two beside the bar.
        directory: where `metrics.jsonl` goes; None writes none.
        accelerator: its trackers get every number; None if there are none.
        waited: seconds spent waiting for data so far in this process, e.g. `lambda: loader.wait_seconds`.
        log_every: steps between two reports.
        steps_before: steps of the phases before this one, so that trackers see steps that only grow.
    """

    of_rank = True

    def __init__(
        self,
        total_steps: int,
        *,
        description: str,
        directory: str | Path | None = None,
        accelerator: Accelerator | None = None,
        waited: Callable[[], float] = lambda: 0.0,
        log_every: int = 20,
        steps_before: int = 0,
    ) -> None:
        self.total_steps = total_steps
        self.description = description
        self.path = Path(directory) / METRICS_FILE if directory is not None else None
        self.accelerator = accelerator
        self.log_every = log_every
        self.steps_before = steps_before
        self.seconds = 0.0
        self.wait_seconds = 0.0
        self._first_step = 0
        self._own_seconds = 0.0
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}
        self._clock = _Clock(waited)
        self._has_reported = False
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    @property
    def wait_share(self) -> float:
        """Share of the time in steps (evaluation and checkpoints left out) that was spent waiting for data."""
        return self.wait_seconds / self.seconds if self.seconds else 0.0

    @contextmanager
    def running(self, start_step: int = 0) -> Iterator[Progress]:
        """Shows the bar while the loop runs.

        Args:
            start_step: steps behind us; what `metrics.jsonl` holds beyond it was not checkpointed and is dropped.
        """
        self._first_step = start_step
        if processes.rank() == 0:
            self._forget_after(start_step or -1)  # a run without a checkpoint starts anew
            if CONSOLE.is_terminal:
                self._open_bar(start_step)
        self._clock.start()
        try:
            yield self
        finally:
            self._clock.stop()
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Keeps what happens inside (an evaluation, a checkpoint) out of the step times."""
        self._take_time()
        self._clock.stop()
        try:
            yield
        finally:
            self._clock.start()

    def advance(
        self,
        step: int,
        losses: Losses | None,
        metrics: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Takes note of one step, and reports every `log_every` steps and at the end.

        Args:
            step: steps taken, this one included.
            losses: with their metrics they are averaged until the next report (no device is waited for in between);
                None of a step that was skipped.
            metrics: further numbers by name, asked for when they are about to be reported, e.g. the learning rate.
        """
        for name, value in losses.reported().items() if losses else ():
            self._sums[name] = self._sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
            self._counts[name] = self._counts.get(name, 0) + 1
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        if step % self.log_every == 0 or step == self.total_steps:
            self._take_time()
            self.report(step, {**self._averages(), **metrics(), "data/wait_share": self.wait_share})
            self._sums, self._counts = {}, {}
            self._clock.start()

    def _averages(self) -> dict[str, float]:
        """The losses since the last report, means over the steps that had them and over ranks. All ranks call it."""
        every = processes.gather({name: float(total) / self._counts[name] for name, total in self._sums.items()})
        return {name: sum(own[name] for own in every) / len(every) for name in every[0]}

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes numbers at once, e.g. those of an evaluation, to all places."""
        with explained(self.path or "the numbers of the trackers"):
            if self.accelerator is not None and self.accelerator.trackers:
                named = {f"{self.description}/{name}": value for name, value in metrics.items()}
                self.accelerator.log(named, step=self.steps_before + step)
            if processes.rank() == 0 and self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._forget_same(step, metrics)
                with self.path.open("a") as file:
                    file.write(json.dumps({"step": step, "seconds": round(self.seconds, 3), **metrics}) + "\n")
        if processes.rank() != 0:
            return
        text = followed(metrics)
        if self._bar is not None:
            self._bar.update(self._task, text=text)
        else:
            logger.info("%s %d/%d  %s  left %s", self.description, step, self.total_steps, text, self._time_left(step))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: the times so far, and the losses since the last report."""
        self._take_time()
        times = {"seconds": self.seconds, "wait_seconds": self.wait_seconds}
        return times | {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.seconds, self.wait_seconds = float(state["seconds"]), float(state["wait_seconds"])
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _take_time(self) -> None:
        """Adds the time since the clock was last read."""
        spent, waited = self._clock.read()
        self.seconds += spent
        self._own_seconds += spent
        self.wait_seconds += waited

    def _time_left(self, step: int) -> str:
        done = step - self._first_step
        if done <= 0:
            return "unknown"
        return str(timedelta(seconds=round((self.total_steps - step) * self._own_seconds / done)))

    def _open_bar(self, start_step: int) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=CONSOLE,
        )
        self._task = self._bar.add_task(self.description, total=self.total_steps, completed=start_step, text="")
        self._bar.start()

    def _forget_same(self, step: int, metrics: Mapping[str, float]) -> None:
        """Drops a row that says the same of the same step, as a run killed behind its last checkpoint leaves it."""
        if self._has_reported or self.path is None or not self.path.exists():
            self._has_reported = True
            return
        self._has_reported = True
        lines = self.path.read_text().splitlines()
        kept = [line for line in lines if _step_of(line) != step or not metrics.keys() <= json.loads(line).keys()]
        if len(kept) < len(lines):
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def _forget_after(self, step: int) -> None:
        if self.path is None or not self.path.exists():
            return
        lines = [line for line in self.path.read_text().splitlines() if _step_of(line) <= step]
        write_text(self.path, "".join(f"{line}\n" for line in lines))


class _Clock:
    """Measures the time that passes, and how much of it was spent waiting; it stands still until it is started.

    Args:
        waited: seconds spent waiting so far.
    """

    def __init__(self, waited: Callable[[], float]) -> None:
        self._waited = waited
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Begins to measure, from now on."""
        self._since = time.perf_counter(), self._waited()

    def stop(self) -> None:
        """Stands still until it is started again."""
        self._since = None

    def read(self) -> tuple[float, float]:
        """Seconds since the last reading or start, and those of them spent waiting; both 0 while it stands still."""
        if self._since is None:
            return 0.0, 0.0
        (before, waited_before), self._since = self._since, (time.perf_counter(), self._waited())
        now, waited = self._since
        return now - before, waited - waited_before


def _step_of(line: str) -> float:
    """The step of a line of `metrics.jsonl`; infinite for a torn line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
