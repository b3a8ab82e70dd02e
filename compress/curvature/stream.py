"""How a block adds the outputs of its modules to the residual stream, measured rather than described.

Families halve what FFNs give, and some scale the stream itself. The stream before each module is what its norm is
given; that before the next one is `a * stream + c * output`, and least squares give a and c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Looks at all that runs through a block, of which it keeps sums of products.

    Args:
        passage: at the block.

    Attributes:
        names: of the modules of the block.
        order: the same in the order in which they run, once it has looked.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.names = [name for name in MODULES if passage.branch(name) is not None]
        self._products = {name: torch.zeros(3, 3, dtype=torch.float64) for name in self.names}
        self._running, self._at_hand, self._rounding = _END, list[Tensor](), 0.0
        self.order: list[str] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, it looks at what runs through the block."""
        with ExitStack() as stack:
            for name in self.names:
                stack.enter_context(self.passage.seen(name, norm_before(self.passage, name), self._stream(name)))
                layer = self.passage.last_projection(name)
                assert layer is not None
                stack.enter_context(self.passage.seen(name, layer, self._output))
            block, path = self.passage.blocks[self.passage.block], self.passage.family.final_norm
            stack.enter_context(self.passage.seen(MODULES[-1], part(block, path), self._stream(_END)))
            yield

    def _stream(self, name: str) -> Look:
        """The stream behind the module that has run, and before the one of this name."""

        def look(before: Tensor, after: Tensor) -> None:
            if self._running != _END:
                products = _products([*self._at_hand, before])
                self._products[self._running] = self._products[self._running].to(products) + products
            if name != _END and name not in self.order:
                self.order.append(name)
            self._running, self._at_hand, self._rounding = name, [before], torch.finfo(before.dtype).eps

        return look

    def _output(self, before: Tensor, after: Tensor) -> None:
        self._at_hand.append(after)

    def factors(self, total: Total = alone) -> dict[str, tuple[float, float] | None]:
        """By module, a and c; None where the stream behind it is no such sum, as where the frame rate changes.

        Nor can they be told where next to nothing comes out of a module, less than rounding takes from the stream.

        Args:
            total: over the processes, each of which has looked at its share.
        """
        return {name: _factors(total(products), self._rounding) for name, products in self._products.items()}


def norm_before(passage: Passage, name: str) -> nn.Module:
    """The norm before a module of the next block, which is given the residual stream."""
    norm: Any = part(passage.blocks[passage.block], passage.family.modules[name].norm)
    assert isinstance(norm, nn.Module)
    return norm


def _products(values: Sequence[Tensor]) -> Tensor:
    """`(3, 3)`: sums of products of the stream, a module's output, and the stream behind it; zeros if they differ."""
    if len({value.shape for value in values}) > 1:
        return torch.zeros(3, 3, dtype=torch.float64, device=values[0].device)
    rows = torch.stack([value.flatten() for value in values]).double()
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
