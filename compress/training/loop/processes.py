"""This process among its peers, for code that needs no more than rank, agreement and waiting; one process works too."""

from __future__ import annotations

import gc
from typing import Any

from accelerate import Accelerator
from torch import Tensor, distributed, nn


def rank() -> int:
    """This process's number, 0 if it is alone."""
    return distributed.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _several() else 1


def gather(value: Any) -> list[Any]:
    """Every rank's value, in order of rank. All ranks must call it; it also makes them wait for each other."""
    if not _several():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """Rank 0's value, on every rank: for decisions that must not differ."""
    if not _several():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def summed(tensor: Tensor) -> Tensor:
    """The sum over all ranks of a tensor that each has; all ranks must call it."""
    if _several():
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
    return tensor


def averaged(tensor: Tensor) -> Tensor:
    """The mean over all ranks of a tensor that each has; all ranks must call it."""
    return summed(tensor) / world_size()


def share_buffers(model: nn.Module) -> None:
    """Gives every rank the running statistics of rank 0, as DDP does before each training step."""
    if _several():
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def leave(accelerator: Accelerator) -> None:
    """Ends a run: closes its trackers, and ends the group of processes together with its threads.

    A prepared model keeps the group alive beyond its end; a thread of it that is still at work when Python exits brings
    the process down. Call it when nothing of the run holds a prepared model any more.
    """
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
