"""Interrupted and resumed equals never interrupted: the same losses and the same weights, bit for bit on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from compress.training.ctc import ctc_loss
from compress.training.loop.best import Best
from compress.training.loop.checkpoints import Checkpoints
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, weight_groups
from compress.training.loop.position import Position
from compress.training.loop.schedule import set_learning_rates, warmup_cosine

TOTAL_STEPS = 8
BATCHES = 3
BLANK = 7


class Loader:
    """Three batches an epoch; like many loaders, it draws from the global generator when an epoch is opened."""

    def batches_per_epoch(self, epoch: int) -> int:
        return BATCHES

    def epoch(self, epoch: int, start: int = 0, place: None = None) -> Iterator[tuple[Tensor, Tensor]]:
        torch.rand(1)
        for number in range(start, BATCHES):
            noise = torch.Generator().manual_seed(100 * epoch + number)
            yield torch.randn(2, 40, 16, generator=noise), torch.randint(0, BLANK, (2, 3), generator=noise)


def run(model: nn.Module, folder: Path, *, stop_at: int = TOTAL_STEPS) -> tuple[list[float], dict[str, Tensor]]:
    multiplier = nn.Parameter(torch.zeros(1))
    groups = [*weight_groups(model, 1e-2, 0.1), ParameterGroup("multipliers", [multiplier], 0.1, maximize=True)]
    wrapped, optimizer = Accelerator(cpu=True).prepare(model, build_optimizer(groups))
    position, best, losses, step = Position(), Best(), [], 0
    checkpoints = Checkpoints(folder)
    torch.manual_seed(7)
    if restored := checkpoints.restore({"position": position, "best": best}, wrapped, optimizer):
        step = restored.step
        with torch.no_grad():
            multiplier.copy_(restored.states["multiplier"]["value"])
    batches = position.stream(Loader())
    while step < stop_at:
        set_learning_rates(optimizer, {WEIGHTS: 1e-2 * warmup_cosine(step, TOTAL_STEPS, 2)})
        features, labels = next(batches)
        logits = wrapped(input_features=features).logits
        loss, _ = ctc_loss(logits, torch.full((2,), logits.shape[1]), labels, BLANK)
        (loss + multiplier.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        losses.append(loss.item())
        best.improved(loss.item(), step)
        states = {"position": position, "best": best, "multiplier": {"value": multiplier.detach().clone()}}
        checkpoints.save(step, states, wrapped, optimizer)
    return losses, {**model.state_dict(), "multiplier": multiplier.detach()}


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_resumed_equals_uninterrupted(tiny_model: nn.Module, tmp_path: Path, stop_at: int) -> None:
    weights = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    whole_losses, whole = run(tiny_model, tmp_path / "whole")
    whole = {name: tensor.clone() for name, tensor in whole.items()}

    tiny_model.load_state_dict(weights)
    first_losses, _ = run(tiny_model, tmp_path / "parts", stop_at=stop_at)
    for parameter in tiny_model.parameters():  # nothing may come from the model's present weights
        torch.nn.init.uniform_(parameter)
    last_losses, parts = run(tiny_model, tmp_path / "parts")

    assert first_losses + last_losses == whole_losses
    assert len(whole_losses) == TOTAL_STEPS
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
