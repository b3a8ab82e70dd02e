"""Everything in one command: train a teacher, compress it to half its size, measure what that cost.

Nothing here trains or prunes. The demo launches the recipes a user launches, with the configs a user can read
(`configs/demo/`), and then `compress evaluate`. What it adds is the order, the folders, and the time that is left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from compress.config import to_dict
from compress.data.formats.metadata import FILE_COLUMN
from compress.data.formats.recognise import METADATA_NAMES, TABLE_SUFFIXES, recognise
from compress.data.formats.splits import splits_of
from compress.deciding.budget import BudgetConfig
from compress.files import shipped
from compress.files.reading import ReadError, read_object
from compress.files.writing import require_writable, write_json
from compress.reports import formats
from compress.training.loop.ending import DONE_FILE

STATE_FILE = "demo.json"
EVALUATION_FILE = "evaluate.yaml"
SHOWN_FILES = ("report.html", "report.json")
TEACHER, STUDENT = "teacher", "student"
TEACHER_MODEL, STUDENT_MODEL = "best", "final"
TEST_SPLIT = "test"
FOLDERS = ("train", "dev", TEST_SPLIT)

# What each stage takes with the committed configs on two cores that do not multiply bf16 in hardware; once a stage has
# ended, only their proportions matter.
TYPICAL_SECONDS = {"train": 172.0, "prune": 110.0, "evaluate": 22.0}
# However long an interrupted stage has taken already, this share of its typical time is still ahead.
LEAST_SHARE_LEFT = 0.1
MINUTE_SECONDS = 60
STOP_SECONDS = 10.0


class StageFailedError(ValueError):
    """A stage of the demo ended with an error, which its own output explains."""


@dataclass(frozen=True)
class DemoConfig:
    """What the demo works on.

    Attributes:
        data: Folder of your own speech with `train`, `dev` and `test` in it; None speaks a synthetic corpus.
        out: Folder for everything the demo makes; run again with the same one, the demo continues there.
        budget: Share of the teacher's parameters that the compressed model may keep, or a number such as 2M.
        train: Config of the teacher's training, a name of `compress ls` or a file.
        prune: Config of the compression, likewise.
    """

    data: str | None = None
    out: str = "demo"
    budget: str = "50%"
    train: str = "configs/demo/train.yaml"
    prune: str = "configs/demo/prune.yaml"

    def __post_init__(self) -> None:
        """Refuses a folder of speech that does not exist or lacks a split, and a budget that is none."""
        BudgetConfig(params=self.budget)
        if self.data is not None:
            _check_splits(Path(self.data))


@dataclass(frozen=True)
class Stage:
    """One program of the demo.

    Attributes:
        name: A key of `TYPICAL_SECONDS`.
        title: What a person reads.
        command: The program and its arguments.
        results: Files that exist once the stage is complete.
        writes: Files and folders that hold everything it writes.
    """

    name: str
    title: str
    command: tuple[str, ...]
    results: tuple[Path, ...]
    writes: tuple[Path, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the stage has ended and left everything it should."""
        return all(path.exists() for path in self.results)


class Clock:
    """Remembers how long each stage took, over interruptions, and estimates the time that is left."""

    def __init__(self, seconds: dict[str, float]) -> None:
        """Starts from what is known.

        Args:
            seconds: Time spent in each stage so far, by its name.
        """
        self.seconds = seconds

    def left(self, stages: Sequence[Stage]) -> float:
        """Estimates the seconds until all stages are complete, from the pace of those that are.

        Args:
            stages: All stages of the demo.
        """
        done = [stage.name for stage in stages if stage.complete and stage.name in self.seconds]
        typical = sum(TYPICAL_SECONDS[name] for name in done)
        pace = sum(self.seconds[name] for name in done) / typical if typical else 1.0
        return sum(self._stage_left(stage.name, pace) for stage in stages if not stage.complete)

    def _stage_left(self, name: str, pace: float) -> float:
        expected = TYPICAL_SECONDS[name] * pace
        return max(expected - self.seconds.get(name, 0.0), expected * LEAST_SHARE_LEFT)


def run_demo(config: DemoConfig, *, console: Console | None = None) -> Path:
    """Runs every stage of the demo that is not complete yet.

    Args:
        config: What to work on, and where.
        console: Where the headings go; stderr when None.

    Returns:
        The report, `<out>/report.html`; `<out>/report.json` lies beside it.

    Raises:
        ValueError: If the folder holds a demo with other settings, or whose configs were edited since.
        StageFailedError: If a stage fails; the same call continues where it stopped.
    """
    console = console or Console(stderr=True)
    out = Path(config.out)
    require_writable(out)
    identity = _identity(config)
    clock = Clock(_times(out, identity))
    stages = _stages(config)
    for number, stage in enumerate(stages, start=1):
        heading = f"[{number}/{len(stages)}] {stage.title}"
        if stage.complete:
            console.print(f"{heading}: done before", style="dim", markup=False, highlight=False)
            continue
        console.print(f"{heading} (all that is left: {_minutes(clock.left(stages))})", style="bold", markup=False)
        if stage.name == "evaluate":
            _write_evaluation(config)
        _forget(stages[number:], clock)
        _run_stage(stage, clock, lambda: write_json(out / STATE_FILE, {**identity, "seconds": clock.seconds}))
    console.print(_summary(out, sum(clock.seconds.values())), style="bold", markup=False, highlight=False)
    return out / SHOWN_FILES[0]


def _check_splits(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"data is '{folder}', which is not a folder: give one that holds {', '.join(FOLDERS)}")
    missing = [split for split in FOLDERS if not _has_split(folder, split)]
    if missing:
        raise ValueError(
            f"data is '{folder}', in which {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: "
            f"the demo trains, chooses and tests on three folders ({', '.join(FOLDERS)}), each with "
            f"{' or '.join(METADATA_NAMES)} (columns {FILE_COLUMN} and transcription), or on table files of these names"
        )


def _has_split(folder: Path, split: str) -> bool:
    """Says whether the split is there by itself; `open_speech` alone would read a folder without splits for each."""
    try:
        found = recognise(folder, split)
    except ValueError:
        return False
    if found is not None and not found.whole:
        return True
    tables = [file for suffix in TABLE_SUFFIXES for file in folder.rglob(f"*{suffix}")]
    return split in splits_of(tables, folder)


def _stages(config: DemoConfig) -> list[Stage]:
    out = Path(config.out)
    teacher, student = out / TEACHER, out / STUDENT
    data = ("--data.source", config.data) if config.data is not None else ()
    train = _launch("train", config.train, "--output", str(teacher), *data)
    chosen = ("--teacher", str(teacher / TEACHER_MODEL), "--budget.params", config.budget)
    prune = _launch("prune", config.prune, "--output", str(student), *chosen, *data)
    evaluate = (sys.executable, "-m", "compress", "evaluate", "--config", str(out / EVALUATION_FILE))
    reports = tuple(out / name for name in SHOWN_FILES)
    return [
        Stage("train", "Train a teacher", train, _results(teacher, TEACHER_MODEL), (teacher,)),
        Stage("prune", f"Compress it to {config.budget}", prune, _results(student, STUDENT_MODEL), (student,)),
        Stage("evaluate", "Compare the two on the test set", evaluate, reports, reports),
    ]


def _launch(recipe: str, config: str, *overrides: str) -> tuple[str, ...]:
    """Returns the command `accelerate launch recipes/NAME.py --config CONFIG ...`, accelerate's defaults spelt out."""
    launcher = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
    silent = ("--quiet", "--mixed_precision", "no", "--dynamo_backend", "no")
    return (
        sys.executable,
        *launcher,
        *silent,
        str(shipped.find(f"recipes/{recipe}.py").path),
        "--config",
        str(_config_file(config)),
        *overrides,
    )


def _config_file(config: str) -> Path:
    return Path(config) if Path(config).is_file() else shipped.find(config).path


def _results(folder: Path, model: str) -> tuple[Path, ...]:
    return folder / model / "config.json", folder / DONE_FILE


def _forget(stages: Sequence[Stage], clock: Clock) -> None:
    """Deletes what these stages have written: it was made from results that are about to be made anew."""
    for stage in stages:
        if stage.name not in clock.seconds:
            continue  # It never ran: whatever bears these names is not the demo's to delete.
        for path in stage.writes:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        del clock.seconds[stage.name]


def _run_stage(stage: Stage, clock: Clock, save: Callable[[], None]) -> None:
    """Runs a stage on this terminal and takes its time, also when it is interrupted."""
    before = clock.seconds.setdefault(stage.name, 0.0)
    save()
    began = time.monotonic()
    try:
        code = _execute(stage.command, _environment())
    finally:
        clock.seconds[stage.name] = before + time.monotonic() - began
        save()
    if code != 0 or not stage.complete:
        raise StageFailedError(
            f"'{stage.title}' ended with exit code {code}; what it printed above says why. "
            "The same command continues from where it stopped."
        )


def _execute(command: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a program on this terminal; nothing that it started outlives an interruption of this process.

    The program gets a process group of its own, since a launcher does not pass signals on to what it launched.
    """
    with _termination_interrupts():
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            return process.wait()
        except BaseException:
            _stop(process)
            raise


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does; what is ignored (by `nohup`) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may handle signals.
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    caught = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in caught:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group; checkpoints are complete or absent whenever that happens."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """Returns the environment of a stage, in which it finds this very package even where that is not installed."""
    environment = dict(os.environ)
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    return environment


def _write_evaluation(config: DemoConfig) -> None:
    """Writes the config of the last stage: both models on the test split of the speech they were trained on."""
    out = Path(config.out)
    trained = read_object(out / TEACHER / "config.json", {"data": dict})
    evaluation = {
        "model": str(out / STUDENT / STUDENT_MODEL),
        "baseline": str(out / TEACHER / TEACHER_MODEL),
        "data": {**trained["data"], "split": TEST_SPLIT, "limit": None},
        "out": str(out),
    }
    (out / EVALUATION_FILE).write_text(yaml.safe_dump(evaluation, sort_keys=False), encoding="utf-8")


def _identity(config: DemoConfig) -> dict[str, Any]:
    """Says what makes a demo this demo: its settings and the text of its configs, as `demo.json` holds them."""
    settings = {key: value for key, value in to_dict(config).items() if key != "out"}
    files = (_config_file(config.train), _config_file(config.prune))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return {"settings": settings, "configs": dict(zip((config.train, config.prune), digests, strict=True))}


def _times(out: Path, identity: dict[str, Any]) -> dict[str, float]:
    """Reads the seconds that each stage took in an earlier run in the same folder.

    Raises:
        ValueError: If that run had other settings, or a config was edited since.
    """
    file = out / STATE_FILE
    if not file.exists() or not any((out / name).exists() for name in (TEACHER, STUDENT, *SHOWN_FILES)):
        return {}  # a stage that was refused at once leaves nothing that would bind
    remedy = "give another folder with --out, or delete that one"
    try:
        state = read_object(file, {"settings": dict, "configs": dict, "seconds": dict})
    except ReadError as error:
        raise ReadError(f"{error} It says what the demo there is made of: {remedy}.") from error
    if state["settings"] != identity["settings"]:
        raise ValueError(
            f"{out} holds a demo with other settings ({state['settings']}, not {identity['settings']}): {remedy}"
        )
    known = state.get("configs", {})
    edited = [name for name, digest in identity["configs"].items() if known.get(name) != digest]
    if edited:
        raise ValueError(f"{out} holds a demo from before {' and '.join(edited)} changed: {remedy}")
    return dict(state["seconds"])


def _summary(out: Path, seconds: float) -> str:
    """Says what the demo found, in two lines: error rates and sizes; the time of all stages and where the report is."""
    report = read_object(out / SHOWN_FILES[1], {"model": dict, "baseline": dict})
    teacher, compressed = (_model_summary(report[role]) for role in ("baseline", "model"))
    time_taken = formats.duration(seconds)
    return f"Teacher {teacher}; compressed {compressed}\n{time_taken} in all; the report: {out / SHOWN_FILES[0]}"


def _model_summary(entry: dict[str, Any]) -> str:
    parameters, size = formats.count(entry["parameters"]["total"]), formats.size(entry["bytes"])
    return f"WER {formats.percent(entry['wer'], 2)}, {parameters} parameters, {size}"


def _minutes(seconds: float) -> str:
    return f"about {seconds / MINUTE_SECONDS:.0f} min" if seconds >= MINUTE_SECONDS else "less than a minute"
