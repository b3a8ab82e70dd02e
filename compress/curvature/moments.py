"""Second moments of what goes through a layer: sums over frames in double precision, all that least squares needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STRIPE = 512
"""So many columns of products are formed at a time, from the diagonal down: the other half mirrors them."""
Total = Callable[[Tensor], Tensor]
"""Adds up a tensor of sums over all processes; one process alone gives it back as it is."""


def alone(sums: Tensor) -> Tensor:
    """The total of one process."""
    return sums


class Moments:
    """Sums over frames of products of a layer's inputs z, and of the errors that its weights W make: y - W z.

    With a bias, a constant 1 stands behind the inputs, so that it is refitted like another weight. Products of one
    batch are formed in the layer's precision, and added up in double precision. Errors rather than targets y: where
    there is nothing to correct, their sums are next to nothing, however large the targets are.

    Args:
        width: number of inputs.
        constant: whether the constant counts among the inputs.
        device: where the sums are.
        weight: `(targets, inputs)`, W, with the bias as the last column; None: there are no targets.

    Attributes:
        second: `(inputs, inputs)`, sums of z z^T; above the diagonal only once they are gathered.
        cross: `(targets, inputs)`, sums of (y - W z) z^T.
        error: sum of the squares of all errors.
        power: sum of the squares of all targets.
        frames: how many frames were added.
    """

    def __init__(self, width: int, *, constant: bool, device: torch.device, weight: Tensor | None = None) -> None:
        self.width, self.constant, self.weight = width, constant, weight
        inputs, targets = width + constant, 0 if weight is None else len(weight)
        self.second, self.cross, self.error, self.power, self.frames = (
            torch.zeros(shape, dtype=torch.float64, device=device)
            for shape in ((inputs, inputs), (targets, inputs), (), (), ())
        )

    def add(self, inputs: Tensor, targets: Tensor | None = None) -> None:
        """Adds frames.

        Args:
            inputs: `(frames, width)`.
            targets: `(frames, targets)`, if there are any.
        """
        rows = at_least_single(inputs)
        if self.constant:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        for here in self._stripes:
            self.second[here.start :, here] += rows[:, here.start :].T @ rows[:, here]
        self.frames += len(rows)
        if targets is not None and self.weight is not None:
            wanted = at_least_single(targets)
            errors = wanted - rows @ self.weight.T.to(rows)
            self.cross += errors.T @ rows
            self.error += errors.double().square().sum()
            self.power += wanted.double().square().sum()

    def gather(self, total: Total, where: str) -> Moments:
        """Adds up the sums of all processes, in place.

        Args:
            total: over the processes.
            where: the layer, for messages.

        Raises:
            ValueError: if there is no frame, or the sums are not finite.
        """
        for name in ("second", "cross", "error", "power", "frames"):
            setattr(self, name, total(getattr(self, name)))
        if not self.frames:
            raise ValueError(f"No frame of speech reached {where}: give utterances that hold speech.")
        require_finite(where, self.second, self.cross)
        for here in self._stripes:
            self.second[here, here.stop :] = self.second[here.stop :, here].T
        return self

    @property
    def _stripes(self) -> list[slice]:
        return [slice(start, start + STRIPE) for start in range(0, len(self.second), STRIPE)]

    @property
    def mean_square(self) -> float:
        """The mean square of the inputs, without the constant."""
        return float(self.second.diagonal()[: self.width].mean() / self.frames)

    def covariances(self, size: int) -> Tensor:
        """`(width / size, size, size)`: of so many inputs at a time; mean products where no constant tells means."""
        units = torch.arange(self.width, device=self.second.device).view(-1, size)
        products = self.second[units[:, :, None], units[:, None, :]] / self.frames
        if not self.constant:
            return products
        means = self.second[units, -1] / self.frames
        return products - means[:, :, None] * means[:, None, :]


def require_finite(where: str, *values: Tensor) -> None:
    """Refuses what is not finite, naming where it was met.

    Raises:
        ValueError: if any of it is not.
    """
    if not all(torch.isfinite(value).all() for value in values):
        raise ValueError(
            f"What goes through {where} is not finite on this speech: check the weights of the model, and use "
            "float32 if it overflows in half precision."
        )


def at_least_single(values: Tensor) -> Tensor:
    """In float32, or in more if it is more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
