"""A device that is not the CPU, on which everything is computed by the CPU: what was made in the wrong place is found.

Run as a program (see test_devices.py), since a process has it for good: one step of everything that is trained, and
what is put together of a model that was taken there to be sharded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from compress.data import Batch
from compress.training.loop.counts import Counts
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, parameters_of
from compress.training.loop.schedule import LearnConfig
from compress.training.loop.sharding import Sharding, shorten
from compress.training.recogniser import Recogniser
from compress.training.student import GatedStudent, Student
from tests.helpers.tiny import CTC_MODELS, batch
from tests.helpers.two_shares import CASES, draw, ready, some

NAME = "elsewhere"
MOVES = ("aten._to_copy", "aten.copy_", "aten._copy_from", "aten._local_scalar_dense")
"""What may have tensors of both devices; numbers (tensors without dimensions) may be anywhere."""

BUFFERED = ("parakeet", "granite_speech5", "wav2vec2_bert-relative", "lasr")
"""Models with buffers that no state holds."""


class WrongDeviceError(Exception):
    """An operation on tensors of several devices."""


class Elsewhere(Tensor):
    """A tensor on the other device; what it holds is on the CPU."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(), dtype=inside.dtype,
            device=torch.device(NAME, 0), requires_grad=inside.requires_grad,
        )  # fmt: skip
        made.inside = inside
        return made

    def tolist(self) -> Any:
        """As of any tensor; torch has none for tensors of other classes."""
        return self.inside.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class OtherDevice(TorchDispatchMode):
    """Inside, there is the other device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Constants(TorchFunctionMode):
    """Inside, tensors of numbers come to the other device by way of the CPU, as torch copies them elsewhere itself."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and own.get("device") is not None:
            device = own.pop("device")
            return func(*args, **own).to(device)
        return func(*args, **own)


def computed(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Computes an operation on the CPU, and puts the result where it belongs.

    Raises:
        WrongDeviceError: if tensors are on several devices.
    """
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
    there = len(tensors) > len(here)
    if there and any(tensor.ndim for tensor in here) and not str(func).startswith(MOVES):
        raise WrongDeviceError(f"{func} of {', '.join(f'{tensor.device}{list(tensor.shape)}' for tensor in tensors)}")
    device = kwargs.get("device")
    stays = there if device is None else torch.device(device).type == NAME
    if str(func).startswith("aten.copy_"):
        stays = isinstance(args[0], Elsewhere)
    own = {
        key: torch.device("cpu") if key == "device" and value is not None else value for key, value in kwargs.items()
    }
    result = func(*tree_map(opened, args), **tree_map(opened, own))
    if stays:
        result = tree_map(lambda value: Elsewhere(value) if isinstance(value, Tensor) else value, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there else result


def opened(value: Any) -> Any:
    return value.inside if isinstance(value, Elsewhere) else value


def step(net: Any, loss_step: Callable[..., Any], batch: Batch) -> float:
    """One step of a net where it is, and what follows it; gives its loss."""
    own = [ParameterGroup(WEIGHTS, list(net.parameters()), 0.01)]
    optimizer = build_optimizer(net.groups(LearnConfig(), 0.0) if isinstance(net, GatedStudent) else own)
    guard = FiniteGuard(net, {}, 1)
    guard.remember()
    draw(net)
    losses = loss_step(net, batch, Counts.of_step(net.model, [batch]))
    losses.total.backward()
    assert guard.accepts(losses, [batch], 0)
    shorten(parameters_of(optimizer, WEIGHTS), 1.0)
    optimizer.step()
    if isinstance(net, Student):
        net.after_step()
        net.statistics(1)
    return float(losses.total.detach())


def mixing() -> str:
    """What is said of a tensor that was made in the wrong place."""
    try:
        return str(torch.ones(3, device=NAME) + torch.ones(3))
    except WrongDeviceError as error:
        return str(error)


def on(name: str, device: str = "cpu") -> tuple[Any, Callable[..., Any]]:
    """A net, ready for training on a device, and its losses."""
    net, loss_step = CASES[name]()
    net = ready(net).to(device)
    assert {parameter.device.type for parameter in net.parameters()} == {device}
    return net, loss_step


@torch.no_grad()
def put_together(name: str, device: str = "cpu") -> float:
    """Sums up what a whole model writes, put together of one that was built here and taken to a device by `prepare`."""
    net = Recogniser(CTC_MODELS[name]().eval())
    accelerator: Any = SimpleNamespace(distributed_type=DistributedType.FSDP)
    sharding, inputs = Sharding(accelerator, net), batch(net.model)
    net.to(device)
    twin = sharding.whole().model
    assert {tensor.device.type for tensor in (*twin.parameters(), *twin.buffers())} == {device}
    return float(twin(**{key: value.to(device) for key, value in inputs.items()}).logits.abs().sum())


def main(out: str) -> None:
    _setup_privateuseone_for_python_backend(NAME, Backend())
    heard = some([0, 1, 2])
    here = {name: step(*on(name), heard) for name in CASES}
    whole_here = {name: put_together(name) for name in BUFFERED}
    with OtherDevice(), Constants():
        there = {name: step(*on(name, NAME), heard.to(torch.device(NAME))) for name in CASES}
        whole_there = {name: put_together(name, NAME) for name in BUFFERED}
        steps = {"here": here, "there": there, "mixing": mixing()}
        Path(out).write_text(json.dumps(steps | {"whole_here": whole_here, "whole_there": whole_there}))


if __name__ == "__main__":
    main(sys.argv[1])
