"""Steps of gate learning against steps of plain distillation: as they are, and as fast as settings make them."""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import dataclass
from statistics import median

from transformers import PreTrainedModel

from compress.conformers import blocks_of
from compress.cost import size_of
from compress.evaluation.memory import peak_growth_bytes
from compress.training.loop.precision import has_bf16
from compress.training.loop.savings import hold_in_bf16
from tools.experiments.measure_gates import GATED, PLAIN, Step
from tools.gpu.workload import Workload

PASSES_OF_A_STEP = 4  # forward of the teacher and of the student, and twice as much backward
WARMUP = 3
GIBIBYTE = 1 << 30


LARGE_GIBIBYTES = 100


@dataclass(frozen=True)
class Way:
    """How steps are taken.

    Attributes:
        batch: utterances.
        seconds: of each.
        bf16: whether the teacher is held in bf16 (`teacher_dtype: bfloat16`).
        compiled: whether blocks are compiled, for batches of this one shape.
    """

    batch: int
    seconds: float
    bf16: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """What is said of it."""
        named = {"a teacher in bf16": self.bf16, "compiled for one shape": self.compiled}
        return ", ".join((f"{self.batch} x {self.seconds} s", *(name for name, true in named.items() if true)))


def step_rows(work: Workload) -> list[list[str]]:
    """Time, achieved rate and memory of both kinds of step, each way."""
    model, peak = work.model().requires_grad_(False), work.peak_flops()
    rows = [[f"the peak: a bf16 matrix product of {work.sized(8192, 256)}", "", "", f"{peak / 1e12:.0f}", "100 %", ""]]
    for way in _ways(work):
        operations = 2 * PASSES_OF_A_STEP * size_of(model, way.seconds).macs * way.batch
        times, memory = _measured(work, model, way)
        for kind in (PLAIN, GATED):
            rate, ratio = operations / times[kind], times[kind] / times[PLAIN]
            rows.append(
                [f"{kind}, {way.name}", f"{1e3 * times[kind]:.1f}", f"{ratio:.3f}",
                 f"{rate / 1e12:.0f}", f"{100 * rate / peak:.0f} %", f"{memory[kind] / GIBIBYTE:.1f}"]
            )  # fmt: skip
    return rows


def _ways(work: Workload) -> list[Way]:
    """Of 20.48 seconds the number of frames is one that fast kernels like, a multiple of 8; 96 fill a large device."""
    if work.tiny:
        return [Way(1, 2.0), Way(1, 2.0, bf16=True, compiled=True)]
    large = 96 if work.memory_bytes > LARGE_GIBIBYTES * GIBIBYTE else 48
    ways = [Way(32, 20.0), Way(32, 20.48), Way(large, 20.48, bf16=True)]
    return [*ways, Way(large, 20.48, bf16=True, compiled=True)]


def _measured(work: Workload, model: PreTrainedModel, way: Way) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds and peak bytes (the teacher's weights do not count) of each kind of step, which take turns."""
    steps, memory = dict[str, Step](), dict[str, int]()
    teacher = copy.deepcopy(model)
    if way.bf16 and has_bf16(work.device):
        hold_in_bf16(teacher)
    _compile(work, teacher, way)
    for kind in (PLAIN, GATED):

        def prepare(kind: str = kind) -> None:
            steps[kind] = Step(teacher, kind, way.batch, way.seconds, model)
            _compile(work, steps[kind].student.model, way)
            for _ in range(work.sized(WARMUP, 1)):
                steps[kind].run()

        memory[kind] = peak_growth_bytes(prepare, work.device)
    times = _alternated(steps, work.sized(10, 1))
    for step in steps.values():
        step.layers.close()
    steps.clear()
    gc.collect()
    work.forget()
    return times, memory


def _compile(work: Workload, model: PreTrainedModel, way: Way) -> None:
    for block in blocks_of(model) if way.compiled else ():
        block.compile(backend="eager" if work.tiny else "inductor")


def _alternated(steps: dict[str, Step], repetitions: int) -> dict[str, float]:
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for repetition in range(repetitions):
        for kind in list(steps)[:: 1 if repetition % 2 else -1]:
            start = time.perf_counter()
            steps[kind].run()
            times[kind].append(time.perf_counter() - start)
    return {kind: median(values) for kind, values in times.items()}
