"""Measures skipping: word error rate against real-time factor as the threshold sweeps, and speed at realistic sizes.

    python -m tools.experiments.skipping run --data data/digits --teacher runs/teacher/best --out runs/skip
    python -m tools.experiments.skipping speed --out runs/skip --hidden_size 512 --blocks 17
    python -m tools.experiments.skipping table --out runs/skip --title "..." --data "..." --note "..."

`run` fine-tunes a teacher so that it can skip behind a third, half and two thirds of its blocks (`skips`), prunes that
to a budget while it learns on (`pruned`), chooses settings on the dev split (`compress skip`), and then sweeps the
threshold for both on the test split, behind every trained block, at batches of 1 and 16, the teacher beside them: all
models take turns in one process. `speed` times new models of realistic dimensions from which a given share of frames is
kept; their words mean nothing. `table` appends an entry to RESULTS.md. What is there already is not made again. A small
trial:

    python -m tools.experiments.skipping run --data data/digits --teacher runs/teacher/best \\
        --out runs/skip-trial --train_steps 60 --learn_steps 20 --recover_steps 20 --utterances 40 --repetitions 1
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.checkpoint import load_model
from compress.conformers import blocks_of
from compress.evaluation import SpeedConfig
from compress.files.writing import write_json
from compress.training.new_models import ModelConfig, build_model
from tools.commands import main
from tools.experiments.comparing import PERCENT
from tools.experiments.experiment import Experiment, TableConfig, listed, read, run_recipe, run_verb
from tools.experiments.sweep import OFF, Sweep, new_models, speed_rows
from tools.results import grid

NAME, SWEEP, SPEED = "skipping", "sweep.json", "speed.json"
NEW_MODEL = {"num_attention_heads": 8, "subsampling_factor": 8, "subsampling_conv_channels": 256}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained and measured.

    Attributes:
        data: A folder with train, dev and test.
        teacher: A trained CTC model that does not skip.
        out: Folder for everything.
        train: Config of the fine-tuning.
        train_steps: Of the fine-tuning; null: the epochs of the config.
        train_options: More of its options, e.g. "--batch.seconds 40".
        prune: Config of the pruning.
        params: Its budget.
        learn_steps: Of its first phase; null: as in the config.
        recover_steps: Of its recovery; null: as in the config.
        prune_options: More of its options, e.g. "--learn.learning_rate 7e-4".
        factorised: Whether the CTC heads are.
        thresholds: Of the sweep.
        extensions: Of the sweep.
        skip_options: Of `compress skip`, e.g. "--extensions [1]".
        batches: Utterances in a timed batch.
        utterances: Of the test split.
        repetitions: Of each timed pass.
        threads: Of torch.
    """

    data: str
    teacher: str
    out: str
    train: str = "configs/train/parakeet-skipping_digits.yaml"
    train_steps: int | None = None
    train_options: str = ""
    prune: str = "configs/prune/parakeet-small_digits.yaml"
    params: str = "50%"
    learn_steps: int | None = None
    recover_steps: int | None = None
    prune_options: str = ""
    factorised: bool = False
    thresholds: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
    extensions: tuple[int, ...] = (1,)
    skip_options: str = "--max_wer_increase 0.1"
    batches: tuple[int, ...] = (1, 16)
    utterances: int = 400
    repetitions: int = 3
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class NewModelConfig:
    """A new model, half of whose blocks run on a given share of the frames.

    Attributes:
        out: Folder for everything.
        family: Of the model.
        hidden_size: Its width; the FFNs have four times as many units.
        blocks: How many it has.
        vocabulary: Tokens.
        shares: Of the frames that are kept.
        batches: Utterances in a batch.
        seconds: Length of each utterance.
        repetitions: Of each timed pass.
        threads: Of torch.
    """

    out: str
    family: str = "parakeet"
    hidden_size: int = 512
    blocks: int = 17
    vocabulary: int = 1025
    shares: tuple[float, ...] = (0.3, 0.5)
    batches: tuple[int, ...] = (1, 16)
    seconds: float = 10.0
    repetitions: int = 5
    threads: int = 1


def run(config: RunConfig) -> None:
    """Makes every model and measurement that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run")
    folder = experiment.folder
    models = {"skips": folder / "skips" / "last", "pruned": folder / "pruned" / "final"}
    _fine_tune(folder / "skips", config)
    _prune(folder / "pruned", models["skips"], config)
    for name, model in models.items():
        choice = ("--data", config.data, "--data.split", "dev", "--baseline", config.teacher)
        # Where no setting holds on dev, the log says so.
        run_verb("skip", folder / f"{name}-chosen", str(model), *choice, *shlex.split(config.skip_options), stop=False)
    if not (folder / SWEEP).exists():
        speed = SpeedConfig(repetitions=config.repetitions, warmup=1, threads=config.threads)
        torch.set_num_threads(config.threads)
        sweep = Sweep(config.data, config.teacher, models, config.utterances, speed)
        settings = [(threshold, ext) for ext, threshold in itertools.product(config.extensions, config.thresholds)]
        write_json(folder / SWEEP, sweep.rows(settings, config.batches))


def _fine_tune(output: Path, config: RunConfig) -> None:
    """The teacher, taught to skip behind a third, half and two thirds of its blocks."""
    blocks = len(blocks_of(load_model(config.teacher)))
    places = sorted({max(1, blocks // 3), blocks // 2, 2 * blocks // 3})
    heads = ("--skipping.first_blocks", listed(places), "--skipping.factorised", str(config.factorised).lower())
    warmup = ("--optimizer.warmup_steps", "10") if config.train_steps is not None else ()
    length = _given({"--max_steps": config.train_steps})
    shared = ("--config", config.train, "--model.checkpoint", config.teacher, *_common(config))
    run_recipe("train", output, *shared, *heads, *length, *warmup, *shlex.split(config.train_options))


def _prune(output: Path, teacher: Path, config: RunConfig) -> None:
    """What skips, pruned to a budget while it learns on."""
    gates = ("--structure", "learned", "--budget.params", config.params)
    shared = ("--config", config.prune, "--teacher", str(teacher), *gates, *_common(config))
    length = _given({"--learn.steps": config.learn_steps, "--recover.steps": config.recover_steps})
    run_recipe("prune", output, *shared, *length, *shlex.split(config.prune_options))


def _common(config: RunConfig) -> tuple[str, ...]:
    return ("--data.source", config.data, "--threads", str(config.threads))


def _given(options: dict[str, int | None]) -> list[str]:
    return [word for name, value in options.items() if value is not None for word in (name, str(value))]


def speed(config: NewModelConfig) -> None:
    """Times a new model."""
    experiment = Experiment(config.out, NAME)
    experiment.note("speed")
    width = {"hidden_size": config.hidden_size, "intermediate_size": 4 * config.hidden_size}
    settings = {**width, "num_hidden_layers": config.blocks, **NEW_MODEL}
    described = ModelConfig(family=config.family, settings=settings)
    plain = build_model(described, vocabulary_size=config.vocabulary, blank=config.vocabulary - 1).eval()
    first, rows = config.blocks // 2, []
    models = new_models(plain, first)
    for size in config.batches:
        timing = SpeedConfig(config.seconds, size, 1, config.repetitions, config.threads)
        rows += speed_rows(plain, models, config.shares, timing)
    about = {"hidden_size": config.hidden_size, "blocks": config.blocks, "first_blocks": first}
    write_json(experiment.folder / SPEED, {**about, "rows": rows})


def table(config: TableConfig) -> None:
    """Appends what was measured to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    lines = []
    for name, tables in ((SWEEP, _sweep_lines), (SPEED, _speed_lines)):
        if (experiment.folder / name).exists():
            lines += tables(read(experiment.folder / name))
    trained = experiment.folder / "skips" / "config.json"
    experiment.enter(config, lines, [read(trained)["seed"]] if trained.exists() else ())


def _sweep_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    sizes = [name.removeprefix("rtf_") for name in rows[0] if name.startswith("rtf_")]
    names = ["model", "parameters", "first blocks", "threshold", "extension", "WER %", "skipped %", "MACs %"]
    names += [f"RTF, batch {size}" for size in sizes] + [f"of the teacher's time %, batch {size}" for size in sizes]
    remark = "MACs are those of the same model without skipping, times are of forward passes on test speech."
    return [*grid(names, [_sweep_row(row, rows[0], sizes) for row in rows]), remark]


def _sweep_row(row: dict[str, Any], teacher: dict[str, Any], sizes: Sequence[str]) -> list[str]:
    skips = row.get("threshold", OFF) < OFF
    where = [str(row[name]) if skips else "" for name in ("first_blocks", "threshold", "extension")]
    cells = [row["model"], f"{row['parameters']:,}", *where, f"{PERCENT * row['wer']:.2f}"]
    cells += [f"{PERCENT * row[name]:.1f}" for name in ("skipped", "macs_share")]
    cells += [f"{row[f'rtf_{size}']:.4f}" for size in sizes]
    return cells + [f"{PERCENT * row[f'rtf_{size}'] / teacher[f'rtf_{size}']:.1f}" for size in sizes]


def _speed_lines(measured: dict[str, Any]) -> list[str]:
    about = (
        f"A new Parakeet of {measured['blocks']} blocks, hidden {measured['hidden_size']}; the first "
        f"{measured['first_blocks']} blocks always run:"
    )
    rows = [
        [str(row["batch"]), "factorised" if row["factorised"] else "plain", f"{PERCENT * row['skipped']:.0f}",
         f"{row['predicted']:.2f}", f"{row['measured']:.2f}"]
        for row in measured["rows"]
    ]  # fmt: skip
    return ["", about, "", *grid(("batch", "CTC head", "skipped %", "speed-up by MACs", "measured"), rows)]


if __name__ == "__main__":
    main(run, speed, table)
