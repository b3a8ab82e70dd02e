"""Run by torchrun on two processes (see test_supernet.py): what ranks agree on in both stages, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from compress.elastic.supernet import SelectionConfig
from compress.training import processes
from compress.training.supernet import JointConfig, JointNet, SelectionNet
from tests.tiny import parakeet
from tests.training.test_supernet import joint, selecting
from tests.training.two_depths import difference

STEPS = 8


def loss_of(net: Any, step: int) -> Tensor:
    """Other speech on every rank and in every step."""
    generator = torch.Generator().manual_seed(100 * step + processes.rank())
    features = torch.randn(2, 40 + 8 * processes.rank(), 16, generator=generator)
    return torch.stack([logits.square().mean() for logits in net(input_features=features)]).sum()


def gradients(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def trained(net: SelectionNet | JointNet, accelerator: Accelerator) -> dict[str, Any]:
    """Steps on both ranks, each once by itself and once together."""
    wrapped, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), lr=0.01))
    worst, choices = 0.0, []
    for step in range(STEPS):
        net.step = step
        noise = net.noise.state_dict() if isinstance(net, JointNet) else {}
        loss_of(net, step).backward()  # of this rank alone
        every = processes.gather(gradients(net))
        optimizer.zero_grad()
        if isinstance(net, JointNet):
            net.noise.load_state_dict(noise)
        accelerator.backward(loss_of(wrapped, step))
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
    first = trained(selecting(parakeet(), SelectionConfig()), accelerator)
    second = trained(joint(parakeet(), JointConfig(), (11, 8, 5, 2)), accelerator)
    is_main = processes.rank() == 0
    processes.leave(accelerator)
    if is_main:
        Path(out).write_text(json.dumps({"select": first, "joint": second}))


if __name__ == "__main__":
    main(sys.argv[1])
