"""Run on two processes (see test_sharding.py): what is trained in pieces against what is whole, as JSON."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _BatchNorm

import compress
from compress.conformers import blocks_of
from compress.data import Batch, SpeechConfig
from compress.elastic import make_elastic
from compress.elastic.supernet import SelectionConfig
from compress.structure import Block, Structure
from compress.training.distill import DistillConfig
from compress.training.inter_ctc import InterCtcConfig
from compress.training.loop import processes
from compress.training.loop.checkpoints import Checkpoints
from compress.training.loop.counts import Counts
from compress.training.loop.gradients import accumulate
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, parameters_of, weight_groups
from compress.training.loop.savings import recomputed
from compress.training.loop.schedule import LearnConfig
from compress.training.loop.sharding import Sharding, own_piece, shorten
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import Recogniser
from compress.training.run import RunConfig, make_accelerator
from compress.training.student import Student
from compress.training.supernet import JointConfig, JointNet, StageNet
from compress.training.supervised import OptimizerConfig
from tests.helpers.rank_results import leave_with
from tests.helpers.stages import selecting
from tests.helpers.tiny import parakeet, random_structure
from tests.helpers.two_shares import LossStep, distilling, gated, ready, some, supervised

STEPS = 2
OWN = (((0, 3), (1,)), ((2,), (4, 5, 6)))
"""The utterances of each batch of each rank in every step."""
LONGEST = 0.5
RATE = 0.01


def small() -> Any:
    """A model whose widths do not halve."""
    return compress.remove(parakeet(), random_structure(parakeet(), 4))


def odd() -> Any:
    """The same, with all its blocks."""
    return compress.remove(parakeet(), Structure("parakeet", (Block(conv=tuple(range(31))),) * 3))


def elastic() -> Any:
    """One that passes the first block over at some sizes, and runs a part of another."""
    first = (None, Block(ffn1=tuple(range(20)), conv=None), Block())
    sizes = {"third": first, "half": (None, Block(), Block(attention=None))}
    structures = {name: Structure("parakeet", blocks) for name, blocks in sizes.items()}
    model = make_elastic(odd(), structures, JointConfig().own)
    prepare_for_training(model)
    return model


CASES: Mapping[str, Callable[[], tuple[Any, LossStep]]] = {
    "gates": lambda: distilling(gated(small()), parakeet(seed=1), DistillConfig(inner=0.5)),
    "recogniser": lambda: supervised(
        Recogniser(small(), inter_ctc=InterCtcConfig(blocks=(0,), heads="separate"), stochastic_depth=0.7, seed=18)
    ),
    "select": lambda: supervised(selecting(odd(), SelectionConfig("zero_out"))),
    "joint": lambda: supervised(JointNet(elastic(), JointConfig(distill=0.5, stochastic_depth=0.0), seed=0)),
}
"""What the recipes train, with its losses."""


def groups_of(net: Any) -> list[ParameterGroup]:
    if isinstance(net, Student):
        return net.groups(LearnConfig(learning_rate=RATE, gate_learning_rate=0.05), weight_decay=0.01)
    if isinstance(net, StageNet):
        return net.groups(OptimizerConfig(learning_rate=RATE))
    return weight_groups(net, RATE, weight_decay=0.01)


class Training:
    """Steps of what a recipe trains, by one process alone or by two."""

    def __init__(self, case: str, accelerator: Any = None) -> None:
        self.accelerator, self.number = accelerator, 0
        net, self.loss_step = CASES[case]()
        self.net = ready(net)
        optimizer = build_optimizer(groups_of(self.net))
        self.sharding, self.wrapped, self.optimizer = None, self.net, optimizer
        if accelerator:
            self.sharding = Sharding(accelerator, self.net)
            self.wrapped, self.optimizer = self.sharding.prepare(optimizer)

    def step(self, batches: list[Batch]) -> list[float]:
        """Takes a step; gives its loss and the norm of its gradient."""
        staged = isinstance(self.net, StageNet)
        self.net.prepare(self.number) if staged else self.net.draw()
        self.number += 1
        losses: Any
        if self.accelerator:
            losses = accumulate(self.accelerator, self.wrapped, self.net.model, batches, self.losses)
        else:
            losses = self.losses(batches[0], Counts())
            losses.total.backward()
        norm = shorten(parameters_of(self.optimizer, WEIGHTS), LONGEST)
        self.optimizer.step()
        if not isinstance(self.net, Recogniser):
            self.net.after_step()
        self.optimizer.zero_grad()
        return [float(processes.averaged(losses.total.detach())), float(norm)]

    def losses(self, batch: Batch, counts: Counts) -> Any:
        """The two compute blocks twice, which changes nothing."""
        staged = isinstance(self.net, StageNet)
        with recomputed(self.net.model, wanted=self.accelerator is not None and not staged):
            return self.loss_step(self.wrapped, batch, counts)

    def follow(self) -> None:
        """Lets running statistics follow the batches, which are each rank's own."""
        for module in self.net.modules():
            if isinstance(module, _BatchNorm):
                module.train()


def difference(some_tensors: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert some_tensors.keys() == others.keys()
    return max(float((some_tensors[name] - others[name]).abs().max()) for name in others if others[name].numel())


@torch.no_grad()
def apart(weights: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    """The distance of all weights together."""
    pairs = zip(weights, others, strict=True)
    return float(torch.stack([(one - two).square().sum() for one, two in pairs]).sum().sqrt())


def pieces(net: nn.Module) -> dict[str, Tensor]:
    """What this rank holds."""
    return {name: own_piece(tensor) for name, tensor in net.state_dict().items()}


def uneven(net: nn.Module) -> list[str]:
    """Parameters whose first dimension the two ranks cannot halve."""
    sizes = processes.gather({name: list(own_piece(value).shape) for name, value in net.named_parameters()})
    return sorted(name for name, size in sizes[0].items() if size != sizes[1][name])


def compared(accelerator: Any, case: str, folder: Path) -> dict[str, Any]:
    """Steps in pieces and alone, then two ways on from a checkpoint; it is saved where the ranks' statistics differ."""
    alone, two = Training(case), Training(case, accelerator)
    assert two.sharding is not None
    start = copy.deepcopy(list(alone.net.parameters()))
    everything = [some([u for rank in OWN for batch in rank for u in batch])]
    own = [some(utterances) for utterances in OWN[processes.rank()]]
    steps = [(two.step(own), alone.step(everything)) for _ in range(STEPS)]
    far = apart(two.sharding.whole().parameters(), alone.net.parameters()) / apart(start, alone.net.parameters())
    two.follow()
    two.step(own)
    whole = two.sharding.whole()
    differing = difference(*processes.gather(dict(two.net.named_buffers())))
    checkpoints = Checkpoints(folder / case)
    checkpoints.save(two.number, two.net.states(), two.wrapped, two.optimizer)
    after = two.step(own)

    plain = Training(case)
    checkpoints.restore(plain.net.states(), plain.wrapped, plain.optimizer)

    again = Training(case, accelerator)
    assert again.sharding is not None
    again.follow()
    again.number = STEPS + 1
    checkpoints.restore(again.net.states(), again.wrapped, again.optimizer)
    buffers = processes.gather(dict(again.net.named_buffers()))
    resumed = again.step(own)
    return {
        "is_sharded": two.sharding.is_on and all(isinstance(block, FSDPModule) for block in blocks_of(two.net.model)),
        "uneven": uneven(two.net),
        "pieces": sum(own_piece(p).numel() for p in two.net.parameters()) / whole_size(alone.net),
        "steps": steps,
        "whole_minus_alone": far,
        "after": [after, resumed],
        "resumed_minus_went_on": max(processes.gather(difference(pieces(two.net), pieces(again.net)))),
        "loaded_whole_minus_saved": difference(dict(plain.net.state_dict()), dict(whole.state_dict())),
        "buffers_differed": differing,
        "buffers_differ": difference(*buffers),
    }


def whole_size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def main(out: str) -> None:
    config = RunConfig(output=out, data=SpeechConfig("none"), accumulate=2, trackers=(), threads=1)
    accelerator = make_accelerator(config)
    found = {case: compared(accelerator, case, Path(out).with_suffix("")) for case in CASES}
    leave_with(accelerator, out, found)


if __name__ == "__main__":
    main(sys.argv[1])
