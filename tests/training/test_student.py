"""The student with gates: what begins its phase, what it adds to the losses, and what its gates leave in the end."""

from __future__ import annotations

import pytest
import torch

import compress
from compress.conformers import frame_mask
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.deciding.gates import GateConfig
from compress.elastic import make_elastic
from compress.running.subnets import OWN, subnet_names
from compress.structure import Block, Structure
from compress.training.loop.optimizer import WEIGHTS, build_optimizer, parameters_of
from compress.training.loop.schedule import LearnConfig, PhaseConfig
from compress.training.preparation import prepare_for_training
from compress.training.student import GATES, MULTIPLIERS, GatedStudent, SizeWatch, Student
from tests.helpers.tiny import batch, parakeet

LEARN = LearnConfig(steps=10, warmup_steps=0, gate_learning_rate=0.3, multiplier_learning_rate=0.7, budget_warmup=0.4)


def gated() -> tuple[GatedStudent, dict[str, torch.Tensor]]:
    """A student at the beginning of its phase, and its teacher's weights before that."""
    teacher = parakeet().requires_grad_(False)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    budget = make_budget(BudgetConfig(params="70%"), teacher.config)
    student = GatedStudent.of(teacher, GateConfig(drop_rate=0.2), budget, LEARN, None, seed=0)
    with torch.no_grad():
        next(student.model.parameters()).add_(1.0)
    assert all(torch.equal(before[name], weight) for name, weight in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    return student, before


def test_weights_gates_and_multipliers_are_trained_each_at_its_rate() -> None:
    student, _ = gated()
    optimizer = build_optimizer(student.groups(LEARN, weight_decay=0.1))
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {WEIGHTS: LEARN.learning_rate, GATES: 0.3, MULTIPLIERS: 0.7}
    assert [group["name"] for group in optimizer.param_groups if group["maximize"]] == [MULTIPLIERS]
    assert parameters_of(optimizer, GATES) == [student.gates.log_alpha]
    everything = [parameter for name in rates for parameter in parameters_of(optimizer, name)]
    assert {id(p) for p in everything} == {id(p) for p in student.parameters() if p.requires_grad}
    plain = Student(parakeet())
    assert {group.name for group in plain.groups(PhaseConfig(1, 0.1), weight_decay=0.0)} == {WEIGHTS}
    assert (plain.states(), plain.losses(torch.zeros(1), torch.zeros(1), None, 0)) == ({}, {})


def test_the_budget_is_a_loss_whose_target_sinks_over_the_warmup() -> None:
    student, _ = gated()
    assert list(student.states()) == ["noise"]
    assert [student.lagrangian.target(step) for step in (0, 4, 9)] == pytest.approx([1.0, 0.7, 0.7], abs=1e-4)
    losses = student.losses(torch.zeros(1), torch.zeros(1), None, step=9)
    expected = student.lagrangian(student.expected_share(), 9)
    assert list(losses) == ["budget"]
    torch.testing.assert_close(losses["budget"], expected)
    assert student.expected_size() == pytest.approx(
        float(student.expected_share().detach()) * student.budget.table.full
    )


def test_folded_it_computes_what_the_removed_model_computes() -> None:
    student, _ = gated()
    structure = decide(student.budget, student.gates.scores())
    model = student.fold(structure).eval()
    small = compress.remove(model, structure)
    inputs = batch(model)
    with torch.no_grad():
        whole, removed = model(**inputs).logits, small(**inputs).logits
    mask = frame_mask(model, inputs, whole.shape[1])
    assert type(model) is type(parakeet())
    assert torch.allclose(whole[mask], removed[mask], atol=1e-5)


def test_of_an_elastic_teacher_the_full_size_is_the_student() -> None:
    """Layers of other sizes would get no gradient, at which distributed training stops."""
    sizes = {"half": Structure("parakeet", (Block(ffn1=(1, 3)), None, Block(attention=(1,))))}
    plain, teacher = parakeet(), make_elastic(parakeet(), sizes, OWN).eval().requires_grad_(False)
    budget = make_budget(BudgetConfig(params="70%"), teacher.config)
    assert budget.table.full == make_budget(BudgetConfig(params="70%"), plain.config).table.full
    student = GatedStudent.of(teacher, GateConfig(), budget, LEARN, None, seed=0)
    prepare_for_training(student.model, dropout=0.0)
    student.draw()
    logits = student(**batch(plain))
    losses = student.losses(logits, torch.ones(logits.shape[:2]), None, step=9)
    (logits.sum() + losses["budget"]).backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []
    assert torch.equal(student.detach().state_dict()["ctc_head.weight"], plain.ctc_head.weight)
    assert subnet_names(student.model) == ["3"]
    assert subnet_names(teacher) == ["half", "3"]


def test_gates_that_lag_behind_their_size_are_named_while_they_are_learned(caplog):
    watch = SizeWatch(100)
    for step, expected in ((50, 0.5), (80, 0.11), (80, 0.2), (90, 0.2)):
        watch.look(step, expected, 0.1)
    assert [record.getMessage()[:63] for record in caplog.records] == [
        "After 80 of 100 steps the expected size is 20.0 %, but its targ"
    ]
    SizeWatch(None).look(80, 0.2, 0.1)
    assert len(caplog.records) == 1
