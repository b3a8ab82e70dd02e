"""Steps that are not finite: where they began, what is skipped, and when a run gives up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.data import Batch
from compress.deciding.budget import BudgetConfig, Lagrangian, make_budget
from compress.deciding.gates import GateConfig
from compress.training.loop.finite import FiniteGuard, NotFiniteError
from compress.training.loop.losses import Losses
from compress.training.student import GatedStudent
from tests.helpers.tiny import parakeet

ONE = Losses.summed({"layers": torch.tensor(1.0)})
IDS = ["a.wav", "b.wav", "c.wav", "d.wav"]


class Model(nn.Module):
    """Takes a batch as the models of the families do."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.up(features))


def make_guard(model: nn.Module, limit: int = 3, **models: nn.Module) -> FiniteGuard:
    return FiniteGuard(model, models or {"student": model}, limit)


def make_batch(features: Tensor, name: str = "features") -> Batch:
    return Batch({name: features}, torch.zeros(len(features), 1), IDS[: len(features)], [], 1.0)


def step(guard: FiniteGuard, model: nn.Module, features: Tensor, factor: float = 1.0) -> bool:
    guard.remember()
    loss = factor * model(features).square().mean()
    loss.backward()
    accepted = guard.accepts(Losses(loss, {"layers": loss}), [make_batch(features)], step=5)
    model.zero_grad()
    return accepted


def test_a_bad_file_is_named_and_its_step_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    guard = make_guard(model)
    assert step(guard, model, torch.randn(4, 2))
    mean, features = model.norm.running_mean.clone(), torch.randn(4, 2)
    features[2, 1] = torch.nan
    assert not step(guard, model, features)
    assert torch.equal(model.norm.running_mean, mean)
    assert guard.skipped == 1
    assert "Step 5 is not finite. It began in the input features of c.wav. Losses: layers nan" in caplog.text
    assert "utterances: a.wav, b.wav, c.wav, d.wav. Skipped (1 of at most 3)" in caplog.text


def test_gives_up_at_the_limit_counted_over_a_resume() -> None:
    model = Model()
    guard = make_guard(model, limit=2)
    assert not step(guard, model, torch.full((4, 2), torch.inf))
    resumed = make_guard(model, limit=2)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(NotFiniteError, match=r"b.wav.*lower the learning rate"):
        step(resumed, model, torch.full((4, 2), torch.inf))


def test_the_module_where_it_began_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model, features = Model(), torch.randn(4, 2)
    features[1] = 3e38  # finite, but its projection is not
    with torch.no_grad():
        model.up.weight.fill_(10.0)
    assert not step(make_guard(model), model, features)
    assert "It began in the output of the student's up for b.wav" in caplog.text


def test_a_teacher_that_overflows_is_named(caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = Model(), Model().eval()
    with torch.no_grad():
        teacher.up.weight.fill_(3e38)
    guard = make_guard(student, teacher=teacher, student=student)
    features = torch.full((4, 2), 10.0)
    loss = (student(features) - teacher(features)).square().mean()
    loss.backward()
    assert not guard.accepts(Losses(loss, {"layers": loss}), [make_batch(features)], step=5)
    assert "It began in the output of the teacher's up for a.wav, b.wav, c.wav, d.wav" in caplog.text


def test_a_loss_or_a_gradient_alone_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    guard = make_guard(model)
    assert not step(guard, model, torch.randn(4, 2), factor=torch.inf)
    assert "It began in the loss layers" in caplog.text
    features = torch.randn(4, 2)
    model(features).sum().backward()
    model.up.weight.grad[2, 1] = torch.nan
    assert not guard.accepts(ONE, [make_batch(features)], step=6)
    assert "It began in the gradient of up.weight[2, 1]" in caplog.text


def gated_student() -> GatedStudent:
    model = parakeet()
    budget = make_budget(BudgetConfig(params="70%"), model.config)
    return GatedStudent(model, GateConfig(), budget, Lagrangian(budget.fraction, 1), seed=0)


def gated_step(student: GatedStudent, guard: FiniteGuard, **spoil: Any) -> bool:
    features = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(0))
    guard.remember()
    student.draw()
    loss = student(input_features=features).square().mean() + student.lagrangian(student.expected_share(), 1)
    loss.backward()
    if spoil:
        student.gates.log_alpha.grad[spoil["gate"]] = torch.nan
    return guard.accepts(Losses(loss, {"layers": loss}), [make_batch(features, "input_features")], step=7)


def test_a_gate_is_named_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    student = gated_student()
    guard = FiniteGuard(student, {"student": student.model}, limit=3)
    group = next(group for group in student.gates.groups if group.kind == "conv_channel")
    assert gated_step(student, guard)
    assert not gated_step(student, guard, gate=group.start + 3)
    assert f"It began in the gradient of the gate {group.name}[3]" in caplog.text


def test_a_gate_or_weight_that_is_spoilt_itself_stops_at_once() -> None:
    """Skipping would go on to the limit, and write the spoilt weights into checkpoints on the way."""
    student = gated_student()
    guard = FiniteGuard(student, {"student": student.model}, limit=100)
    whole = next(group for group in student.gates.groups if group.kind == "module")
    with torch.no_grad():
        student.gates.log_alpha[whole.start] = torch.nan
    with pytest.raises(NotFiniteError, match=rf"It began in the gate {whole.name}\. .*Nothing was written since"):
        gated_step(student, guard)
    with pytest.raises(NotFiniteError, match=rf"After step 7 the model is not finite: the gate {whole.name}\."):
        guard.confirm(7)


def test_every_gate_has_a_name() -> None:
    gates = gated_student().gates
    names = [gates.entry_name(index) for index in range(len(gates.log_alpha))]
    assert len(set(names)) == len(names)
    assert names[0] == "blocks.0.ffn1.module"
    assert names[1] == "blocks.0.ffn1.ffn_unit[0]"


def test_a_sum_that_overflows_is_told_apart() -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.full((1, 2), 3e38)
    guard = FiniteGuard(model, {}, limit=1)
    with pytest.raises(NotFiniteError, match="too large a number"):
        guard.accepts(ONE, [make_batch(torch.zeros(2, 1))], step=1)
