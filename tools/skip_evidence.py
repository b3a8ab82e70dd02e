"""Measures skipping: word error rate against real-time factor as the threshold sweeps, and speed at realistic sizes.

    python tools/skip_evidence.py run --data ../shared/data/digits --teacher runs/teacher/best --out runs/skip
    python tools/skip_evidence.py speed --out runs/skip --hidden_size 512 --blocks 17
    python tools/skip_evidence.py table --out runs/skip --title "..." --data "..." --note "..."

`run` fine-tunes a teacher so that it can skip behind a third, half and two thirds of its blocks (`skips`), prunes that
to a budget while it learns on (`pruned`), chooses settings on the dev split (`compress skip`), and then sweeps the
threshold for both on the test split, behind every trained block, at batches of 1 and 16, the teacher beside them: all
models take turns in one process. `speed` times new models of realistic dimensions from which a given share of frames is
kept; their words mean nothing. `table` appends an entry to RESULTS.md. What is there already is not made again. A small
trial, about five minutes on two cores:

    python tools/skip_evidence.py run --data ../shared/data/digits --teacher runs/teacher/best \
        --out runs/skip-trial --train_steps 60 --learn_steps 20 --recover_steps 20 --utterances 40 --repetitions 1
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from add_result import RESULTS, append_entry, facts
from running import COMPRESS, LAUNCH, execute, read, recall, remember, typed
from transformers import PreTrainedModel

from compress.checkpoint import load_model, load_processor
from compress.conformers import blocks_of
from compress.cost import dummy_input
from compress.data import Batch, BatchConfig, SpeechConfig, SpeechLoader, open_speech
from compress.evaluation import SpeedConfig, error_rates, transcribe
from compress.evaluation.skipping import FrameCounter, speech_batches
from compress.evaluation.speed import measure
from compress.evaluation.transcribe import batching_for
from compress.evaluation.usage import Frames, SkippingMacs, skipped_share
from compress.files.writing import write_json
from compress.model.skipping import able_to_skip
from compress.running.skipper import required_skipper, skipper_of
from compress.running.skipping import Skipping
from compress.training.new_models import ModelConfig, build_model

STATE, SWEEP, SPEED = "skip-evidence.json", "sweep.json", "speed.json"
RATE = 16000
OFF = 1.0


def run(
    *,
    data: str,
    teacher: str,
    out: str,
    train: str = "configs/train/parakeet-skipping_digits.yaml",
    train_steps: int | None = None,
    train_options: str = "",
    prune: str = "configs/prune/parakeet-small_digits.yaml",
    params: str = "50%",
    learn_steps: int | None = None,
    recover_steps: int | None = None,
    prune_options: str = "",
    factorised: bool = False,
    thresholds: str = "0.8,0.9,0.95,0.98,0.99,0.999",
    extensions: str = "1",
    skip_options: str = "--max_wer_increase 0.1",
    batches: str = "1,16",
    utterances: int = 400,
    repetitions: int = 3,
    threads: int = 1,
) -> None:
    """Makes every model and measurement that is not there yet.

    Args:
        data: a folder with train, dev and test.
        teacher: a trained CTC model that does not skip.
        out: folder for everything.
        train: config of the fine-tuning.
        train_steps: of the fine-tuning; None: the epochs of the config.
        train_options: more of its options, e.g. "--batch.seconds 40".
        prune: config of the pruning.
        params: its budget.
        learn_steps: of its first phase; None: as in the config.
        recover_steps: of its recovery; None: as in the config.
        prune_options: more of its options, e.g. "--learn.learning_rate 7e-4".
        factorised: whether the CTC heads are.
        thresholds: of the sweep, with commas between.
        extensions: of the sweep, with commas between.
        skip_options: of `compress skip`, e.g. "--extensions [1]".
        batches: utterances in a timed batch, with commas between.
        utterances: of the test split.
        repetitions: of each timed pass.
        threads: of torch.
    """
    folder = Path(out).absolute()
    remember(folder / STATE, run=typed())
    blocks = len(blocks_of(load_model(teacher)))
    places = sorted({max(1, blocks // 3), blocks // 2, 2 * blocks // 3})
    common = ["--data.source", data, "--threads", str(threads)]
    steps = [] if train_steps is None else ["--max_steps", str(train_steps), "--optimizer.warmup_steps", "10"]
    skipping = ["--skipping.first_blocks", str(places), "--skipping.factorised", str(factorised).lower()]
    options = [
        "--config",
        train,
        "--model.checkpoint",
        teacher,
        *common,
        *skipping,
        *steps,
        *shlex.split(train_options),
    ]
    _recipe("recipes/train.py", folder / "skips", options)
    options = ["--config", prune, "--teacher", str(folder / "skips" / "last"), "--budget.params", params, *common]
    options += [*_given({"--learn.steps": learn_steps, "--recover.steps": recover_steps}), *shlex.split(prune_options)]
    _recipe("recipes/prune.py", folder / "pruned", options)
    models = {"skips": folder / "skips" / "last", "pruned": folder / "pruned" / "final"}
    for name, model in models.items():
        _calibrate(model, data, folder / f"{name}-chosen", "--baseline", teacher, *shlex.split(skip_options))
    if not (folder / SWEEP).exists():
        torch.set_num_threads(threads)
        sweep = _Sweep(data, teacher, models, utterances, repetitions, threads)
        grid = [(float(t), int(e)) for e in extensions.split(",") for t in thresholds.split(",")]
        write_json(folder / SWEEP, sweep.rows(grid, [int(size) for size in batches.split(",")]))


class _Sweep:
    """The teacher, and every model at every setting, on the test split."""

    def __init__(
        self, data: str, teacher: str, models: dict[str, Path], utterances: int, repetitions: int, threads: int
    ) -> None:
        self.models = {"teacher": load_model(teacher).eval()}
        self.models |= {name: load_model(str(path)).eval() for name, path in models.items()}
        self.processor = load_processor(teacher)
        self.dataset = open_speech(SpeechConfig(source=data, split="test"), sampling_rate=RATE).sample(utterances)
        self.speed = partial(SpeedConfig, repetitions=repetitions, warmup=1, threads=threads)

    def rows(self, grid: Sequence[tuple[float, int]], batches: Sequence[int]) -> list[dict[str, Any]]:
        """One entry per model and setting: what it skips, what it costs by its MACs and by the clock, how it errs."""
        settings = {("teacher", None): None} | {
            (name, one): one for name, model in self.models.items() for one in _settings(model, grid)
        }
        rows = [self._measured(name, one) for name, one in settings]
        for size in batches:
            factors = self._factors(list(settings), self.speed(batch=size))
            for row, factor in zip(rows, factors, strict=True):
                row[f"rtf_{size}"] = factor
        return rows

    def _measured(self, name: str, settings: Skipping | None) -> dict[str, Any]:
        model, counter = self.models[name], FrameCounter(self.models[name])
        _set(model, settings)
        loader = SpeechLoader(self.dataset, self.processor, batching_for(model, BatchConfig()), shuffle=False)
        _, references, written = transcribe(model, loader, self.processor, on_batch=counter)
        loader.close()
        rates = error_rates(references, written)
        frames = counter.frames or [Frames(1, 1)]
        where = {"first_blocks": settings.first_blocks, "threshold": settings.threshold} if settings else {}
        share = SkippingMacs(model).share(frames, settings) if settings and settings.threshold < OFF else 1.0
        print(f"{name} {where}: WER {rates.wer:.2%}, {skipped_share(frames):.1%} of the frames skip", flush=True)
        return {"model": name, "parameters": model.num_parameters(), "wer": rates.wer, "cer": rates.cer,
                "extension": settings.extension if settings else None, "skipped": skipped_share(frames),
                "macs_share": share, **where}  # fmt: skip

    def _factors(self, settings: Sequence[tuple[str, Skipping | None]], config: SpeedConfig) -> list[float]:
        speech = speech_batches(self.dataset, self.processor, config)
        return _timed([(self.models[name], one) for name, one in settings], speech, config)


def _settings(model: PreTrainedModel, grid: Sequence[tuple[float, int]]) -> list[Skipping]:
    skipper = skipper_of(model)
    if skipper is None:
        return []
    off = replace(skipper.settings, threshold=OFF)
    return [off] + [
        replace(skipper.settings, first_blocks=first, threshold=threshold, extension=extension)
        for first in skipper.settings.heads
        for threshold, extension in grid
    ]


def _set(model: PreTrainedModel, settings: Skipping | None) -> None:
    if settings is not None:
        required_skipper(model).use(model, settings)


def _timed(
    runs: Sequence[tuple[PreTrainedModel, Skipping | None]], speech: Sequence[Batch], config: SpeedConfig
) -> list[float]:
    """Real-time factors, all runs taking turns on every batch."""
    seconds = [0.0] * len(runs)
    for batch in speech:
        names = [str(number) for number in range(len(runs))]
        prepare = {name: partial(_set, *one) for name, one in zip(names, runs, strict=True)}
        models = {name: model for name, (model, _) in zip(names, runs, strict=True)}
        speeds = measure(models, dict.fromkeys(names, batch.inputs), config, prepare)
        for number, name in enumerate(names):
            seconds[number] += speeds[name].median_seconds
    return [one / sum(batch.seconds for batch in speech) for one in seconds]


def speed(
    *, out: str, family: str = "parakeet", hidden_size: int = 512, blocks: int = 17, vocabulary: int = 1025,
    shares: str = "0.3,0.5", batches: str = "1,16", seconds: float = 10.0, repetitions: int = 5, threads: int = 1,
) -> None:  # fmt: skip
    """Times a new model, half of whose blocks run on a given share of the frames.

    Args:
        out: folder for everything.
        family: of the model.
        hidden_size: its width; the FFNs have four times as many units.
        blocks: how many it has.
        vocabulary: tokens.
        shares: of the frames that are kept, with commas between.
        batches: utterances in a batch, with commas between.
        seconds: length of each utterance.
        repetitions: of each timed pass.
        threads: of torch.
    """
    folder = Path(out).absolute()
    remember(folder / STATE, speed=typed())
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": blocks, "intermediate_size": 4 * hidden_size}
    more = {"num_attention_heads": 8, "subsampling_factor": 8, "subsampling_conv_channels": 256}
    config = ModelConfig(family=family, settings={**sizes, **more})
    plain = build_model(config, vocabulary_size=vocabulary, blank=vocabulary - 1).eval()
    first, rows = blocks // 2, []
    kinds = {"plain": False, "factorised": True}
    models = {
        name: able_to_skip(plain, Skipping(first, OFF, 0, heads=(first,), factorised=one))
        for name, one in kinds.items()
    }
    for size in map(int, batches.split(",")):
        inputs = {"input_features": dummy_input(plain, seconds, size, "cpu")}
        batch = Batch(inputs, torch.empty(0), [], [], seconds * size)
        runs: list[tuple[PreTrainedModel, Skipping | None]] = [(plain, None)]
        chosen = [
            (model, _keeping(model, inputs, float(share))) for share in shares.split(",") for model in models.values()
        ]
        factors = _timed(runs + chosen, [batch], SpeedConfig(seconds, size, 1, repetitions, threads))
        for (model, settings), factor in zip(chosen, factors[1:], strict=True):
            frames = _frames(model, inputs, settings)
            predicted = 1 / SkippingMacs(model).share(frames, settings)
            rows.append({"batch": size, "factorised": settings.factorised, "skipped": skipped_share(frames),
                         "predicted": predicted, "measured": factors[0] / factor})  # fmt: skip
            print(rows[-1], flush=True)
    write_json(folder / SPEED, {"hidden_size": hidden_size, "blocks": blocks, "first_blocks": first, "rows": rows})


@torch.no_grad()
def _keeping(model: PreTrainedModel, inputs: dict[str, torch.Tensor], share: float) -> Skipping:
    """The settings that keep such a share of the frames of these inputs."""
    skipper = required_skipper(model)
    skipper.use(model, replace(skipper.settings, threshold=0.0))
    model(**inputs)
    assert skipper.blank is not None
    return replace(skipper.settings, threshold=float(skipper.blank.quantile(share)))


@torch.no_grad()
def _frames(model: PreTrainedModel, inputs: dict[str, torch.Tensor], settings: Skipping) -> list[Frames]:
    counter = FrameCounter(model)
    _set(model, settings)
    model(**inputs)
    counter(Batch(inputs, torch.empty(0), [], [], 0.0))
    return counter.frames


def table(*, out: str, title: str, data: str, note: str = "", results: str = str(RESULTS)) -> None:
    """Appends what was measured to RESULTS.md.

    Args:
        out: the folder that `run` and `speed` filled.
        title: heading of the entry.
        data: the data set, splits, and what a reader must know about it.
        note: machine and remarks.
        results: the file to append to.
    """
    folder = Path(out).absolute()
    state = recall(folder / STATE)
    commands = " ; ".join(state[name] for name in ("run", "speed") if name in state)
    lines = facts(commands, data, note, commit=state.get("commit"))
    if (folder / SWEEP).exists():
        lines += _sweep_lines(read(folder / SWEEP))
    if (folder / SPEED).exists():
        lines += _speed_lines(read(folder / SPEED))
    append_entry(Path(results), title, lines)


def _sweep_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    sizes = [name.removeprefix("rtf_") for name in rows[0] if name.startswith("rtf_")]
    head = ["model", "parameters", "first blocks", "threshold", "extension", "WER %", "skipped %", "MACs %"]
    head += [f"RTF, batch {size}" for size in sizes] + [f"of the teacher's time %, batch {size}" for size in sizes]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        skips = row.get("threshold", OFF) < OFF
        where = [str(row[name]) if skips else "" for name in ("first_blocks", "threshold", "extension")]
        cells = [row["model"], f"{row['parameters']:,}", *where, f"{100 * row['wer']:.2f}"]
        cells += [f"{100 * row[name]:.1f}" for name in ("skipped", "macs_share")]
        cells += [f"{row[f'rtf_{size}']:.4f}" for size in sizes]
        cells += [f"{100 * row[f'rtf_{size}'] / rows[0][f'rtf_{size}']:.1f}" for size in sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "MACs are those of the same model without skipping, times are of forward passes on test speech.",
    ]


def _speed_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"A new Parakeet of {found['blocks']} blocks, hidden {found['hidden_size']}; the first {found['first_blocks']} "
        "blocks always run:",
        "",
        "| batch | CTC head | skipped % | speed-up by MACs | measured |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        head = "factorised" if row["factorised"] else "plain"
        numbers = f"{100 * row['skipped']:.0f} | {row['predicted']:.2f} | {row['measured']:.2f}"
        lines.append(f"| {row['batch']} | {head} | {numbers} |")
    return lines


def _recipe(recipe: str, output: Path, options: Sequence[str]) -> None:
    if not (output / "done.json").exists():
        execute((*LAUNCH, recipe, *options, "--output", str(output)), output.with_suffix(".log"))


def _calibrate(model: Path, data: str, out: Path, *options: str) -> None:
    """A choice on dev, held against the teacher; where no setting holds, the log says so."""
    if not out.exists():
        given = ("--data", data, "--data.split", "dev", *options, "--out", str(out))
        execute((*COMPRESS, "skip", str(model), *given), out.with_suffix(".log"), stop=False)


def _given(options: dict[str, int | None]) -> list[str]:
    return [word for name, value in options.items() if value is not None for word in (name, str(value))]


if __name__ == "__main__":
    jsonargparse.auto_cli([run, speed, table], as_positional=False)
