"""What the blocks of a model give in a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers.parts import blocks_of


class BlockOutputs:
    """Records the outputs of chosen blocks of a model in every forward pass, by hooks of its own.

    Hooks on the blocks themselves see what the blocks give, in every family, also after surgery and under wrappers.
    """

    def __init__(self, model: PreTrainedModel, blocks: Sequence[int]) -> None:
        self.outputs: dict[int, Tensor] = {}
        self._handles = [blocks_of(model)[index].register_forward_hook(self._hook(index)) for index in set(blocks)]

    def _hook(self, index: int) -> Any:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            self.outputs[index] = output[0] if isinstance(output, tuple) else output

        return record

    def take(self) -> dict[int, Tensor]:
        """The outputs of the last forward pass, `(batch, frames, hidden)` by block; they are then forgotten."""
        taken, self.outputs = self.outputs, {}
        return taken

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
