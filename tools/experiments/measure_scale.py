"""Measures what `compress apply` and loading take on a large model, each step in a fresh process.

    python -m tools.experiments.measure_scale --folder runs/scale --results RESULTS.md

The model has a public configuration and random weights: neither time nor memory depend on their values. Memory is the
growth of a process from the end of its imports to its peak: of all resident pages, as the kernel counts them (VmHWM;
mapped files count too, though the system could take them back), and of pages that are not a file's, sampled.
"""

from __future__ import annotations

import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCTC, PreTrainedModel

from compress.checkpoint import apply_structure
from compress.checkpoint.weights import bytes_on_disk
from compress.conformers import family_of, skeleton
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.evaluation.speed import device_name
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.experiments.public_configs import CONFIGS
from tools.results import EntryConfig, add, facts, grid

SAMPLE_SECONDS = 0.002
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
DEVIATION = 0.02
RESET_PEAK = "5"
STORED = ("float32", "bfloat16")
APPLY_LIMIT, LOAD_LIMIT = 1.3, 1.2
HEAD = (
    "step", "seconds", "weights, MiB", "peak, resident, MiB", "peak, not files, MiB", "resident / weights", "goal",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScaleConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        folder: Where the models go; what is written, about twice the full weights, stays there.
        model: One of the public configurations (public_configs.py).
        budget: Of parameters; every module keeps the same share of its units.
        shard: Largest file of the full model's weights.
        threads: CPU threads.
    """

    folder: str
    model: str = "nvidia/parakeet-ctc-1.1b"
    budget: str = "50%"
    shard: str = "50GB"
    threads: int = 2
    title: str = "Removing half of a model of a billion parameters: time and memory"


def measure_scale(config: ScaleConfig) -> None:
    """Prints time and peak memory of applying a Structure and of loading the result, and appends them to a file."""
    folder, rows = Path(config.folder), []
    structure, small = str(folder / "structure.json"), str(folder / "small")
    for stored in STORED:
        full = str(folder / stored)
        if not Path(full).exists():
            in_a_fresh_process(prepare, config, full, structure, stored)
        shutil.rmtree(small, ignore_errors=True)
        used = in_a_fresh_process(measured_apply, full, structure, small, config.threads)
        step = f"compress apply, of the full weights in {stored}"
        rows.append(row(step, used, bytes_on_disk(full), APPLY_LIMIT))
    used = in_a_fresh_process(measured_load, small, config.threads)
    rows.append(row("from_pretrained of the small model, every weight read", used, bytes_on_disk(small), LOAD_LIMIT))
    lines = grid(HEAD, rows)
    print("\n".join(lines))
    where = f"{device_name(torch.device('cpu'))}, {config.threads} threads. {config.note}".strip()
    data = "none: random weights in the dimensions of the public configuration"
    add(config, [*facts(typed(), data, where), *lines])


def row(name: str, used: dict[str, float], weights: int, limit: float) -> list[str]:
    """What a step took: seconds, bytes, and the bytes over those of the weights."""
    sizes = [f"{size / MEBIBYTE:,.0f}" for size in (weights, used["resident"], used["anonymous"])]
    return [name, f"{used['seconds']:.1f}", *sizes, f"{used['resident'] / weights:.2f}", f"at most {limit}"]


def in_a_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that has a process to itself, which may have others of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def prepare(config: ScaleConfig, full: str, structure: str, stored: str) -> None:
    """Writes the full model, its weights drawn in place, and the Structure that keeps the same share everywhere."""
    torch.set_num_threads(config.threads)
    described = CONFIGS[config.model]
    shape = skeleton(described)
    half = decide(make_budget(BudgetConfig(params=config.budget), described), proportional(shape))
    random_weights(shape.to(getattr(torch, stored))).save_pretrained(full, max_shard_size=config.shard)
    family = family_of(described).name
    build_processor(family, ["the quick brown fox"], TokensConfig()).save_pretrained(full)
    half.save(Path(structure))


def random_weights(shape: PreTrainedModel) -> PreTrainedModel:
    """The model with memory; buffers that are not drawn (positions, running statistics) are as a new model has them."""
    shape.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in shape.parameters():
            parameter.normal_(std=DEVIATION)
        for buffer in shape.buffers():
            buffer.fill_(1)
    return shape


def measured_apply(full: str, structure: str, small: str, threads: int) -> dict[str, float]:
    """What the user's `compress apply` does."""
    return measured(lambda: apply_structure(full, structure, small), threads)


def measured_load(small: str, threads: int) -> dict[str, float]:
    """Loads the small model and reads every weight, since those of a mapped file are not in memory before that."""

    def work() -> None:
        model = AutoModelForCTC.from_pretrained(small)
        for parameter in model.parameters():
            parameter.detach().sum()

    return measured(work, threads)


def measured(work: Callable[[], Any], threads: int) -> dict[str, float]:
    """Seconds, and by how many bytes memory grew: all resident pages, and those that are not of files."""
    torch.set_num_threads(threads)
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before, done, peak = memory(), threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, memory()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    seconds, after = time.perf_counter() - start, memory()
    grown = {"resident": after["VmHWM"] - before["VmRSS"], "anonymous": peak - before["RssAnon"]}
    return {"seconds": seconds, **grown}


def memory() -> dict[str, int]:
    """What the kernel says of this process's memory, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): KIBIBYTE * int(words[1]) for words in lines if words[-1] == "kB"}


if __name__ == "__main__":
    main(measure_scale)
