"""Compares ways of making a model smaller: same teacher, same number of update steps, same distillation, several seeds.

    python tools/evidence.py run --data ../shared/data/digits --out runs/evidence --jobs 2
    python tools/evidence.py table --out runs/evidence --title "..." --data "..." --note "..."

`run` trains the teacher, launches `recipes/prune.py` and `compress evaluate` for every row, size and seed that has no
report yet, and can be started again at any time. `table` appends an entry to RESULTS.md, from the report.json and
transcripts.jsonl of those evaluations.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import jsonargparse
import numpy as np
import yaml
from add_result import RESULTS, append_entry, facts
from running import COMPRESS, LAUNCH, LAUNCH_TWO, REPOSITORY, counted, execute, paired, rate, read, remember, typed

from compress.evaluation.bootstrap import BootstrapConfig, rate_interval

STATE = "evidence.json"
FRESH = ("--fresh_weights", "true", "--recover.learning_rate", "3e-3", "--recover.warmup_steps", "50")
"""New weights want a higher learning rate: the best of 1e-3, 2e-3 and 3e-3 at 25 % (digits, dev set, one seed). That of
the other rows, in configs/demo/prune.yaml, was the best of 5e-4, 1e-3 and 2e-3 for magnitude as well as for ours."""
OURS = "ours"
SIZES = ("50%", "25%", "10%")


@dataclass(frozen=True)
class Row:
    """One way of making a model smaller.

    Attributes:
        name: short, for folders.
        title: what a reader sees.
        sizes: shares of the teacher's parameters.
        options: of recipes/prune.py.
        learned: whether there is a gate-learning phase; without one, its steps are added to the other phase's.
        launch: how the recipe is started.
        seeds: how many of the seeds.
    """

    name: str
    title: str
    sizes: tuple[str, ...]
    options: tuple[str, ...] = ()
    learned: bool = True
    launch: tuple[str, ...] = LAUNCH
    seeds: int | None = None


ROWS = (
    Row(OURS, "ours, module + fine gates", SIZES),
    Row("modules", "ours, module gates only", ("50%", "25%"), ("--gates.units", "[module]")),
    Row("magnitude", "magnitude, removed once", SIZES, ("--structure", "magnitude"), False),
    Row("proportional", "proportional, from scratch", SIZES, ("--structure", "proportional", *FRESH), False),
    Row("no-layers", "ours without layerwise distillation", ("25%",), ("--distill.layers", "0")),
    Row("two", "ours, two processes", ("50%",), ("--batch.seconds", "20"), launch=LAUNCH_TWO, seeds=1),
)  # fmt: skip


def run(
    *,
    data: str,
    out: str,
    train: str = "configs/demo/train.yaml",
    prune: str = "configs/demo/prune.yaml",
    teacher: str | None = None,
    teacher_steps: int = 1600,
    rows: list[str] | None = None,
    sizes: list[str] | None = None,
    seeds: int = 3,
    jobs: int = 1,
    threads: int = 1,
) -> None:
    """Makes every model and every report that is not there yet.

    Args:
        data: a folder with train, dev and test.
        out: folder for everything.
        train: config of the teacher.
        prune: config of the compression; baselines take its total number of steps.
        teacher: a model to compress; None trains one.
        teacher_steps: of its training.
        rows: names of rows; None takes all.
        sizes: shares of the parameters, such as 50%; None takes all.
        seeds: seeds 0 to this number, exclusive.
        jobs: how many runs at a time.
        threads: of each.
    """
    folder = Path(out)
    taken = teacher_steps if teacher is None else None
    remember(folder / STATE, command=typed(), prune=prune, teacher_steps=taken)
    if teacher is None:
        teacher = str(folder / "teacher" / "best")
        options = ("--max_steps", str(teacher_steps), "--data.source", data, "--output", str(folder / "teacher"))
        execute((*LAUNCH, "recipes/train.py", "--config", train, *options), folder / "teacher.log")
    settings = yaml.safe_load((REPOSITORY / prune).read_text())
    steps = settings["learn"]["steps"] + settings["recover"]["steps"]
    shared = ("--config", prune, "--teacher", teacher, "--data.source", data, "--threads", str(threads))
    wanted = [row for row in ROWS if rows is None or row.name in rows]
    with ThreadPoolExecutor(jobs) as pool:
        cells = [
            (row, size, seed)
            for seed in range(seeds)
            for size in sizes or SIZES
            for row in wanted
            if size in row.sizes and seed < (row.seeds or seeds)
        ]
        tasks = [pool.submit(_make, row, size, seed, folder, shared, steps) for row, size, seed in cells]
        for task in tasks:
            task.result()


def _make(row: Row, size: str, seed: int, folder: Path, shared: tuple[str, ...], steps: int) -> None:
    """One model and its report, unless they are there."""
    output = _place(folder, row.name, size, seed)
    if (output / "report" / "report.json").exists():
        return
    length = () if row.learned else ("--recover.steps", str(steps))
    own = ("--budget.params", size, "--seed", str(seed), "--output", str(output), *length, *row.options)
    execute((*row.launch, "recipes/prune.py", *shared, *own), output.with_suffix(".log"))
    teacher, data, threads = (shared[shared.index(name) + 1] for name in ("--teacher", "--data.source", "--threads"))
    report = ("--out", str(output / "report"), "--speed.repetitions", "1", "--speed.threads", threads)
    evaluate = ("evaluate", str(output / "final"), "--baseline", teacher, "--data", data, *report)
    execute((*COMPRESS, *evaluate), output.with_suffix(".log"))
    print(f"{row.name} {size} seed {seed}: WER {_read(output)['model']['wer']:.2%}", flush=True)


def _place(folder: Path, row: str, size: str, seed: int) -> Path:
    return folder.absolute() / f"{row}-{size.rstrip('%')}" / f"seed-{seed}"


def _read(output: Path) -> dict[str, Any]:
    return read(output / "report" / "report.json")


def table(*, out: str, title: str, data: str, note: str = "", results: str = str(RESULTS)) -> None:
    """Appends the comparison to RESULTS.md.

    Args:
        out: the folder that `run` filled.
        title: heading of the entry.
        data: the data set, splits, and what a reader must know about it.
        note: machine and remarks.
        results: the file to append to.
    """
    folder = Path(out)
    state = read(folder / STATE)
    cells = {(row.name, size): cell for row in ROWS for size in row.sizes if (cell := Cell.read(folder, row, size))}
    seeds = sorted({path.name.removeprefix("seed-") for path in folder.glob("*/seed-*") if path.is_dir()})
    data = f"{data}; seeds {', '.join(seeds)}"
    lines = [*facts(state["command"], data, note, commit=state["commit"]), *_table(cells), *_remarks()]
    append_entry(Path(results), title, lines)


@dataclass(frozen=True)
class Cell:
    """One way at one size: reports and errors per utterance of every seed.

    Attributes:
        reports: the report.json of each seed.
        errors: `(seeds, utterances)`.
        baseline: `(utterances,)`, of the teacher.
        words: `(utterances,)`, of the references.
    """

    reports: list[dict[str, Any]]
    errors: np.ndarray[Any, Any]
    baseline: np.ndarray[Any, Any]
    words: np.ndarray[Any, Any]

    @classmethod
    def read(cls, folder: Path, row: Row, size: str) -> Cell | None:
        """Reads what `run` left; None where nothing is there."""
        return cls.of(path.parent.parent for path in folder.glob(f"{row.name}-{size.rstrip('%')}/*/report/report.json"))

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Cell | None:
        """Reads the reports of some models, one for each seed; None where there is none."""
        outputs = sorted(folders)
        if not outputs:
            return None
        counts = [counted(path / "report") for path in outputs]
        baseline = counted(outputs[0] / "report", "baseline")
        errors = np.stack([one.errors for one in counts])
        return cls([_read(path) for path in outputs], errors, baseline.errors, baseline.words)

    @property
    def wer(self) -> float:
        """Mean over the seeds."""
        return float(self.errors.sum() / (len(self.errors) * self.words.sum()))

    def show(self) -> str:
        """WER in percent, mean over the seeds, interval over utterances, and every seed."""
        interval = rate_interval(self.errors.sum(0), len(self.errors) * self.words, BootstrapConfig())
        seeds = ", ".join(f"{100 * report['model']['wer']:.2f}" for report in self.reports)
        return f"{rate(self.wer, interval.to_list(), bold=True)}; {seeds}"

    def against(self, errors: np.ndarray[Any, Any]) -> str:
        """The paired difference of this cell's mean to other errors `(seeds, utterances)`, in points."""
        return paired(self.errors, errors, self.words)


def _table(cells: dict[tuple[str, str], Cell]) -> list[str]:
    some = next(iter(cells.values())).reports[0]["baseline"]
    head = ("row", "size", "WER %", "CER %", "parameters", "MACs", "minus teacher", "ours minus this")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    wer, parameters = rate(some["wer"], some["wer_ci95"], bold=True), some["parameters"]["total"]
    lines.append(f"| teacher | 100% | {wer} | {100 * some['cer']:.2f} | {parameters:,} | 100% | | |")
    titles = {row.name: row.title for row in ROWS}
    for (name, size), cell in sorted(cells.items(), key=lambda item: -int(item[0][1].rstrip("%"))):
        ours = cells.get((OURS, size))
        versus = ours.against(cell.errors) if ours and name != OURS else ""
        parameters = round(fmean(report["model"]["parameters"]["total"] for report in cell.reports))
        macs, cer = (fmean(values) for values in zip(*(_of(report) for report in cell.reports), strict=True))
        lines.append(
            f"| {titles[name]} | {size} | {cell.show()} | {100 * cer:.2f} | {parameters:,} | {macs:.0%} | "
            f"{cell.against(cell.baseline)} | {versus} |"
        )
    return lines


def _of(report: dict[str, Any]) -> tuple[float, float]:
    return report["ratio"]["macs"], report["model"]["cer"]


def _remarks() -> list[str]:
    return [
        "",
        "WER: **mean over the seeds** (95 % bootstrap interval over utterances, errors pooled over the seeds); the WER "
        "of each seed. Differences are paired, in points of WER: below 0 the first of the two is better.",
    ]


if __name__ == "__main__":
    jsonargparse.auto_cli([run, table], as_positional=False)
