"""Real-time factor and peak memory, measured for several models in alternation in one process."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from compress.config import check, check_at_least
from compress.conformers import frame_outputs
from compress.data import extract_features, feature_extractor_of
from compress.evaluation.memory import memory_method, peak_growth_bytes
from compress.evaluation.transcribe import to_model
from compress.machine import usable_cores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_NOISE_LEVEL = 0.1
MOST_SECONDS = 36_000
"""Of speech that is passed at once; more takes all memory."""
_TIMED = (
    "forward pass from prepared features to logits, of a model without a CTC head to the output of its encoder; "
    "reading audio, feature extraction and decoding are not timed. "
    "Models take turns within every repetition, the first one alternates, and the median repetition counts."
)


@dataclass(frozen=True)
class SpeedConfig:
    """Conditions of the timing; all of them are written into the report.

    Attributes:
        seconds: length of the timed audio, which is noise.
        batch: how many such utterances are passed at once.
        warmup: passes before the timing.
        repetitions: timed passes, of which the median counts.
        threads: CPU threads that torch may use; null leaves torch's choice (OMP_NUM_THREADS).
        seed: of the noise.
    """

    seconds: float = 10.0
    batch: int = 1
    warmup: int = 2
    repetitions: int = 10
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.seconds > 0, "speed.seconds", self.seconds, "give the length of the timed audio, for example 10")
        total = self.seconds * self.batch
        check(total <= MOST_SECONDS, "speed.seconds", self.seconds, f"times batch it must be at most {MOST_SECONDS}")
        for name, least in (("batch", 1), ("warmup", 0), ("repetitions", 1)):
            check_at_least(f"speed.{name}", getattr(self, name), least)
        enough = self.threads is None or self.threads >= 1
        check(enough, "speed.threads", self.threads, "give at least 1, or leave it out for torch's choice")


@dataclass(frozen=True)
class Speed:
    """Timing of one model: seconds of every repetition, and the memory one pass needs beyond the weights."""

    times_seconds: tuple[float, ...]
    audio_seconds: float
    activation_bytes: int

    @property
    def median_seconds(self) -> float:
        """Median over the repetitions."""
        return median(self.times_seconds)

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of computing per second of audio."""
        return self.median_seconds / self.audio_seconds


def speed_inputs(processor: ProcessorMixin, sampling_rate: int, config: SpeedConfig) -> dict[str, Tensor]:
    """Features of a batch of seeded noise; the time a Conformer takes does not depend on what is said."""
    generator = np.random.default_rng(config.seed)
    samples = round(config.seconds * sampling_rate)
    waves = [_NOISE_LEVEL * generator.standard_normal(samples).astype(np.float32) for _ in range(config.batch)]
    return extract_features(feature_extractor_of(processor), waves, sampling_rate)


def measure(
    models: Mapping[str, PreTrainedModel],
    inputs: Mapping[str, dict[str, Tensor]],
    config: SpeedConfig,
    prepare: Mapping[str, Callable[[], None]] | None = None,
) -> dict[str, Speed]:
    """Times models against each other.

    Args:
        models: in eval mode, all on one device, by role; one model may have several roles.
        inputs: the features for each role, from `speed_inputs`.
        config: the conditions.
        prepare: by role, what is done before each pass and timed with it, such as setting the depth.

    Returns:
        One `Speed` per role.
    """
    with with_threads(config.threads), torch.no_grad():
        before = prepare or {}
        passes = {role: _forward(model, inputs[role], before.get(role)) for role, model in models.items()}
        for run in passes.values():  # whatever a library sets up on first use is no model's memory
            run()
        memory = {role: peak_growth_bytes(run, models[role].device) for role, run in passes.items()}
        times = _alternate(passes, config)
    audio_seconds = config.seconds * config.batch
    return {role: Speed(tuple(times[role]), audio_seconds, memory[role]) for role in models}


def conditions(device: torch.device, dtype: torch.dtype, config: SpeedConfig) -> dict[str, Any]:
    """States under which conditions `measure` ran: device, threads, batch, seconds, warm-up, repetitions."""
    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": config.threads or torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "batch": config.batch,
        "seconds": config.seconds,
        "warmup": config.warmup,
        "repetitions": config.repetitions,
        "timed": _TIMED,
        "memory": memory_method(device),
        "torch": torch.__version__,
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of cores this process may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor_name()}, {usable_cores()} cores"


def _forward(
    model: PreTrainedModel, inputs: dict[str, Tensor], prepare: Callable[[], None] | None
) -> Callable[[], object]:
    placed = to_model(model, inputs)

    def run() -> None:
        if prepare:
            prepare()
        frame_outputs(model, placed)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)

    return run


def _alternate(passes: Mapping[str, Callable[[], object]], config: SpeedConfig) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {role: [] for role in passes}
    for repetition in range(config.warmup + config.repetitions):
        # Whoever goes first finds other caches and clocks, so the order alternates.
        order = list(passes)[:: 1 if repetition % 2 == 0 else -1]
        for role in order:
            elapsed = _timed(passes[role])
            if repetition >= config.warmup:
                times[role].append(elapsed)
    return times


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def with_threads(count: int | None) -> Iterator[None]:
    """Inside, torch uses so many CPU threads; None: as many as before."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor_name() -> str:
    names: list[str] = []
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
