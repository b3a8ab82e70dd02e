"""Times the depths of an elastic model in turn: whole passes, and the blocks alone.

    python -m tools.experiments.measure_depths --model runs/elastic/best --depths [8,6,4] --results RESULTS.md
    python -m tools.experiments.measure_depths --model nvidia/parakeet-ctc-0.6b --depths [24,16,12,8] --batches [1]

What stands before the blocks costs the same at every depth, and of a small model it is a large share. One thread is
timed by the processor's time, to which other work on the machine adds nothing; several are timed by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from compress.checkpoint import load_model, load_processor
from compress.conformers import blocks_of, family_of, frame_outputs, skeleton
from compress.data import feature_extractor_of
from compress.evaluation.speed import SpeedConfig, device_name, speed_inputs
from compress.evaluation.transcribe import to_model
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.experiments.experiment import listed, run_verb
from tools.experiments.measure_scale import random_weights
from tools.experiments.public_configs import CONFIGS
from tools.results import EntryConfig, add, facts, grid

MILLISECONDS = 1e3
HEAD = ("batch", "depth", "whole, ms", "times as fast", "blocks alone, ms", "times as fast", "RTF, whole")
Times = dict[int, tuple[float, float]]
"""By depth: seconds of a whole pass, and of its blocks."""


@dataclass(frozen=True, kw_only=True)
class DepthsConfig(EntryConfig):
    """What is timed, and the entry that holds it.

    Attributes:
        model: An elastic checkpoint, or a public configuration (public_configs.py), which gets random weights.
        depths: Numbers of blocks, the full one first.
        folder: Where the random model goes.
        batches: Utterances of a pass.
        seconds: Of each utterance.
        repetitions: Timed passes at each depth.
        threads: CPU threads.
    """

    model: str
    depths: tuple[int, ...]
    folder: str = "runs/scale"
    batches: tuple[int, ...] = (1, 16)
    seconds: float = 10.0
    repetitions: int = 20
    threads: int = 1
    title: str = "The speed of every depth"


def measure_depths(config: DepthsConfig) -> None:
    """Times the depths of a model in turn and prints the table."""
    source = config.model
    if source in CONFIGS:
        source = str(_random_elastic(Path(config.folder).absolute(), source, config.depths))
    torch.set_num_threads(config.threads)
    model, rows = load_model(source).eval(), []
    for batch in config.batches:
        speed = SpeedConfig(seconds=config.seconds, batch=batch, repetitions=config.repetitions, threads=config.threads)
        rows += _speed_rows(_timed(model, load_processor(source), config.depths, speed), speed)
    lines = grid(HEAD, rows)
    print("\n".join(lines), flush=True)
    where = f"{device_name(torch.device('cpu'))}, {config.threads} thread(s), float32. {config.note}".strip()
    about = f"noise of {config.seconds:g} s: time does not depend on what is said"
    add(config, [*facts(typed(), about, where), *lines, *_speed_remarks(config.repetitions)])


def _timed(model: PreTrainedModel, processor: Any, depths: Sequence[int], config: SpeedConfig) -> Times:
    """Medians over the repetitions, in which the depths take turns, in alternating order."""
    clock = time.process_time if config.threads == 1 else time.perf_counter
    inputs = to_model(model, speed_inputs(processor, int(feature_extractor_of(processor).sampling_rate), config))
    times: dict[int, list[tuple[float, float]]] = {depth: [] for depth in depths}
    with torch.no_grad(), _marks(model, clock) as marks:
        for repetition in range(config.warmup + config.repetitions):
            for depth in list(depths)[:: 1 if repetition % 2 else -1]:
                marks[:] = [clock()]
                model.set_depth(depth)  # type: ignore[operator]
                frame_outputs(model, inputs)
                began, before, after, ended = (*marks, clock())
                times[depth].append((ended - began, after - before))
    counted = {depth: passes[config.warmup :] for depth, passes in times.items()}
    return {depth: (median(whole for whole, _ in passes), median(blocks for _, blocks in passes))
            for depth, passes in counted.items()}  # fmt: skip


@contextmanager
def _marks(model: PreTrainedModel, clock: Callable[[], float]) -> Iterator[list[float]]:
    """A list to which every pass adds the times of the first block's input and of the last one's output."""
    marks: list[float] = []

    def mark(*_: Any) -> None:
        marks.append(clock())

    blocks = blocks_of(model)
    handles = [blocks[0].register_forward_pre_hook(mark), blocks[-1].register_forward_hook(mark)]
    try:
        yield marks
    finally:
        for handle in handles:
            handle.remove()


def _speed_rows(times: Times, config: SpeedConfig) -> list[list[str]]:
    full, rows = next(iter(times.values())), []
    for depth, (whole, blocks) in times.items():
        numbers = [MILLISECONDS * whole, full[0] / whole, MILLISECONDS * blocks, full[1] / blocks]
        shown = [f"{number:.{digits}f}" for number, digits in zip(numbers, (1, 2, 1, 2), strict=True)]
        rows.append([str(config.batch), str(depth), *shown, f"{whole / config.batch / config.seconds:.5f}"])
    return rows


def _speed_remarks(repetitions: int) -> list[str]:
    return [
        f"Medians of {repetitions} passes, in which the depths take turns; of one thread the processor's time. A whole "
        "pass goes from features to logits: `set_depth`, subsampling, blocks and head. Features are not timed."
    ]


def _random_elastic(folder: Path, name: str, depths: Sequence[int]) -> Path:
    """A model of a public configuration that runs at some depths: its first blocks."""
    place = folder / name.replace("/", "--")
    if not (place / "model").exists():
        config = CONFIGS[name]
        random_weights(skeleton(config)).save_pretrained(place / "full")
        build_processor(family_of(config).name, ["the quick brown fox"], TokensConfig()).save_pretrained(place / "full")
        which = ("--rule", "last_first", "--depths", listed(depths[1:]))
        run_verb("elastic", place / "model", str(place / "full"), *which)
    return place / "model"


if __name__ == "__main__":
    main(measure_depths)
