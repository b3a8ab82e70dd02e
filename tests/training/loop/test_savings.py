"""Less memory for the same step: what is kept, what is computed again, and what nothing changes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import AdamW

from compress.conformers import frame_mask
from compress.deciding.budget import BudgetConfig, Lagrangian, make_budget
from compress.deciding.gates import GateConfig
from compress.evaluation.memory import weights_in_memory
from compress.structure import Place
from compress.training.distill import Distillation, DistillConfig
from compress.training.loop.optimizer import ParameterGroup, build_optimizer, require_optimizer
from compress.training.loop.savings import compile_blocks, recomputed
from compress.training.loop.schedule import set_learning_rates
from compress.training.preparation import prepare_for_training
from compress.training.stochastic_depth import StochasticDepth
from compress.training.stochastic_modules import StochasticModules
from compress.training.student import GatedStudent
from tests.helpers.tiny import CTC_MODELS, batch, parakeet


def gated(model: Any) -> GatedStudent:
    """With everything that is drawn: gates, dropped blocks, modules left out, dropout."""
    prepare_for_training(model.train(), dropout=0.1)
    StochasticModules(model, {Place.of(1, "conv"): 0, Place.of(2, "ffn1"): 3}, 0.3).start(5)
    StochasticDepth(model, 0.4, seed=1).draw()
    budget = make_budget(BudgetConfig(params="60%"), model.config)
    return GatedStudent(model, GateConfig(drop_rate=0.2), budget, Lagrangian(budget.fraction, 1, 5.0), seed=0)


def step(name: str, again: bool) -> tuple[dict[str, Tensor], int]:
    """The gradients of a step held to a teacher, with what it leaves in buffers, and the bytes that its pass keeps."""
    student, teacher, kept = gated(CTC_MODELS[name]()), CTC_MODELS[name](), dict[int, int]()
    distillation, inputs = Distillation(student.model, teacher, DistillConfig(ctc=0.0)), batch(teacher)

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    student.draw()
    torch.manual_seed(3)
    target = distillation.target(inputs)
    with saved_tensors_hooks(keep, lambda tensor: tensor), recomputed(student.model, again):
        output = student(**inputs)
    mask = frame_mask(teacher, inputs, output.shape[1])
    losses, _ = distillation.losses(output, target, mask, None)
    torch.stack(list(losses.values())).sum().backward()
    assert "forward" not in vars(student.model.base_model)
    distillation.close()
    found = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    return found | dict(student.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", {name.partition("-")[0]: name for name in CTC_MODELS}.values())
def test_blocks_that_are_computed_again_give_the_same_gradients_and_keep_less(name: str) -> None:
    (plain, bytes_kept), (again, fewer) = (step(name, wanted) for wanted in (False, True))
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[key], again[key]) for key in plain)
    assert fewer < 0.6 * bytes_kept


def test_compiled_once_for_batches_of_any_size() -> None:
    model, counter = parakeet().eval(), CompileCounter()
    inputs = [{"input_features": torch.randn(rows, frames, 16)} for rows, frames in ((2, 40), (3, 56), (5, 80))]
    with torch.no_grad():
        expected = [model(**features).logits for features in inputs]
        compile_blocks(model, True, backend=counter)
        found, graphs = [model(**inputs[0]).logits], counter.frame_count
        found += [model(**features).logits for features in inputs[1:]]
    assert graphs > 0
    assert counter.frame_count <= 2 * graphs
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_teacher_in_bf16_takes_half_and_teaches_nearly_the_same() -> None:
    inputs, targets = batch(parakeet()), []
    for bf16 in (False, True):
        teacher = parakeet()
        before = weights_in_memory(teacher)
        targets.append(Distillation(parakeet(), teacher, DistillConfig(), bf16).target(inputs).float())
        assert weights_in_memory(teacher) < 0.6 * before if bf16 else weights_in_memory(teacher) == before
    assert not torch.equal(*targets)
    torch.testing.assert_close(targets[1], targets[0], rtol=0.1, atol=0.1)


class EightBit(AdamW):
    """What torchao's optimizer is to its callers: rates are tensors, and nothing ascends."""

    def __init__(self, entries: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        assert not any("maximize" in entry for entry in entries)
        super().__init__(entries, betas=betas)
        for group in self.param_groups:
            group["lr"] = torch.tensor(group["lr"])


def test_an_optimizer_of_eight_bits_is_torchaos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.training.loop.optimizer.EIGHT_BIT", "no_such_package")
    with pytest.raises(ValueError, match="optim is 'adamw_8bit'; install no_such_package, which has it, or give adamw"):
        require_optimizer("adamw_8bit")
    package = ModuleType("eight_bits.optim")
    package.AdamW8bit = EightBit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eight_bits", ModuleType("eight_bits"))
    monkeypatch.setitem(sys.modules, "eight_bits.optim", package)
    monkeypatch.setattr("compress.training.loop.optimizer.EIGHT_BIT", "eight_bits")
    down, up = (nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [ParameterGroup("weights", [down], 0.1), ParameterGroup("multipliers", [up], 0.1, maximize=True)]
    optimizer = build_optimizer(groups, "adamw_8bit")
    set_learning_rates(optimizer, {"weights": 0.5})
    (down + up).sum().backward()
    optimizer.step()
    assert isinstance(optimizer, EightBit)
    torch.testing.assert_close(down.detach(), torch.full((3,), 0.5))
    torch.testing.assert_close(up.detach(), torch.full((3,), 1.1))
