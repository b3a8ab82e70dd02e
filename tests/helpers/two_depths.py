"""Run by torchrun on two processes (see test_two_depths.py): what ranks agree on when blocks are dropped, as JSON."""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from compress.conformers import blocks_of
from compress.training.inter_ctc import InterCtcConfig
from compress.training.loop import processes
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import Recogniser
from tests.helpers.rank_results import leave_with
from tests.helpers.tiny import parakeet

STEPS = 12


def loss_of(recogniser: Any, step: int) -> Tensor:
    """Other speech on every rank and in every step; the head of a tap behind a dropped block is used all the same."""
    generator = torch.Generator().manual_seed(100 * step + processes.rank())
    features = torch.randn(2, 40 + 8 * processes.rank(), 16, generator=generator)
    return torch.stack([logits.square().mean() for logits in recogniser(input_features=features)]).sum()


def gradients(recogniser: Recogniser) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in recogniser.named_parameters() if p.grad is not None}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def main(out: str) -> None:
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    model = parakeet()
    prepare_for_training(model, dropout=0.0)
    recogniser = Recogniser(
        model.train(), inter_ctc=InterCtcConfig(blocks=(0, 1), heads="separate"), stochastic_depth=0.8, seed=1
    )
    wrapped, optimizer = accelerator.prepare(recogniser, torch.optim.AdamW(recogniser.parameters(), lr=0.01))
    worst, drops, without = 0.0, [], []
    for step in range(STEPS):
        recogniser.draw()
        loss_of(recogniser, step).backward()  # of this rank alone
        every = processes.gather(gradients(recogniser))
        optimizer.zero_grad()
        accelerator.backward(loss_of(wrapped, step))
        averaged = gradients(recogniser)
        worst = max(worst, difference(averaged, {n: (every[0][n] + every[1][n]) / 2 for n in every[0]}))
        dropped = [bool(block.dropped) for block in blocks_of(model)]
        drops.append(processes.gather(dropped))
        names = [any(name.startswith(f"model.encoder.layers.{i}.") for name in averaged) for i in range(len(dropped))]
        without.append(names == [not one for one in dropped])
        optimizer.step()
        optimizer.zero_grad()
    weights = processes.gather({name: p.detach() for name, p in recogniser.named_parameters()})
    result = {
        "averaged_minus_mean": worst,
        "drops": drops,
        "dropped_blocks_have_no_gradient": without,
        "weights_differ": difference(*weights),
    }
    del wrapped, optimizer
    leave_with(accelerator, out, result)


if __name__ == "__main__":
    main(sys.argv[1])
