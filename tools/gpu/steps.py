"""Steps of gate learning against steps of plain distillation, as they are and compiled."""

from __future__ import annotations

import gc
import time
from statistics import median

import torch

from compress.conformers import blocks_of
from compress.cost import size_of
from compress.evaluation.memory import peak_growth_bytes
from tools.experiments.measure_gates import GATED, PLAIN, Step
from tools.gpu.workload import Workload

SECONDS = 20.0
PASSES_OF_A_STEP = 4  # forward of the teacher and of the student, and twice as much backward
WARMUP = 3
GIBIBYTE = 1 << 30


def step_rows(work: Workload) -> list[list[str]]:
    """Time, achieved rate and memory of both kinds of step, without and with compilation of the blocks."""
    teacher, peak = work.model().requires_grad_(False), work.peak_flops()
    batch = work.sized(32, 1)
    operations = 2 * PASSES_OF_A_STEP * size_of(teacher, SECONDS).macs * batch
    rows = [[f"the peak: a bf16 matrix product of {work.sized(8192, 256)}", "", "", f"{peak / 1e12:.0f}", "100 %", ""]]
    for compiled in (False, True):
        times, memory = _measured(work, teacher, batch, compiled)
        for kind in (PLAIN, GATED):
            name = f"{kind}, {batch} x {SECONDS:.0f} s" + (", compiled" if compiled else "")
            rate = operations / times[kind]
            ratio = times[kind] / times[PLAIN]
            rows.append(
                [name, f"{1e3 * times[kind]:.1f}", f"{ratio:.3f}", f"{rate / 1e12:.0f}", f"{100 * rate / peak:.0f} %",
                 f"{memory[kind] / GIBIBYTE:.1f}"]
            )  # fmt: skip
    return rows


def _measured(work: Workload, teacher: torch.nn.Module, batch: int, compiled: bool) -> tuple[dict, dict]:
    """Median seconds and peak bytes (the teacher's weights do not count) of each kind of step, which take turns."""
    steps, memory = dict[str, Step](), dict[str, int]()
    for kind in (PLAIN, GATED):

        def prepare(kind: str = kind) -> None:
            steps[kind] = Step(teacher, kind, batch, SECONDS)
            if compiled:
                for model in (teacher, steps[kind].student.model):
                    for block in blocks_of(model):
                        block.compile(backend="eager" if work.tiny else "inductor")
            for _ in range(work.sized(WARMUP, 1)):
                steps[kind].run()

        memory[kind] = peak_growth_bytes(prepare, work.device)
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for repetition in range(work.sized(10, 1)):
        for kind in list(steps)[:: 1 if repetition % 2 else -1]:
            start = time.perf_counter()
            steps[kind].run()
            times[kind].append(time.perf_counter() - start)
    for step in steps.values():
        step.layers.close()
    steps.clear()
    gc.collect()
    work.forget()
    return {kind: median(values) for kind, values in times.items()}, memory
