"""How a block adds the outputs of its modules to the residual stream, measured rather than described.

Families halve what FFNs give, and some scale the stream itself. The stream before each module is what its norm is
given; that before the next one is `a * stream + c * output`, and least squares on one batch give a and c.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compress.conformers import part
from compress.curvature.passage import Look, Passage
from compress.structure import MODULES

UNEXPLAINED = 1e-6
"""Share of the stream's power that the two factors may leave unexplained, as rounding does."""
_END = "end"


class StreamGauge:
    """Looks at the first batch that runs through a block.

    Args:
        passage: at the block.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.names = [name for name in MODULES if passage.branch(name) is not None]
        self._streams: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, it looks at what runs through the block."""
        with ExitStack() as stack:
            for name in self.names:
                stack.enter_context(self.passage.seen(name, norm_before(self.passage, name), self._stream(name)))
                layer = self.passage.last_projection(name)
                assert layer is not None
                stack.enter_context(self.passage.seen(name, layer, self._output(name)))
            block, path = self.passage.blocks[self.passage.block], self.passage.family.final_norm
            stack.enter_context(self.passage.seen(MODULES[-1], part(block, path), self._stream(_END)))
            yield

    def _stream(self, name: str) -> Look:
        return lambda before, after: _keep_first(self._streams, name, before)

    def _output(self, name: str) -> Look:
        return lambda before, after: _keep_first(self._outputs, name, after)

    def factors(self) -> dict[str, tuple[float, float] | None]:
        """By module, a and c; None where the stream behind it is no such sum, as where the frame rate changes."""
        following = [*self.names[1:], _END][: len(self.names)]  # a block may have been emptied
        return {
            name: _factors(self._streams[name], self._outputs[name], self._streams[behind])
            for name, behind in zip(self.names, following, strict=True)
        }


def _keep_first(values: dict[str, Tensor], name: str, value: Tensor) -> None:
    values.setdefault(name, value)


def norm_before(passage: Passage, name: str) -> nn.Module:
    """The norm before a module of the next block, which is given the residual stream."""
    norm: Any = part(passage.blocks[passage.block], passage.family.modules[name].norm)
    assert isinstance(norm, nn.Module)
    return norm


def _factors(stream: Tensor, output: Tensor, behind: Tensor) -> tuple[float, float] | None:
    if not stream.shape == output.shape == behind.shape:
        return None
    columns = torch.stack([stream.flatten(), output.flatten()], dim=1).double()
    wanted = behind.flatten().double()
    products, cross = columns.T @ columns, columns.T @ wanted
    a, c = torch.linalg.lstsq(products, cross[:, None]).solution[:, 0].tolist()
    power = wanted.square().sum()
    rest = (columns @ cross.new_tensor([a, c]) - wanted).square().sum()
    return (a, c) if c and rest <= UNEXPLAINED * power else None
