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
from compress.curvature.moments import Total, alone
from compress.curvature.passage import Look, Passage
from compress.structure import MODULES

UNEXPLAINED = 1e-6
"""Share of the stream's power that the two factors may leave unexplained, as rounding does, in single precision."""
DISCERNIBLE = 4.0
"""Of how many units of rounding a module's part in the stream must be for its factor to be told."""
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

    def factors(self, total: Total = alone) -> dict[str, tuple[float, float] | None]:
        """By module, a and c; None where the stream behind it is no such sum, as where the frame rate changes.

        Nor can they be told where next to nothing comes out of a module, less than rounding takes from the stream.

        Args:
            total: over the processes, each of which has looked at a batch of its own.
        """
        following = [*self.names[1:], _END][: len(self.names)]  # a block may have been emptied
        found = {}
        for name, behind in zip(self.names, following, strict=True):
            stream, output, later = self._streams[name], self._outputs[name], self._streams[behind]
            found[name] = _factors(total(_products(stream, output, later)), torch.finfo(later.dtype).eps)
        return found


def _keep_first(values: dict[str, Tensor], name: str, value: Tensor) -> None:
    values.setdefault(name, value)


def norm_before(passage: Passage, name: str) -> nn.Module:
    """The norm before a module of the next block, which is given the residual stream."""
    norm: Any = part(passage.blocks[passage.block], passage.family.modules[name].norm)
    assert isinstance(norm, nn.Module)
    return norm


def _products(stream: Tensor, output: Tensor, behind: Tensor) -> Tensor:
    """`(3, 3)`: sums of products of the stream, a module's output, and the stream behind it; zeros if they differ."""
    if not stream.shape == output.shape == behind.shape:
        return torch.zeros(3, 3, dtype=torch.float64, device=stream.device)
    rows = torch.stack([value.flatten() for value in (stream, output, behind)]).double()
    return rows @ rows.T


def _factors(products: Tensor, rounding: float) -> tuple[float, float] | None:
    """The two factors of least squared error, if both can be told and they leave only rounding unexplained.

    Args:
        products: of stream, output, and the stream behind it.
        rounding: of one number, as a share of it.
    """
    (of_stream, both, first), (_, of_output, second), (*_, power) = products.tolist()
    if not of_stream or not power:
        return None
    own = of_output - both**2 / of_stream  # of what of the output the stream does not say
    c = (second - first * both / of_stream) / own if own > 0 else 0.0
    if c**2 * own <= (DISCERNIBLE * rounding) ** 2 * power:
        return None
    a = (first - c * both) / of_stream
    rest = power - a * first - c * second
    return (a, c) if rest <= max(UNEXPLAINED, rounding**2) * power else None
