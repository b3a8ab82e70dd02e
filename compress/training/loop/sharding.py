"""Training a model whose weights are shared out over processes (FSDP2): in pieces, and in one piece again.

`accelerate` shards what it prepares: each block by itself, and what is around the blocks together. Parameters that are
read outside of a forward pass (gates, multipliers) stay whole on every process; they are small. Everything that is not
a step (evaluation, removal, what is written) sees the whole model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from transformers import PreTrainedModel

from compress.conformers import blocks_of
from compress.running.slimmable import SkippableBlock, make_skippable
from compress.training.loop import processes

logger = logging.getLogger(__name__)


class Shardable(nn.Module):
    """What is trained, as a module that can be shared out.

    Attributes:
        model: the model in it.
    """

    model: PreTrainedModel

    @property
    def _no_split_modules(self) -> list[str]:
        """The classes of which each module is sharded by itself, for `accelerate`: those of blocks."""
        return sorted({type(block).__name__ for block in blocks_of(self.model)})

    def kept_whole(self) -> Sequence[nn.Module]:
        """The parts that stay whole on every process."""
        return ()


Trained = TypeVar("Trained", bound=Shardable)


def shard_on_cpu(accelerator: Accelerator) -> None:
    """Lets several processes on a CPU shard, where runs are tried out; `accelerate` does so on accelerators alone."""
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        for state in (PartialState(), accelerator.state):  # the latter is made again from the former
            state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()


class Sharding(Generic[Trained]):
    """What is trained, in pieces if the launcher asks for it; where it does not, nothing here changes anything.

    Args:
        accelerator: knows what the launcher asks for.
        trained: as it is before hooks are on it; it is sharded in place.
    """

    def __init__(self, accelerator: Accelerator, trained: Trained) -> None:
        self.accelerator, self.trained = accelerator, trained
        self.is_on = accelerator.distributed_type == DistributedType.FSDP
        self._blank = _without_weights(trained) if self.is_on else None

    def prepare(self, optimizer: Optimizer) -> tuple[Any, Any]:
        """The module and its optimizer as several processes train them."""
        if self.is_on:
            self.accelerator.state.fsdp_plugin.ignored_modules = list(self.trained.kept_whole())
            _give_blocks_one_class(self.trained.model)
            logger.info("weights, gradients and moments are shared out over %d processes", processes.world_size())
        wrapped, prepared = self.accelerator.prepare(self.trained, optimizer)
        assert is_sharded(wrapped) == self.is_on
        return wrapped, prepared

    def whole(self) -> Trained:
        """All of it on this process as it is now: itself, or a copy where it is in pieces. All ranks must call it."""
        if self._blank is None:
            return self.trained
        twin = copy.deepcopy(self._blank)
        state = self.trained.state_dict().items()
        own = {name: whole_tensor(t) if isinstance(t, DTensor) else t.clone() for name, t in state}
        twin.load_state_dict(own, assign=True)
        _take_buffers(twin, self.trained, own)
        return twin


def _give_blocks_one_class(model: PreTrainedModel) -> None:
    """Lets all blocks be skippable if some are, in place: by a name `accelerate` finds one class alone."""
    if any(isinstance(block, SkippableBlock) for block in blocks_of(model)):
        make_skippable(model)


def _take_buffers(twin: nn.Module, trained: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a copy the buffers that no state holds (frequencies, distances): it was made before they were moved."""
    for name, buffer in trained.named_buffers(remove_duplicate=False):
        if name not in state:
            owner, _, last = name.rpartition(".")
            twin.get_submodule(owner).register_buffer(last, buffer.clone(), persistent=False)


def _without_weights(trained: Trained) -> Trained:
    """A copy whose parameters take no memory."""
    weights = list(trained.parameters())
    empty: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in weights}
    return copy.deepcopy(trained, empty)


def is_sharded(wrapped: nn.Module) -> bool:
    """Whether a prepared module is in pieces."""
    return isinstance(wrapped, FSDPModule)


def in_pieces(model: nn.Module) -> bool:
    """Whether some of a module's parameters are in pieces."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def average_whole_parts(wrapped: nn.Module) -> None:
    """Averages the gradients of what is not in pieces over all ranks, as sharding does with those of the pieces."""
    for parameter in wrapped.parameters():
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            parameter.grad = processes.averaged(parameter.grad)


def own_piece(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor; all ranks must call it with theirs."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(state: Any) -> Any:
    """A state, of mappings and lists, with whole tensors in place of pieces; all ranks must call it with theirs."""
    if isinstance(state, Mapping):
        return {key: whole_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_tensors(value) for value in state]
    return whole_tensor(state.detach()) if isinstance(state, Tensor) else state


def piece_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's piece of a whole tensor, where another of its shape is in pieces; otherwise the tensor itself."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    pieces: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return pieces


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Puts back a whole state, by pieces where parameters are in pieces."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, own in state["state"].items():
        state["state"][number] = {
            name: piece_like(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in own.items()
        }
    optimizer.load_state_dict(state)


def total_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients, pieces and whole ones; the same on every rank."""
    kinds: dict[bool, list[Tensor]] = {}
    for gradient in gradients:
        kinds.setdefault(isinstance(gradient, DTensor), []).append(gradient)
    norms = [whole_tensor(get_total_norm(of_kind)) for of_kind in kinds.values()]
    return norms[0] if len(norms) == 1 else get_total_norm(norms)


def shorten(weights: Sequence[nn.Parameter], longest: float) -> Tensor:
    """Shortens the gradients of weights to a norm; returns what it was, the same on every rank."""
    return whole_tensor(clip_grad_norm_(weights, longest))
