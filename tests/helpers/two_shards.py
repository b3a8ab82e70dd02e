"""Run on two processes (see test_sharding.py): a gated student in pieces against one that is whole, as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import compress
from compress.data import Batch, SpeechConfig
from compress.training.distill import DistillConfig
from compress.training.loop import processes
from compress.training.loop.checkpoints import Checkpoints
from compress.training.loop.counts import Counts
from compress.training.loop.gradients import accumulate
from compress.training.loop.optimizer import WEIGHTS, build_optimizer, parameters_of
from compress.training.loop.savings import recomputed
from compress.training.loop.schedule import LearnConfig
from compress.training.loop.sharding import Sharding, own_piece, shorten
from compress.training.run import RunConfig, make_accelerator
from compress.training.student import GatedStudent
from tests.helpers.rank_results import leave_with
from tests.helpers.tiny import parakeet, random_structure
from tests.helpers.two_shares import distilling, gated, ready, some

STEPS = 3
OWN = (((0, 3), (1,)), ((2,), (4, 5, 6)))
"""The utterances of each batch of each rank in every step."""
LONGEST = 0.5


class Training:
    """Steps of gate learning, by one process alone or by two."""

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        small = compress.remove(parakeet(), random_structure(parakeet(), 4))  # whose widths do not halve
        net, self.loss_step = distilling(gated(small), parakeet(seed=1), DistillConfig(inner=0.5))
        self.student: GatedStudent = ready(net)
        settings = LearnConfig(learning_rate=0.01, gate_learning_rate=0.05)
        optimizer = build_optimizer(self.student.groups(settings, weight_decay=0.01))
        self.sharding, self.wrapped, self.optimizer = None, self.student, optimizer
        if accelerator:
            self.sharding = Sharding(accelerator, self.student)
            self.wrapped, self.optimizer = self.sharding.prepare(optimizer)

    def step(self, batches: list[Batch]) -> list[float]:
        """Takes a step; gives its loss and the norm of its gradient."""
        self.student.draw()
        losses: Any
        if self.accelerator:
            losses = accumulate(self.accelerator, self.wrapped, self.student.model, batches, self.losses)
        else:
            losses = self.losses(batches[0], Counts())
            losses.total.backward()
        norm = shorten(parameters_of(self.optimizer, WEIGHTS), LONGEST)
        self.optimizer.step()
        self.student.after_step()
        self.optimizer.zero_grad()
        return [float(processes.averaged(losses.total.detach())), float(norm)]

    def losses(self, batch: Batch, counts: Counts) -> Any:
        """The two compute blocks twice, which changes nothing."""
        with recomputed(self.student.model, wanted=self.accelerator is not None):
            return self.loss_step(self.wrapped, batch, counts)


def difference(some_tensors: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert some_tensors.keys() == others.keys()
    return max(float((some_tensors[name] - others[name]).abs().max()) for name in others if others[name].numel())


@torch.no_grad()
def apart(student: nn.Module, other: nn.Module) -> float:
    """The distance of all weights together."""
    pairs = zip(student.parameters(), other.parameters(), strict=True)
    return float(torch.stack([(one - two).square().sum() for one, two in pairs]).sum().sqrt())


def uneven(student: nn.Module) -> list[str]:
    """Parameters whose first dimension the two ranks cannot halve."""
    sizes = processes.gather({name: list(own_piece(value).shape) for name, value in student.named_parameters()})
    return sorted(name for name, size in sizes[0].items() if size != sizes[1][name])


def main(out: str) -> None:
    config = RunConfig(output=out, data=SpeechConfig("none"), accumulate=2, trackers=(), threads=1)
    accelerator = make_accelerator(config, shardable=True)
    alone, two = Training(), Training(accelerator)
    assert two.sharding is not None
    everything = [some([u for rank in OWN for batch in rank for u in batch])]
    own = [some(utterances) for utterances in OWN[processes.rank()]]
    steps = [(two.step(own), alone.step(everything)) for _ in range(STEPS)]
    whole = two.sharding.whole()
    checkpoints = Checkpoints(Path(out).with_suffix(""))
    checkpoints.save(STEPS, two.student.states(), two.wrapped, two.optimizer)
    after = two.step(own)

    plain = Training()
    checkpoints.restore(plain.student.states(), plain.wrapped, plain.optimizer)

    again = Training(accelerator)
    assert again.sharding is not None
    checkpoints.restore(again.student.states(), again.wrapped, again.optimizer)
    buffers = processes.gather(dict(again.sharding.whole().named_buffers()))
    result = {
        "is_sharded": two.sharding.is_on,
        "uneven": uneven(two.student),
        "pieces": sum(own_piece(p).numel() for p in two.student.parameters()) / whole_size(alone.student),
        "steps": steps,
        "whole_minus_alone": apart(whole, alone.student) / apart(Training().student, alone.student),
        "after": [after, again.step(own)],
        "resumed_minus_went_on": difference(
            dict(again.sharding.whole().state_dict()), dict(two.sharding.whole().state_dict())
        ),
        "loaded_whole_minus_saved": difference(dict(plain.student.state_dict()), dict(whole.state_dict())),
        "buffers_differ": difference(*buffers),
    }
    leave_with(accelerator, out, result)


def whole_size(student: nn.Module) -> int:
    return sum(parameter.numel() for parameter in student.parameters())


if __name__ == "__main__":
    main(sys.argv[1])
