"""Run by torchrun on two processes (see test_supernet.py): what ranks agree on in both stages, as JSON."""

from __future__ import annotations

import sys
from typing import Any, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from compress.elastic.supernet import SelectionConfig
from compress.elastic.supernet.methods import Method
from compress.elastic.supernet.zero_out import ZeroOutConfig
from compress.training.loop import processes
from compress.training.supernet import JointConfig, JointNet, SelectionNet
from tests.helpers.rank_results import leave_with
from tests.helpers.stages import joint, selecting
from tests.helpers.tiny import parakeet
from tests.helpers.two_depths import difference

STEPS = 8


def loss_of(runner: Any, net: SelectionNet | JointNet, step: int) -> Tensor:
    """Other speech on every rank and in every step; what a selection adds is computed outside the forward pass."""
    generator = torch.Generator().manual_seed(100 * step + processes.rank())
    features = torch.randn(2, 40 + 8 * processes.rank(), 16, generator=generator)
    losses = [logits.square().mean() for logits in runner(input_features=features)]
    if isinstance(net, SelectionNet):
        losses += net.selection.penalties(step).values()
    return torch.stack(losses).sum()


def gradients(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def trained(net: SelectionNet | JointNet, accelerator: Accelerator) -> dict[str, Any]:
    """Steps on both ranks, each once by itself and once together."""
    wrapped, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), lr=0.01))
    worst, choices = 0.0, []
    for step in range(STEPS):
        net.prepare(step)
        loss_of(net, net, step).backward()  # of this rank alone
        every = processes.gather(gradients(net))
        optimizer.zero_grad()
        accelerator.backward(loss_of(wrapped, net, step))
        averaged = gradients(net)
        worst = max(worst, difference(averaged, {n: (every[0][n] + every[1][n]) / 2 for n in every[0]}))
        choices.append(processes.gather(net.running if isinstance(net, JointNet) else net.selection.kept(step)))
        optimizer.step()
        net.after_step()
        optimizer.zero_grad()
    weights = processes.gather({name: p.detach() for name, p in net.named_parameters()})
    return {"averaged_minus_mean": worst, "weights_differ": difference(*weights), "choices": choices}


def main(out: str) -> None:
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    cuts = ZeroOutConfig(iterations=4)
    configs = [SelectionConfig(method, zero_out=cuts) for method in get_args(Method)[:4]]
    found = {config.method: trained(selecting(parakeet(), config), accelerator) for config in configs}
    found["joint"] = trained(joint(parakeet(), JointConfig(), (11, 8, 5, 2)), accelerator)
    leave_with(accelerator, out, found)


if __name__ == "__main__":
    main(sys.argv[1])
