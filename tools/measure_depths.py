"""Times the depths of an elastic model in turn: whole passes, and the blocks alone.

    python tools/measure_depths.py --model runs/parakeet-elastic_digits/best --depths 8,6,4 --results RESULTS.md
    python tools/measure_depths.py --model nvidia/parakeet-ctc-0.6b --depths 24,16,12,8 --batches 1

What stands before the blocks costs the same at every depth, and of a small model it is a large share. One thread is
timed by the processor's time, to which other work on the machine adds nothing; several are timed by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import jsonargparse
import torch
from add_result import append_entry, facts
from inspect_public import CONFIGS
from measure_scale import random_weights
from running import COMPRESS, execute, grid, typed
from transformers import PreTrainedModel

from compress.checkpoint import load_model, load_processor
from compress.conformers import blocks_of, family_of, frame_outputs, skeleton
from compress.data import feature_extractor_of
from compress.evaluation.speed import SpeedConfig, device_name, speed_inputs
from compress.evaluation.transcribe import to_model
from compress.training.tokens import TokensConfig, build_processor

MILLISECONDS = 1e3
HEAD = ("batch", "depth", "whole, ms", "times as fast", "blocks alone, ms", "times as fast", "RTF, whole")
Times = dict[int, tuple[float, float]]
"""By depth: seconds of a whole pass, and of its blocks."""


def main(
    *,
    model: str,
    depths: str,
    folder: str = "runs/scale",
    batches: str = "1,16",
    seconds: float = 10.0,
    repetitions: int = 20,
    threads: int = 1,
    title: str = "The speed of every depth",
    note: str = "",
    results: str | None = None,
) -> None:
    """Times the depths of a model in turn and prints the table.

    Args:
        model: an elastic checkpoint, or a public configuration of tools/inspect_public.py, which gets random weights.
        depths: with commas between, the full one first.
        folder: where the random model goes.
        batches: utterances of a pass, with commas between.
        seconds: of each utterance.
        repetitions: timed passes at each depth.
        threads: CPU threads.
        title: heading of the entry.
        note: machine and remarks.
        results: the file to append to; null: none.
    """
    order = [int(depth) for depth in depths.split(",")]
    source = str(_random_elastic(Path(folder).absolute(), model, order)) if model in CONFIGS else model
    torch.set_num_threads(threads)
    loaded, rows = load_model(source).eval(), []
    for batch in map(int, batches.split(",")):
        config = SpeedConfig(seconds=seconds, batch=batch, repetitions=repetitions, threads=threads)
        rows += _speed_rows(_timed(loaded, load_processor(source), order, config), config)
    lines = grid(HEAD, rows)
    print("\n".join(lines), flush=True)
    if results:
        where = f"{device_name(torch.device('cpu'))}, {threads} thread(s), float32. {note}".strip()
        about = f"noise of {seconds:g} s: time does not depend on what is said"
        append_entry(Path(results), title, [*facts(typed(), about, where), *lines, *_speed_remarks(repetitions)])


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
    kept = {depth: passes[config.warmup :] for depth, passes in times.items()}
    return {depth: (median(one for one, _ in both), median(one for _, one in both)) for depth, both in kept.items()}


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
        which = ("--rule", "last_first", "--depths", f"[{','.join(map(str, depths[1:]))}]")
        words = (str(place / "full"), *which, "--out", str(place / "model"))
        execute((*COMPRESS, "elastic", *words), place / "elastic.log")
    return place / "model"


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
