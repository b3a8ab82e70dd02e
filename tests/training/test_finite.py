from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.training.finite import FiniteGuard, NotFiniteError


def step(guard: FiniteGuard, model: nn.Module, data: torch.Tensor) -> bool:
    guard.remember()
    loss = model(data).mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return guard.accepts(norm, loss, ["a.wav", "b.wav"], step=5)


def test_a_bad_step_is_skipped_named_and_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    guard = FiniteGuard(model, limit=3)
    assert step(guard, model, torch.randn(4, 2))
    mean = model[1].running_mean.clone()
    assert not step(guard, model, torch.full((4, 2), torch.nan))
    assert torch.equal(model[1].running_mean, mean)
    assert "Step 5: loss nan" in caplog.text
    assert "a.wav, b.wav" in caplog.text


def test_gives_up_at_the_limit_counted_over_a_resume() -> None:
    model = nn.Linear(2, 3)
    guard = FiniteGuard(model, limit=2)
    assert not step(guard, model, torch.full((4, 2), torch.inf))
    resumed = FiniteGuard(model, limit=2)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(NotFiniteError, match=r"b.wav.*lower the learning rate"):
        step(resumed, model, torch.full((4, 2), torch.inf))
