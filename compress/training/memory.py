"""The memory that a step of gate learning will take, predicted on fake tensors: nothing is allocated for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.optim import Optimizer
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import family_of, frame_mask
from compress.cost import DEFAULT_SECONDS, dummy_input
from compress.data import BatchConfig
from compress.deciding.budget import Budget, BudgetConfig, Lagrangian, make_budget
from compress.deciding.gates import GateConfig
from compress.reports.page import Condition, Page, Table
from compress.training.distill import Distillation, DistillConfig
from compress.training.loop.optimizer import WEIGHTS, OptimizerName, build_optimizer, parameters_of
from compress.training.loop.savings import recomputed
from compress.training.loop.schedule import LearnConfig
from compress.training.loop.sharding import shorten
from compress.training.preparation import prepare_for_training
from compress.training.student import GatedStudent

GIBIBYTE = 1 << 30
EIGHT_BIT_SHARE = 0.25
"""Of the memory of an optimizer's moments, what those of eight bits take."""
TRACKED_KINDS = {
    "Parameter": "weights", "Buffer": "weights", "Gradient": "gradients", "Optstate": "optimizer",
    "Activation": "activations", "Temp": "activations", "Other": "activations",
}  # fmt: skip
"""What torch's tracker tells apart, in four kinds."""


@dataclass(frozen=True)
class StepConfig:
    """A step of gate learning: teacher, gated student, and the losses between them, but for CTC and the budget's.

    Attributes:
        seconds: length of each utterance.
        batch: audio in one batch; with `accumulate` the others come after it, and take no more.
        gradient_checkpointing: as in the recipes.
        teacher_dtype: as in recipes/prune.py.
        precision: of the forward passes; a GPU computes in bf16 unless it is told otherwise.
        optim: as in the recipes.
    """

    seconds: float = DEFAULT_SECONDS
    batch: BatchConfig = field(default_factory=BatchConfig)
    gradient_checkpointing: bool = False
    teacher_dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["bf16", "fp32"] = "bf16"
    optim: OptimizerName = "adamw"

    @property
    def utterances(self) -> int:
        """How many utterances of that length make a batch."""
        return max(1, min(int(self.batch.seconds / self.seconds), self.batch.max_utterances or 1 << 30))


class LearningStep:
    """Steps of gate learning on noise, on real or on fake tensors.

    Args:
        config: of the model.
        settings: of the step.
        budget: any; its size does not matter.

    Attributes:
        wrapped: what runs forward: the student, or what several processes have wrapped it in.
    """

    def __init__(self, config: PreTrainedConfig, settings: StepConfig, budget: Budget) -> None:
        self.settings = settings
        self.teacher, model = (_new_model(config) for _ in range(2))
        prepare_for_training(model, dropout=0.0)
        self.student = GatedStudent(model.train(), GateConfig(), budget, Lagrangian(0.5, 1), seed=0)
        self.wrapped: nn.Module = self.student
        bf16 = settings.teacher_dtype == "bfloat16"
        self.distillation = Distillation(model, self.teacher, DistillConfig(ctc=0.0), bf16)
        of_its_own = settings.optim == "muon"  # eight bits are counted as a share of AdamW's, which needs no package
        groups = self.student.groups(LearnConfig(), weight_decay=0.0)
        self.optimizer: Optimizer = build_optimizer(groups, "muon" if of_its_own else "adamw")
        features = dummy_input(model, settings.seconds, settings.utterances, "cpu")
        mask = torch.ones(features.shape[:2], dtype=torch.long)
        mask[0, -1] = 0  # a batch of which nothing is padding would need no masks
        self.inputs: Mapping[str, Tensor] = {family_of(config).features: features, "attention_mask": mask}

    def begin(self) -> None:
        """Makes the optimizer's state, as the steps before have left it."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.update()

    def backward(self, *, first: bool = True) -> None:
        """The gradients of a batch; the first one of a step draws its gates."""
        settings = self.settings
        if first:
            self.student.draw()
        again = recomputed(self.student.model, settings.gradient_checkpointing)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"), again:
            target = self.distillation.target(self.inputs)
            output = self.wrapped(**self.inputs)
        mask = frame_mask(self.teacher, self.inputs, output.shape[1])
        losses, _ = self.distillation.losses(output, target, mask, None)
        torch.stack(list(losses.values())).sum().backward()

    def update(self) -> None:
        """Takes the optimizer's step by the gradients that there are."""
        shorten(parameters_of(self.optimizer, WEIGHTS), 1.0)
        self.optimizer.step()
        self.student.after_step()
        self.optimizer.zero_grad(set_to_none=True)


def _new_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model with random weights; those of a teacher may ask for gradients, too, since it runs without."""
    model: PreTrainedModel = family_of(config).auto.from_config(config, dtype=torch.float32)
    model.eval()
    return model


def any_budget(config: PreTrainedConfig) -> Budget:
    """A budget for a step whose result nobody looks at."""
    return make_budget(BudgetConfig(params="50%"), config)


def predicted_memory(config: PreTrainedConfig, settings: StepConfig) -> dict[str, int]:
    """The memory at the peak of a step, by torch's own tracker of fake tensors.

    What a device or a library takes for itself (about half a gigabyte on a GPU) and what an allocator leaves between
    tensors comes on top.

    Args:
        config: of the model.
        settings: of the step.

    Returns:
        Bytes of `weights`, `gradients`, `optimizer` and `activations` at the moment when they are the most together,
        and their `total`.
    """
    budget = any_budget(config)
    with FakeTensorMode():
        step, tracker = LearningStep(config, settings, budget), MemTracker()
        step.student.requires_grad_(True)  # the tracker asks it of every parameter; what is frozen has no state
        tracker.track_external(step.teacher, step.student, step.optimizer)
        with tracker:
            step.begin()
            step.backward()
            step.update()
    return _by_kind(tracker.get_tracker_snapshot("peak"), settings)


def _by_kind(snapshot: Mapping[Any, Mapping[Any, int]], settings: StepConfig) -> dict[str, int]:
    memory = dict.fromkeys(("weights", "gradients", "optimizer", "activations"), 0)
    for entries in snapshot.values():
        for name, size in entries.items():
            if kind := TRACKED_KINDS.get(getattr(name, "value", name)):
                memory[kind] += size
    if settings.optim == "adamw_8bit":
        memory["optimizer"] = round(EIGHT_BIT_SHARE * memory["optimizer"])
    return memory | {"total": sum(memory.values())}


def memory_page(model: str, settings: StepConfig, memory: Mapping[str, int]) -> Page:
    """The prediction as a report."""
    rows = [(kind, f"{size / GIBIBYTE:.2f} GiB") for kind, size in memory.items()]
    return Page(
        title=model,
        headline=f"A step of gate learning will take {memory['total'] / GIBIBYTE:.1f} GiB.",
        sections=[],
        conditions=[
            Condition(
                "batch", f"{settings.utterances} utterances of {settings.seconds:g} s, {settings.precision}", True
            ),
            Condition("on top", "what device and allocator need for themselves, on a GPU about 1 GiB", True),
        ],
        maker="compress inspect --train",
        context="teacher and gated student, at the peak of a step",
        numbers=Table(("", "memory"), rows, left=1),
    )
