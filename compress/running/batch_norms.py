"""What batch norms go by: the batch at hand or their running statistics, and whether those follow a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_State = tuple[bool, Tensor | None, Tensor | None]
"""Whether a batch norm goes by the batch, and its running mean and variance."""


@contextmanager
def unchanged_statistics(model: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of a model from following the forward passes inside."""
    norms = _norms(model)
    settings = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, tracked in settings:
            norm.momentum, norm.num_batches_tracked = momentum, tracked


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, batch norms normalise by their running statistics, as in use, and leave them as they are.

    They go by copies, so that what follows before the backward pass does not change what that finds.
    """
    held = [(False, _copied(mean), _copied(variance)) for _, mean, variance in _states(model)]
    with _in_states(model, held):
        yield


def computed_again(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a forward pass and of its repetition in the backward pass (`torch.utils.checkpoint`).

    The repetition normalises by what the forward pass has normalised by, and does not count twice.

    Args:
        module: as its forward pass begins.
    """
    states = _states(module)

    @contextmanager
    def again() -> Iterator[None]:
        with _in_states(module, states), unchanged_statistics(module):
            yield

    return nullcontext(), again()


@contextmanager
def _in_states(model: nn.Module, states: Sequence[_State]) -> Iterator[None]:
    before = _states(model)
    _set(model, states)
    try:
        yield
    finally:
        _set(model, before)


def _states(model: nn.Module) -> list[_State]:
    return [(norm.training, norm.running_mean, norm.running_var) for norm in _norms(model)]


def _set(model: nn.Module, states: Sequence[_State]) -> None:
    for norm, (training, mean, variance) in zip(_norms(model), states, strict=True):
        norm.training, norm.running_mean, norm.running_var = training, mean, variance


def _copied(statistic: Tensor | None) -> Tensor | None:
    return None if statistic is None else statistic.clone()


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
