"""Losses: what is minimised, and under which names each number is reported."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from compress.training.loop.losses import Losses

PARTS = {"layers": torch.tensor(2.0), "ctc": torch.tensor(0.5)}


def test_the_total_of_weighted_parts_is_their_sum() -> None:
    weights = torch.tensor([1.0, 2.0], requires_grad=True)
    losses = Losses.summed({"layers": weights[0] * 3, "ctc": weights[1]})
    losses.total.backward()
    assert losses.total.item() == 5.0
    assert weights.grad is not None
    assert weights.grad.tolist() == [3.0, 1.0]


def test_losses_are_reported_as_losses_and_metrics_are_not() -> None:
    losses = Losses.summed(PARTS).with_metrics(gradient_norm=4.0).with_metrics(skipped_frames=0.25)
    reported = {"loss/layers": 2.0, "loss/ctc": 0.5, "loss/total": 2.5, "gradient_norm": 4.0, "skipped_frames": 0.25}
    assert {name: float(value) for name, value in losses.reported().items()} == reported


def test_metrics_leave_the_losses_as_they_were() -> None:
    losses = Losses.summed(PARTS)
    losses.with_metrics(gradient_norm=4.0)
    assert losses.metrics == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        losses.total = torch.tensor(0.0)  # type: ignore[misc]


def test_what_is_not_finite_is_named() -> None:
    assert Losses.summed(PARTS).not_finite() == []
    assert Losses.summed({**PARTS, "budget": torch.tensor(torch.nan)}).not_finite() == ["budget"]
    assert Losses(torch.tensor(torch.inf), PARTS).not_finite() == ["total"]
