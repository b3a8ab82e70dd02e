"""Taking speech through a model one block at a time: no more than one block's inputs are held, whatever the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import (
    blocks_of,
    family_of,
    fixed_blocks,
    frame_lengths,
    frame_outputs,
    part,
    submodule,
)
from compress.machine import return_freed_memory
from compress.running.front import Front, answering, copied, entered_with, leaving_out, replaced_by

Inputs = Mapping[str, Tensor]
Look = Callable[[Tensor, Tensor], None]
"""Is shown the input and the output of a layer, those of frames that count: `(frames, width)` each."""


class _EndOfPassage(Exception):
    """The part of the model that was wanted has run."""


class Passage:
    """Speech on its way through the blocks of a model, of which the inputs of one block are held at a time.

    Whatever an encoder does before its blocks, or between them, it does itself: its forward pass runs with what it
    gave before the blocks, without the blocks that lie behind, and is left where the block ends.

    Args:
        model: of any family, in eval mode.
        batches: what the model is called with, on its device.
        in_front: layers in front of the blocks, with as many frames as those, each with what is shown what goes through
            it on the way to the first block.

    Attributes:
        block: the number of the block that is next.
    """

    def __init__(
        self, model: PreTrainedModel, batches: Sequence[Inputs], in_front: Sequence[tuple[nn.Module, Look]] = ()
    ) -> None:
        self.model, self.batches, self.block = model, batches, 0
        self.blocks, self.family = blocks_of(model), family_of(model)
        self._fronts = [Front(model) for _ in batches]
        self._following: list[Tensor] | None = None
        self._batch: Inputs = {}
        self._settled: dict[nn.Module, dict[int, Any]] = {}
        with ExitStack() as stack:
            for layer, look in in_front:
                stack.enter_context(self.seen("", layer, look))
            self._states = [self._first(batch, front) for batch, front in zip(batches, self._fronts, strict=True)]

    @torch.no_grad()
    def _first(self, batch: Inputs, front: Front) -> Tensor:
        self._batch = batch
        with leaving_out(self.model, ()), front.recorded():
            return self._until(self.blocks[0], batch)

    def _until(self, block: nn.Module, batch: Inputs) -> Tensor:
        """The hidden states with which the encoder calls a block."""
        reached: list[Tensor] = []

        def take(hidden: Tensor) -> Tensor:
            reached.append(hidden.clone())
            raise _EndOfPassage

        with entered_with(block, take):
            self._forward(batch)
        return reached[0]

    def _forward(self, batch: Inputs) -> None:
        try:
            frame_outputs(self.model, batch)
        except _EndOfPassage:
            return

    @torch.no_grad()
    def run(self, until: str | None = None) -> None:
        """Runs the next block on all speech, for what looks at it (`seen`, `observed`).

        Args:
            until: the module behind whose last projection the block is left; None: at its end, and `advance` then has
                nothing to compute.
        """
        block, after = self.blocks[self.block], self.blocks[self.block + 1 : self.block + 2]
        if until is None and after:
            self._following = self._ran(block, after[0])
            return
        stop = self.last_projection(until) if until else block
        assert stop is not None
        with _left_behind(stop):
            self._ran(block)

    @torch.no_grad()
    def advance(self) -> None:
        """Goes on to the inputs of the block behind, if there is one, and gives the memory of this one back."""
        if after := self.blocks[self.block + 1 : self.block + 2]:
            self._states = self._following or self._ran(self.blocks[self.block], after[0])
        self._following, self._settled = None, {}
        self.block += 1
        return_freed_memory()

    def settle(self, name: str) -> None:
        """Has the module of that name in the next block computed once more for every batch: it stays as it is."""
        branch = self.branch(name)
        assert branch is not None
        self._settled[branch] = {}

    def _ran(self, block: nn.Module, after: nn.Module | None = None) -> list[Tensor]:
        """Runs a block on all speech; with what the one behind it is called with, if there is one."""
        with leaving_out(self.model, range(self.block)):
            return [self._enter(number, block, after) for number in range(len(self.batches))]

    def _enter(self, number: int, block: nn.Module, after: nn.Module | None = None) -> Tensor:
        self._batch, state = self.batches[number], self._states[number]
        with self._fronts[number].replayed(), entered_with(block, replaced_by(state)), self._settled_at(number):
            if after is not None:
                return self._until(after, self._batch)
            self._forward(self._batch)
        return state

    @contextmanager
    def _settled_at(self, number: int) -> Iterator[None]:
        """Inside, settled modules give what they gave for a batch before; what they give for the first time is kept."""

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            self._settled[module][number] = copied(_without_weights(output))

        with ExitStack() as stack:
            for module, outputs in self._settled.items():
                if number in outputs:
                    stack.enter_context(answering(module, [outputs[number]]))
                else:
                    stack.callback(module.register_forward_hook(keep).remove)
            yield

    def branch(self, name: str) -> nn.Module | None:
        """The module of that name in the next block; None if it has been removed."""
        return submodule(self.blocks[self.block], self.family.modules[name])

    def last_projection(self, name: str) -> nn.Module | None:
        """The last projection of the module of that name in the next block; None if that has been removed."""
        branch = self.branch(name)
        return None if branch is None else part(branch, self.family.modules[name].last)

    def states(self) -> Iterator[Tensor]:
        """Yields what the next block is called with, frames of speech only: `(frames, hidden)`, batch by batch."""
        for batch, state in zip(self.batches, self._states, strict=True):
            self._batch = batch
            yield state[self.valid(state.shape[1])]

    @contextmanager
    def seen(self, name: str, layer: nn.Module, look: Look) -> Iterator[None]:
        """Inside, `look` is shown what goes through a layer of a module of the next block.

        Args:
            name: of the module; empty in front of the blocks.
            layer: in which channels are the last dimension, unless it convolves or norms over batch and time.
            look: see `Look`.
        """
        frames_first = name in self.family.frames_first

        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            before, after = (_channels_last(value, module, frames_first) for value in (args[0], output))
            mask = self.valid(before.shape[1])
            look(before[mask], after[mask])

        handle = layer.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def observed(self, looks: Mapping[str, Look]) -> Iterator[None]:
        """Inside, each `look` is shown what goes through the last projection of a module of the next block, by name."""
        with ExitStack() as stack:
            for name, look in looks.items():
                layer = self.last_projection(name)
                if layer is not None:
                    stack.enter_context(self.seen(name, layer, look))
            yield

    def valid(self, frames: int) -> Tensor:
        """Which frames of the batch at hand are no padding, `(batch, frames)`, where there are so many of them."""
        mask = self._batch.get("attention_mask")
        if mask is None:
            size = len(self._batch[self.family.features])
            return torch.ones(size, frames, dtype=torch.bool, device=self.model.device)
        if self.family.fixed_blocks:  # the rate of frames is that of the output behind the last of these blocks only
            lengths = torch.ceil(mask.sum(-1) * frames / mask.shape[1])
        else:
            lengths = frame_lengths(self.model, mask, of_blocks=True)
        return torch.arange(frames, device=mask.device) < lengths[:, None]


def one_by_one(model: PreTrainedModel) -> bool:
    """Whether utterances have to be looked at singly: padding changes them, or hides where they end within blocks."""
    return family_of(model).padding_sensitive or bool(fixed_blocks(model))


def _channels_last(values: Tensor, layer: nn.Module, frames_first: bool) -> Tensor:
    """`(batch, frames, channels)` of what a layer takes or gives."""
    if isinstance(layer, nn.Conv1d | nn.BatchNorm1d):
        return values.transpose(1, 2)
    return values.transpose(0, 1) if frames_first else values


def _without_weights(output: Any) -> Any:
    """What a module gives, without the attention weights that may come beside it, which are large."""
    return output if isinstance(output, Tensor) else (output[0], *(None for _ in output[1:]))


@contextmanager
def _left_behind(layer: nn.Module) -> Iterator[None]:
    """Inside, a forward pass ends behind a layer."""

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        raise _EndOfPassage

    handle = layer.register_forward_hook(leave)
    try:
        yield
    finally:
        handle.remove()
