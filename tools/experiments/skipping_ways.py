"""Measures what skipping costs beside the same model without it, by the way in which a model learns to skip.

    python -m tools.experiments.skipping_ways run --data data/digits --out runs/skipping-ways
    python -m tools.experiments.skipping_ways table --out runs/skipping-ways --title "..." --data "..." --note "..."

For every seed `run` trains a teacher and lets it learn to skip in each of `--ways`. Every model is then run on dev and
test without skipping and at every setting, and all of a seed take turns while they are timed on batches of test speech.
`table` appends an entry to RESULTS.md, and says which setting dev would have chosen. What is there already is not made
again. A small trial:

    python -m tools.experiments.skipping_ways run --data data/digits --out runs/skipping-ways-trial --seeds 1 \\
        --teacher_options="--max_steps 40 --optimizer.warmup_steps 5 --dev_limit 20" --steps 20 --utterances 20 \\
        --skip_options="--optimizer.warmup_steps 5 --dev_limit 20" --repetitions 1
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from compress.evaluation import SpeedConfig
from compress.files.writing import write_json
from tools.commands import main
from tools.experiments.comparing import PERCENT, difference, paired
from tools.experiments.experiment import Experiment, TableConfig, listed, read, run_recipe
from tools.experiments.sweep import OFF, Sweep
from tools.results import grid

NAME, SWEEP, SWEEP_ON_DEV, TEACHER = "skipping_ways", "sweep", "sweep-dev", "teacher"
ALLOWED = 0.01
"""By how much, relative to the model without skipping, the errors on dev may rise where a setting is chosen."""
WAYS = {
    "alternating": ("--skipping.simulated", "0.5", "--skipping.consistency", "0.0"),
    "both": ("--skipping.simulated", "1.0", "--skipping.consistency", "1.0"),
    "sparsely": ("--skipping.simulated", "1.0", "--skipping.consistency", "1.0", "--skipping.repeat_penalty", "2.0"),
    "closely": ("--skipping.simulated", "1.0", "--skipping.consistency", "16.0", "--skipping.distillation", "16.0"),
}
"""Every other batch skips; or every step runs both ways, and learns the output with skipping from that without; or the
same with penalised repeats of tokens; or with divergences, which are means over frames, at about the weight that CTC
has, which is a mean over utterances.
"""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained and measured.

    Attributes:
        data: A folder with train, dev and test, or `synthetic`.
        out: Folder for everything.
        teacher: Config of the teachers.
        teacher_options: More of its options.
        skip: Config of the training in which models learn to skip.
        skip_options: More of its options.
        ways: In which they learn to; see `WAYS`.
        first_blocks: Behind which they learn to.
        steps: Updates in which they do.
        seeds: Seeds 0 to this number, exclusive.
        thresholds: Of the blank's probability.
        extensions: Neighbours of a kept frame that are kept, too.
        batches: Utterances in a timed batch.
        utterances: Of dev and of test, each.
        repetitions: Of each timed pass.
        threads: Of each training, and of torch.
    """

    data: str
    out: str
    teacher: str = "configs/train/parakeet-words_digits.yaml"
    teacher_options: str = ""
    skip: str = "configs/train/parakeet-skipping_digits.yaml"
    skip_options: str = ""
    ways: tuple[str, ...] = ("alternating", "both")
    first_blocks: tuple[int, ...] = (4, 6, 8)
    steps: int = 400
    seeds: int = 3
    thresholds: tuple[float, ...] = (0.95, 0.99, 0.999)
    extensions: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 16)
    utterances: int = 600
    repetitions: int = 3
    threads: int = 1


def run(config: RunConfig) -> None:
    """Makes every model and measurement that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run")
    torch.set_num_threads(config.threads)
    for seed in range(config.seeds):
        _of_seed(experiment.folder, seed, config)


def _of_seed(folder: Path, seed: int, config: RunConfig) -> None:
    shared = ("--data.source", config.data, "--seed", str(seed), "--threads", str(config.threads))
    teacher = folder / TEACHER / f"seed-{seed}"
    run_recipe("train", teacher, "--config", config.teacher, *shared, *shlex.split(config.teacher_options))
    begun = ("--config", config.skip, "--model.checkpoint", str(teacher / "last"), "--max_steps", str(config.steps))
    places = ("--skipping.first_blocks", listed(config.first_blocks), *shlex.split(config.skip_options))
    for way in config.ways:
        run_recipe("train", folder / way / f"seed-{seed}", *begun, *places, *shared, *WAYS[way])
    models = {way: folder / way / f"seed-{seed}" / "last" for way in config.ways}
    speed = SpeedConfig(repetitions=config.repetitions, warmup=1, threads=config.threads)
    settings = [(threshold, extension) for extension, threshold in product(config.extensions, config.thresholds)]
    for swept, split, batches in ((SWEEP_ON_DEV, "dev", ()), (SWEEP, "test", config.batches)):
        if not (measured := folder / swept / f"seed-{seed}.json").exists():
            sweep = Sweep(config.data, str(teacher / "last"), models, config.utterances, speed, split)
            write_json(measured, sweep.rows(settings, batches))


def table(config: TableConfig) -> None:
    """Appends what was measured to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    files = sorted((experiment.folder / SWEEP).glob("seed-*.json"))
    seeds = [read(path) for path in files]
    on_dev = [read(path) for path in sorted((experiment.folder / SWEEP_ON_DEV).glob("seed-*.json"))]
    chosen = _chosen(on_dev) if len(on_dev) == len(seeds) else {}
    sizes = [name.removeprefix("rtf_") for name in seeds[0][0] if name.startswith("rtf_")]
    names = ["learned", "first blocks", "threshold", "extension", "WER %", "without skipping", "points more"]
    names += ["relative %", "skipped %", "MACs %", *(f"time %, batch {size}" for size in sizes), "chosen on dev"]
    rows = [
        [*_row([rows[number] for rows in seeds], without, sizes), "yes" if number in chosen.values() else ""]
        for number, without in _skipping(seeds)
    ]
    teachers = ", ".join(f"{PERCENT * rows[0]['wer']:.2f}" for rows in seeds)
    remark = (
        "Each row is held against the same models without skipping: paired differences in points of WER (95 % bootstrap"
        " interval over utterances), MACs, and times of forward passes on test speech. WER is the mean over the seeds. "
        f"The teachers err {teachers} %. Chosen on dev: of each way, the fewest MACs at which the errors on dev, of all"
        f" seeds together, rise by at most {ALLOWED:.0%}."
    )
    numbers = [path.stem.removeprefix("seed-") for path in files]
    experiment.enter(config, [*grid(names, rows), remark], numbers)


def _skipping(seeds: Sequence[Sequence[dict[str, Any]]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows that skip, by their number, each with those of the same models without skipping."""
    without: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(seeds[0]):
        if row.get("threshold") == OFF:
            without[row["model"]] = [rows[number] for rows in seeds]
        elif row["model"] in without:
            yield number, without[row["model"]]


def _chosen(seeds: Sequence[Sequence[dict[str, Any]]]) -> dict[str, int]:
    """Of every model, the number of the row with the fewest MACs whose errors rise by no more than is allowed."""
    best: dict[str, tuple[float, int]] = {}
    for number, without in _skipping(seeds):
        rows = [rows[number] for rows in seeds]
        errors, before = (sum(sum(row["errors"]) for row in of) for of in (rows, without))
        if errors <= (1 + ALLOWED) * before:
            found = fmean(row["macs_share"] for row in rows), number
            name = rows[0]["model"]
            best[name] = min(best.get(name, found), found)
    return {name: number for name, (_, number) in best.items()}


def _row(rows: Sequence[dict[str, Any]], without: Sequence[dict[str, Any]], sizes: Sequence[str]) -> list[str]:
    first = rows[0]
    mine, other = (np.array([row["errors"] for row in of]) for of in (rows, without))
    points, interval = paired(mine, other, np.array(first["words"]))
    wer, before = (fmean(row["wer"] for row in of) for of in (rows, without))
    shares = (fmean(row[name] for row in rows) for name in ("skipped", "macs_share"))
    times = (fmean(row[f"rtf_{size}"] for row in rows) / fmean(row[f"rtf_{size}"] for row in without) for size in sizes)
    return [
        first["model"], str(first["first_blocks"]), f"{first['threshold']:g}", str(first["extension"]),
        f"{PERCENT * wer:.2f}", f"{PERCENT * before:.2f}", difference(points, interval.to_list()),
        f"{PERCENT * points / before:+.1f}" if before else "",
        *(f"{PERCENT * share:.0f}" for share in (*shares, *times)),
    ]  # fmt: skip


if __name__ == "__main__":
    main(run, table)
