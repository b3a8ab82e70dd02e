"""Measures what gates cost while they are learned, and what removal gains, side by side in one process.

    python -m tools.experiments.measure_gates --teacher demo/teacher/best --model demo/student/final
    python -m tools.experiments.measure_gates --batch 4 --repetitions 8    # a large random model and its half

Steps of gate learning and of plain distillation take turns on the same batches of noise; so do forward passes of the
teacher and of the compressed model. Memory is measured in a fresh process for each kind of step.
"""

from __future__ import annotations

import copy
import multiprocessing
import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from transformers import ParakeetCTCConfig, ParakeetForCTC, PreTrainedModel

import compress
from compress.checkpoint import load_model
from compress.conformers import frame_mask, frame_outputs
from compress.cost import dummy_input, size_of
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, Lagrangian, decide, make_budget
from compress.deciding.gates import GateConfig
from compress.evaluation.memory import peak_growth_bytes
from compress.evaluation.speed import SpeedConfig, device_name, measure
from compress.training.distill import DistillConfig, LayerDistance
from compress.training.loop.optimizer import build_optimizer
from compress.training.loop.precision import autocast
from compress.training.loop.schedule import LearnConfig
from compress.training.posteriors import output_divergence
from compress.training.preparation import prepare_for_training
from compress.training.student import GatedStudent, Student
from tools.commands import main, typed
from tools.results import EntryConfig, add, facts, grid

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LEARNING_RATE = 1e-4
WARMUP = 3
SPEED_SECONDS = 10.0
LARGE = {
    "hidden_size": 512,
    "num_hidden_layers": 17,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "subsampling_conv_channels": 256,
}
MILLISECONDS = 1e3
MEBIBYTE = 1 << 20
PLAIN, GATED = "plain", "gated"
GOAL = "at most 1.10"
STEP_HEAD = ("one step", "plain distillation", "gate learning", "ratio", "goal")
SPEED_HEAD = ("forward pass, batch 1, 10 s", "teacher", "compressed", "ratio", "")


@dataclass(frozen=True, kw_only=True)
class GatesConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        teacher: The model that was compressed; null takes random weights in the dimensions of FastConformer-Large.
        model: The compressed one; null takes half of the teacher's units, the same share of every module.
        batch: Utterances of a step.
        seconds: Of each.
        repetitions: Steps and forward passes of each kind.
        threads: CPU threads; null leaves torch's choice.
    """

    teacher: str | None = None
    model: str | None = None
    batch: int = 8
    seconds: float = 5.0
    repetitions: int = 30
    threads: int | None = None
    title: str = "What gates cost and what removal gains"


def measure_gates(config: GatesConfig) -> None:
    """Prints the three ratios, and appends them to a file of results."""
    if config.threads:
        torch.set_num_threads(config.threads)
    steps = step_rows(config.teacher, config.batch, config.seconds, config.repetitions)
    speeds = speed_rows(config.teacher, config.model, config.repetitions)
    lines = [*grid(STEP_HEAD, steps), *grid(SPEED_HEAD, speeds)]
    print("\n".join(lines))
    where = f"{device_name(DEVICE)}, {torch.get_num_threads()} threads. {config.note}".strip()
    add(config, [*facts(typed(), "noise: neither time nor memory depend on it", where), *lines])


class Step:
    """Training steps of one kind on noise: a full-size student with or without gates, held to its teacher.

    Args:
        teacher: the model.
        kind: `plain` or `gated`.
        batch: utterances of a step.
        seconds: of each.
        start: what the student is a copy of; None: the teacher.
    """

    def __init__(
        self, teacher: PreTrainedModel, kind: str, batch: int, seconds: float, start: PreTrainedModel | None = None
    ) -> None:
        model = copy.deepcopy(start or teacher).requires_grad_(True)
        prepare_for_training(model, dropout=0.0)
        self.teacher, self.gated = teacher, kind == GATED
        self.student: Student = self._with_gates(model) if self.gated else Student(model)
        self.student.to(DEVICE).train()
        self.layers = LayerDistance(model, teacher, DistillConfig())
        self.optimizer = build_optimizer(self.student.groups(LearnConfig(learning_rate=LEARNING_RATE), 0.0))
        torch.manual_seed(0)
        self.inputs = {teacher.main_input_name: dummy_input(teacher, seconds, batch, str(DEVICE))}

    @staticmethod
    def _with_gates(model: PreTrainedModel) -> GatedStudent:
        budget = make_budget(BudgetConfig(params="50%"), model.config)
        return GatedStudent(model, GateConfig(), budget, Lagrangian(budget.fraction, 1), seed=0)

    def loss(self) -> Tensor:
        """The losses of recipes/prune.py, but for CTC."""
        with autocast(DEVICE, "auto"):
            with torch.no_grad():
                target = frame_outputs(self.teacher, self.inputs)
            logits = self.student(**self.inputs)
        mask = frame_mask(self.teacher, self.inputs, logits.shape[1])
        loss = self.layers.take(mask) + output_divergence(logits, target, mask)
        if isinstance(self.student, GatedStudent):
            loss = loss + self.student.lagrangian(self.student.expected_share(), 1)
        return loss

    def run(self) -> None:
        """One step."""
        self.student.draw()
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.student.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize(DEVICE)


def load_teacher(teacher: str | None) -> PreTrainedModel:
    """The teacher, or random weights: neither time nor memory depend on them."""
    if teacher is not None:
        frozen: PreTrainedModel = load_model(teacher, device=DEVICE).requires_grad_(False)
        return frozen
    torch.manual_seed(0)
    drawn: PreTrainedModel = ParakeetForCTC(ParakeetCTCConfig(encoder_config=LARGE)).eval().requires_grad_(False)
    torch.nn.Module.to(drawn, DEVICE)  # transformers' own method has no type
    return drawn


def load_small(teacher: PreTrainedModel, model: str | None) -> PreTrainedModel:
    """The compressed model, or a proportional half of the teacher."""
    if model is not None:
        return load_model(model, device=DEVICE)
    half = decide(make_budget(BudgetConfig(params="50%"), teacher.config), proportional(teacher))
    small: PreTrainedModel = compress.remove(teacher, half)
    return small


def step_rows(teacher: str | None, batch: int, seconds: float, repetitions: int) -> list[list[str]]:
    """Time and peak memory of both kinds of step."""
    model = load_teacher(teacher)
    # Both record the teacher's blocks: each takes what its own forward pass has just left there.
    steps = {kind: Step(model, kind, batch, seconds) for kind in (PLAIN, GATED)}
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for repetition in range(WARMUP + repetitions):
        for kind in list(steps)[:: 1 if repetition % 2 else -1]:
            start = time.perf_counter()
            steps[kind].run()
            if repetition >= WARMUP:
                times[kind].append(MILLISECONDS * (time.perf_counter() - start))
    plain, gated = (median(times[kind]) for kind in (PLAIN, GATED))
    memory = [peak_in_a_fresh_process(teacher, kind, batch, seconds) / MEBIBYTE for kind in (PLAIN, GATED)]
    return [
        ["time, ms", f"{plain:.1f}", f"{gated:.1f}", f"{gated / plain:.3f}", GOAL],
        ["peak memory, MiB", f"{memory[0]:.0f}", f"{memory[1]:.0f}", f"{memory[1] / memory[0]:.3f}", GOAL],
    ]


def peak_in_a_fresh_process(teacher: str | None, kind: str, batch: int, seconds: float) -> int:
    """Bytes at the peak of student, optimizer and a few steps; the teacher and the libraries do not count."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (teacher, kind, batch, seconds))


def _peak(teacher: str | None, kind: str, batch: int, seconds: float) -> int:
    model = load_teacher(teacher)

    def work() -> None:
        step = Step(model, kind, batch, seconds)
        for _ in range(WARMUP):
            step.run()

    return peak_growth_bytes(work, DEVICE)


def speed_rows(teacher: str | None, model: str | None, repetitions: int) -> list[list[str]]:
    """Real time of a forward pass against what the MACs predict."""
    full = load_teacher(teacher)
    models = {"teacher": full, "compressed": load_small(full, model)}
    inputs = {full.main_input_name: dummy_input(full, SPEED_SECONDS, device=str(DEVICE))}
    config = SpeedConfig(seconds=SPEED_SECONDS, repetitions=repetitions)
    speeds = measure(models, dict.fromkeys(models, inputs), config)
    before, after = (MILLISECONDS * speeds[role].median_seconds for role in models)
    macs = [size_of(each, SPEED_SECONDS).macs / 1e6 for each in models.values()]
    real, predicted = before / after, macs[0] / macs[1]
    return [
        ["M MACs", f"{macs[0]:,.0f}", f"{macs[1]:,.0f}", f"{predicted:.2f} times fewer", ""],
        ["time, ms", f"{before:.2f}", f"{after:.2f}", f"{real:.2f} times as fast", ""],
        ["real over predicted", "", "", f"{real / predicted:.2f}", "at least 0.85"],
    ]


if __name__ == "__main__":
    main(measure_gates)
