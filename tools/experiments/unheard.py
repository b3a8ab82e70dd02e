"""Compares what compression costs on speakers that training heard with what it costs on one that it did not.

    python -m tools.experiments.unheard run --data data/digits --out runs/unheard
    python -m tools.experiments.unheard table --out runs/unheard --title "..." --data "..." --note "..."

For every speaker `run` trains a teacher without that speaker's utterances in train and dev, makes it smaller with
`recipes/prune.py` on the same utterances, and evaluates each model beside its teacher on all speakers of test.
`table` appends an entry to RESULTS.md: each test utterance counts once as unheard, by the models that were made without
its speaker, and as heard by the mean of all others. What is there already is not made again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from tools.commands import main
from tools.experiments.comparing import PERCENT, counted, difference, paired, rate
from tools.experiments.experiment import BY_ADAMW, Experiment, TableConfig, evaluate, run_recipe
from tools.experiments.rivals import RATE, RATES
from tools.results import grid

NAME = "unheard"
TEACHER, HEARD, UNHEARD = "teacher", "heard", "unheard"
SPLITS, MEASURED = ("train", "dev"), "test"
METADATA, FILE, SPEAKER = "metadata.csv", "file_name", "speaker"
Numbers = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained.

    Attributes:
        data: A folder with train, dev and test, each with a metadata.csv that has a column `speaker`.
        out: Folder for everything.
        speakers: Who is left out, each in turn; null takes all of the test split.
        train: Config of the teachers.
        prune: Config of the compression.
        teacher_steps: Of every teacher.
        steps: Of every compression.
        sizes: Shares of the teacher.
        seed: Of every training.
        threads: Of each.
    """

    data: str
    out: str
    speakers: tuple[str, ...] | None = None
    train: str = "configs/demo/train.yaml"
    prune: str = "configs/demo/prune.yaml"
    teacher_steps: int = 1600
    steps: int = 500
    sizes: tuple[str, ...] = ("50%", "25%", "10%")
    seed: int = 0
    threads: int = 1


def run(config: RunConfig) -> None:
    """Makes every model and every report that is not there yet."""
    experiment, data = Experiment(config.out, NAME), Path(config.data).absolute()
    speakers = _speakers(data)
    experiment.note("run", sizes=config.sizes, speakers=speakers)
    for speaker in config.speakers or sorted(set(speakers.values())):
        without = experiment.folder / "data" / speaker
        _leave_out(speaker, data, without)
        place = experiment.folder / speaker
        shared = ("--data.source", str(without), "--threads", str(config.threads), "--seed", str(config.seed))
        length = ("--max_steps", str(config.teacher_steps), "--optimizer.warmup_steps", "100")
        run_recipe("train", place / TEACHER, "--config", config.train, *BY_ADAMW, *shared, *length)
        for size in config.sizes:
            _compress(config, place, size, shared)


def _compress(config: RunConfig, place: Path, size: str, shared: Sequence[str]) -> None:
    """The teacher of a folder at one size, and its report on all speakers."""
    output, teacher = place / size.rstrip("%"), str(place / TEACHER / "best")
    decided = ("--teacher", teacher, "--budget.params", size, "--structure", "obs")
    length = ("--recover.steps", str(config.steps), "--recover.learning_rate", RATES.get(size, RATE))
    run_recipe("prune", output, "--config", config.prune, *shared, *decided, *length)
    report = evaluate(output / "final", config.data, output / "report", "--baseline", teacher, "--by", SPEAKER)
    print(f"without {place.name}, {size}: WER {report['model']['wer']:.2%} over all speakers", flush=True)


def _speakers(data: Path) -> dict[str, str]:
    """The speaker of every utterance of the test split."""
    return {row[FILE]: row[SPEAKER] for row in _rows(data / MEASURED)}


def _rows(split: Path) -> Iterator[dict[str, str]]:
    with (split / METADATA).open(newline="") as file:
        yield from csv.DictReader(file)


def _leave_out(speaker: str, data: Path, target: Path) -> None:
    """A data set of the same recordings, without those of one speaker."""
    for split in SPLITS:
        folder, rows = target / split, [row for row in _rows(data / split) if row[SPEAKER] != speaker]
        folder.mkdir(parents=True, exist_ok=True)
        for name in {Path(row[FILE]).parts[0] for row in rows}:
            if not (folder / name).exists():
                (folder / name).symlink_to(data / split / name)
        with (folder / METADATA).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@dataclass(frozen=True)
class Models:
    """Models of one size, each made without one of the speakers.

    Attributes:
        errors: `(speakers, utterances)`.
        unheard: `(speakers, utterances)`, whether the speaker of an utterance was left out.
        words: `(utterances,)`, of the references.
    """

    errors: Numbers
    unheard: NDArray[np.bool_]
    words: Numbers

    def _of(self, hearing: str) -> NDArray[np.bool_]:
        """Which models count for which utterances, `(speakers, utterances)`."""
        return self.unheard if hearing == UNHEARD else ~self.unheard

    def mean(self, hearing: str) -> Numbers:
        """Errors of each utterance `(utterances,)`, the mean of the models that have heard its speaker, or have not."""
        counting = self._of(hearing)
        mean: Numbers = (self.errors * counting).sum(0) / counting.sum(0)
        return mean

    def show(self, hearing: str) -> str:
        """WER in percent with its interval."""
        counting = self._of(hearing)
        errors, words = (self.errors * counting).sum(0), self.words * counting.sum(0)
        return rate(float(errors.sum() / words.sum()), rate_interval(errors, words, BootstrapConfig()).to_list())

    def against(self, other: Models, hearing: str) -> str:
        """How many points more than other models."""
        return _apart(self.mean(hearing), other.mean(hearing), self.words)

    def of_speakers(self) -> list[str]:
        """WER in percent of each speaker by the model made without them."""
        return [
            f"{PERCENT * row[without].sum() / self.words[without].sum():.2f}"
            for row, without in zip(self.errors, self.unheard, strict=True)
        ]


def _apart(mine: Numbers, other: Numbers, words: Numbers) -> str:
    value, interval = paired(mine, other, words)
    return difference(value, interval.to_list())


def table(config: TableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    settings = experiment.settings
    models, speakers = _models(experiment.folder, settings["sizes"], settings["speakers"])
    experiment.enter(config, [*_costs(models), *_by_speaker(speakers, models), *_remarks()])


def _models(folder: Path, sizes: Sequence[str], speakers: Mapping[str, str]) -> tuple[dict[str, Models], list[str]]:
    """The teachers and the models of each size, the largest first, and who was left out: others do not count."""
    left_out = [name for name in sorted(set(speakers.values())) if (folder / name).is_dir()]
    unheard = np.array([[speakers[name] == speaker for name in sorted(speakers)] for speaker in left_out])
    counting = unheard.any(0)

    def models(size: str, role: str) -> Models:
        reports = (folder / speaker / size.rstrip("%") / "report" for speaker in left_out)
        counts = [counted(report, role) for report in reports]
        errors = np.stack([count.errors for count in counts])
        return Models(errors[:, counting], unheard[:, counting], counts[0].words[counting])

    return {TEACHER: models(sizes[0], "baseline")} | {size: models(size, "model") for size in sizes}, left_out


def _costs(models: Mapping[str, Models]) -> list[str]:
    names = ("size", "heard: WER %", "minus teacher", "unheard: WER %", "minus teacher", "unheard costs more by")
    teachers = models[TEACHER]
    rows = [[TEACHER, teachers.show(HEARD), "", teachers.show(UNHEARD), "", ""]]
    for size in [name for name in models if name != TEACHER]:
        mine = models[size]
        cells = [cell for way in (HEARD, UNHEARD) for cell in (mine.show(way), mine.against(teachers, way))]
        more, less = (mine.mean(way) - teachers.mean(way) for way in (UNHEARD, HEARD))
        rows.append([size, *cells, _apart(more, less, mine.words)])
    return grid(names, rows)


def _by_speaker(speakers: Sequence[str], models: Mapping[str, Models]) -> list[str]:
    rows = [[name, *models[name].of_speakers()] for name in models]
    return grid(("unheard: WER %", *speakers), rows)


def _remarks() -> list[str]:
    return [
        "Unheard: each test utterance by the model that was made without its speaker; heard: mean of all other models. "
        "Intervals are 95 % bootstrap intervals over utterances, differences are paired, in points of WER. The last "
        "column is what compression costs on unheard speakers minus what it costs on heard ones."
    ]


if __name__ == "__main__":
    main(run, table)
