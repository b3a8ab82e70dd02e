"""Measures what a step of gate learning takes, and compares its memory with what `compress inspect --train` predicts.

    python -m tools.experiments.measure_memory --results RESULTS.md

Each row is measured in processes of its own, on random weights and noise: neither time nor memory depend on them. The
last line says which share of its time a process waits for audio that it reads from shards, FLAC in tars.
Where memory is measured, what is freed is handed back at once, so that a process holds what its tensors take. That
costs time, which is measured without.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from accelerate import Accelerator
from transformers import ParakeetCTCConfig, PreTrainedConfig

from compress.data import BatchConfig, SpeechConfig, SpeechLoader, open_speech
from compress.evaluation.memory import peak_growth_bytes
from compress.training.loop.launcher import wants_sharding
from compress.training.loop.sharding import Sharding, shard_on_cpu
from compress.training.memory import LearningStep, StepConfig, any_budget, predicted_memory
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.results import REPOSITORY, EntryConfig, add, facts, grid

HEAD = ("step", "time, s", "memory, MiB", "predicted, MiB", "predicted over measured")
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "subsampling_conv_channels": 8}  # fmt: skip
ACCUMULATED = 4
PLAIN = "plain"
VARIANTS = {
    PLAIN: {},
    "blocks computed twice": {"gradient_checkpointing": True},
    f"accumulated {ACCUMULATED} times": {},
    "teacher in bf16": {"teacher_dtype": "bfloat16"},
    "two processes (DDP), half of the batch each": {},
    "two processes (FSDP2), half of the batch each": {},
}
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
FROM_SHARDS = "data from shards"
SHARDS, STEPS_FROM_SHARDS = 4, 20
HANDED_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MEBIBYTE = 1 << 20
RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        hidden_size: Of a FastConformer.
        blocks: Of it.
        step: Its batch and the length of its utterances.
        repetitions: Steps that are timed.
        variant: Measure this one alone, in this process; what the tool starts for each row.
    """

    title: str = "Memory and time of a training step"
    hidden_size: int = 256
    blocks: int = 6
    step: StepConfig = field(default_factory=lambda: StepConfig(10.0, BatchConfig(seconds=80.0), precision="fp32"))
    repetitions: int = 5
    variant: str | None = None


def measure_memory(config: MemoryConfig) -> None:
    """Prints a row for each variant, and appends them to a file of results."""
    if config.variant is not None:
        print(json.dumps(waiting(config) if config.variant == FROM_SHARDS else measured(config, config.variant)))
        return
    rows = [row(config, name) for name in VARIANTS]
    waited = started(FROM_SHARDS, {})
    lines = [*grid(HEAD, rows), said_of_waiting(waited)]
    print("\n".join(lines))
    add(config, [*facts(typed(), "noise: neither time nor memory depend on it", config.note), *lines])


def model_config(config: MemoryConfig) -> PreTrainedConfig:
    """The model that is measured."""
    sizes = {
        "hidden_size": config.hidden_size, "num_hidden_layers": config.blocks, "num_attention_heads": 4,
        "intermediate_size": 4 * config.hidden_size, "subsampling_conv_channels": config.hidden_size // 2,
    }  # fmt: skip
    return ParakeetCTCConfig(encoder_config=sizes)


def settings_of(config: MemoryConfig, variant: str) -> StepConfig:
    """The step of a variant; what is accumulated or shared out is the same batch in pieces."""
    parts = ACCUMULATED if "accumulated" in variant else 2 if "two" in variant else 1
    batch = dataclasses.replace(config.step.batch, seconds=config.step.batch.seconds / parts)
    return dataclasses.replace(config.step, batch=batch, **VARIANTS[variant])


def row(config: MemoryConfig, variant: str) -> list[str]:
    """One line of the table; what several processes take is predicted for none of them."""
    own = SHARDED if "FSDP2" in variant else {}
    seconds, grown = started(variant, own)["seconds"], started(variant, own | HANDED_BACK)["bytes"]
    cells = [variant, f"{seconds:.2f}", f"{grown / MEBIBYTE:.0f}"]
    if "two" in variant:
        return [*cells, "", ""]
    predicted = predicted_memory(model_config(config), settings_of(config, variant))["total"]
    return [*cells, f"{predicted / MEBIBYTE:.0f}", f"{predicted / grown:.3f}"]


def started(variant: str, environment: dict[str, str]) -> dict[str, float]:
    """What a process of its own, or the first of two, measures of a variant."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"] if "two" in variant else []
    words = [*launcher, "tools.experiments.measure_memory", *sys.argv[1:], "--variant", variant]
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if ended.returncode:
        raise ValueError(f"{variant} failed:\n{ended.stderr}")
    found: dict[str, float] = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("{")))
    return found


def measured(config: MemoryConfig, variant: str) -> dict[str, float]:
    """Seconds of a step, the median, and the bytes by which models, optimizer and steps made this process grow."""
    model, settings, times = model_config(config), settings_of(config, variant), list[float]()
    accelerator = Accelerator(cpu=True)
    if wants_sharding():
        shard_on_cpu(accelerator)
    several, count = accelerator.num_processes > 1, ACCUMULATED if "accumulated" in variant else 1
    warm_up(settings)
    budget = any_budget(model)

    def work() -> None:
        step = LearningStep(model, settings, budget)
        for frozen in (step.teacher, step.student.lagrangian):  # the budget's loss is none of the step's
            frozen.requires_grad_(False)
        if several:
            sharding = Sharding(accelerator, step.student)
            step.wrapped, step.optimizer = sharding.prepare(step.optimizer)
        for _ in range(config.repetitions):
            began = time.perf_counter()
            for number in range(count):
                step.backward(first=number == 0)
            step.update()
            times.append(time.perf_counter() - began)

    grown = peak_growth_bytes(work, torch.device("cpu"))
    if not accelerator.is_main_process:
        sys.exit()
    return {"seconds": median(times[1:]), "bytes": grown}


def waiting(config: MemoryConfig) -> dict[str, float]:
    """Seconds of steps on audio from shards, those that were spent waiting for it, and how much audio it was."""
    processor = build_processor("parakeet", ["noise"], TokensConfig(), mel_bins=80)
    step = LearningStep(model_config(config), config.step, any_budget(model_config(config)))
    with TemporaryDirectory() as folder:
        write_shards(Path(folder, "train"), config)
        speech = SpeechConfig(folder, cache_max_gib=0)
        dataset = open_speech(speech, sampling_rate=RATE, labels=False)
        loader = SpeechLoader(dataset, processor, dataclasses.replace(config.step.batch, workers=1))
        began = time.perf_counter()
        for batch in loader.epoch(0):
            step.inputs = batch.inputs
            step.backward()
            step.update()
        return {
            "seconds": time.perf_counter() - began,
            "waited": loader.wait_seconds,
            "audio": float(sum(dataset.seconds)),
        }


def said_of_waiting(found: dict[str, float]) -> str:
    """What `waiting` found, in words."""
    return (
        f"Of {found['seconds']:.0f} s in steps on {found['audio'] / 60:.0f} minutes of FLAC in {SHARDS} tars, decoded "
        f"as they are used by one worker, {found['waited'] / found['seconds']:.1%} were spent waiting for audio."
    )


def write_shards(folder: Path, config: MemoryConfig) -> None:
    """Noise for some steps, as FLAC in tars."""
    folder.mkdir()
    random, utterances = np.random.default_rng(0), STEPS_FROM_SHARDS * config.step.utterances
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as tar:
            for number in range(shard, utterances, SHARDS):
                file = io.BytesIO()
                noise = 0.1 * random.standard_normal(round(config.step.seconds * RATE))
                soundfile.write(file, noise, RATE, format="FLAC")
                member = tarfile.TarInfo(f"{number:05d}.flac")
                member.size = len(file.getvalue())
                file.seek(0)
                tar.addfile(member, file)


def warm_up(settings: StepConfig) -> None:
    """A step of a tiny model, so that what libraries take for themselves once does not count."""
    tiny = ParakeetCTCConfig(encoder_config=TINY)
    step = LearningStep(tiny, dataclasses.replace(settings, batch=BatchConfig(seconds=1.0)), any_budget(tiny))
    step.backward()
    step.update()


if __name__ == "__main__":
    main(measure_memory)
