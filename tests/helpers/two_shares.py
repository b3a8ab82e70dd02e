"""Run by torchrun on two processes (see test_shares.py): gradients of a step against those of one batch, as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import ParakeetForTDT, ParakeetTDTConfig, PreTrainedModel

from compress.conformers import frame_mask
from compress.data import Batch
from compress.deciding.budget import BudgetConfig, Lagrangian, make_budget
from compress.deciding.gates import GateConfig
from compress.elastic.supernet import SelectionConfig
from compress.training.distill import Distillation, DistillConfig
from compress.training.inter_ctc import InterCtcConfig
from compress.training.loop import processes
from compress.training.loop.counts import Counts
from compress.training.loop.gradients import accumulate
from compress.training.loop.losses import Losses
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import Recogniser
from compress.training.skipping_objective import SkippingConfig, objective_of, skipping_model
from compress.training.student import GatedStudent, Student
from compress.training.supernet import JointConfig, StageNet
from tests.helpers.rank_results import leave_with
from tests.helpers.stages import joint, selecting
from tests.helpers.tiny import parakeet, transducer

SPLITS = {"ranks": (((0, 1, 2),), ((3,),)), "micro-batches": (((0, 3), (1,)), ((2,), (4, 5, 6)))}
"""The utterances of each batch of each rank."""
FRAMES = (40, 56, 48, 64, 36, 44, 52)
TOKENS = (3, 5, 2, 1, 4, 2, 3)
SKIPPING = SkippingConfig(first_blocks=(1, 2), threshold=0.06, simulated=1.0, consistency=1.0)
LossStep = Callable[[Any, Batch, Counts], Losses]


def some(utterances: Sequence[int]) -> Batch:
    """A batch of so long utterances, padded to the longest."""
    rows = [torch.randn(FRAMES[u], 16, generator=torch.Generator().manual_seed(u)) for u in utterances]
    features = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(features.shape[1]) < torch.tensor([[len(row)] for row in rows])
    tokens = [torch.arange(TOKENS[u]) + u for u in utterances]
    labels = nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-100)
    return Batch({"input_features": features, "attention_mask": mask.long()}, labels, [], [], 1.0)


def distilling(student: Student, teacher: PreTrainedModel, config: DistillConfig) -> tuple[Student, LossStep]:
    distillation = Distillation(student.model, teacher.eval(), config)

    def losses(wrapped: Any, batch: Batch, counts: Counts) -> Losses:
        teacher.to(student.model.device)
        target, output = distillation.target(batch.inputs), wrapped(**batch.inputs)
        mask = frame_mask(teacher, batch.inputs, output.shape[1])
        labels = batch.labels if config.ctc else None
        parts, _ = distillation.losses(output, target, mask, labels, None, counts)
        return Losses.summed(parts | student.losses(output, mask, labels, 1, counts))

    return student, losses


def supervised(net: Recogniser | StageNet) -> tuple[nn.Module, LossStep]:
    def losses(wrapped: Any, batch: Batch, counts: Counts) -> Losses:
        logits = wrapped(**batch.inputs)
        mask = frame_mask(net.model, batch.inputs, logits[0].shape[1])
        return net.losses(logits, mask, batch.labels, 19, counts)[0]

    return net, losses


def gated(model: PreTrainedModel) -> GatedStudent:
    budget = make_budget(BudgetConfig(params="60%"), model.config)
    return GatedStudent(model, GateConfig(drop_rate=0.2), budget, Lagrangian(budget.fraction, 1, 5.0), seed=0)


def skipping(seed: int = 0) -> PreTrainedModel:
    return skipping_model(parakeet(seed), SKIPPING)


def encoder(seed: int = 0) -> PreTrainedModel:
    return transducer(ParakeetForTDT, ParakeetTDTConfig, seed)


def skipping_student() -> Student:
    model = skipping()
    return Student(model, objective_of(model, SKIPPING, seed=0))


CASES: Mapping[str, Callable[[], tuple[Any, LossStep]]] = {
    "gates": lambda: distilling(
        gated(parakeet()), parakeet(seed=1), DistillConfig(temperature=2.0, inner=0.5, blank_neighbours=0)
    ),
    "mse": lambda: distilling(Student(parakeet()), parakeet(seed=1), DistillConfig(distance="mse")),
    "skipping student": lambda: distilling(skipping_student(), skipping(seed=1), DistillConfig()),
    "no CTC head": lambda: distilling(Student(encoder()), encoder(seed=1), DistillConfig(ctc=0.0)),
    "intermediate CTC": lambda: supervised(Recogniser(parakeet(), inter_ctc=InterCtcConfig(heads="separate"))),
    "skipping": lambda: supervised(Recogniser(skipping(), skipping=SKIPPING)),
    "select": lambda: supervised(selecting(parakeet(), SelectionConfig("ortho_softmax"))),
    "joint": lambda: supervised(joint(parakeet(), JointConfig(distill=0.5, stochastic_depth=0.0), (11, 5, 2))),
}
"""Everything that is trained anywhere, with its losses."""


def draw(net: Any) -> None:
    net.prepare(1) if isinstance(net, StageNet) else net.draw()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    given = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return given


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, as a share of the largest entry."""
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / largest


def ready(net: Any) -> Any:
    """In training, but for what depends on the others in a batch anyway: its statistics."""
    prepare_for_training(net.train().model, dropout=0.0)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return net


def compared(accelerator: Accelerator, name: str) -> dict[str, tuple[float, float]]:
    """By split: how far gradients and losses are from those of one batch, which another net of the same seeds gives."""
    (alone, loss_alone), (net, loss_step) = (CASES[name]() for _ in range(2))
    accelerator.ddp_handler.find_unused_parameters = name == "joint"
    wrapped, result = accelerator.prepare_model(ready(net)), {}
    ready(alone)
    for split, by_rank in SPLITS.items():
        own = [some(utterances) for utterances in by_rank[processes.rank()]]
        whole = some([u for batches in by_rank for utterances in batches for u in utterances])
        draw(alone)
        expected = loss_alone(alone, whole, Counts())
        expected.total.backward()
        draw(net)
        accelerator.gradient_accumulation_steps, accelerator.step = len(own), 0
        losses = accumulate(accelerator, wrapped, net.model, own, lambda *given: loss_step(wrapped, *given))
        total = float(processes.averaged(losses.total))
        result[split] = distance(gradients(alone), gradients(net)), abs(total / float(expected.total.detach()) - 1)
    return result


def main(out: str) -> None:
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs()])
    found = {name: compared(accelerator, name) for name in CASES}
    leave_with(accelerator, out, found)


if __name__ == "__main__":
    main(sys.argv[1])
