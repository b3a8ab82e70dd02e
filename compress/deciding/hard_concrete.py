"""The hard-concrete distribution: binary gates that can be learned by gradient descent.

Louizos, Welling, Kingma 2018, "Learning Sparse Neural Networks through L0 Regularization" (arXiv 1712.01312), section
2.2. A binary concrete variable with location `log_alpha` is stretched to an interval wider than [0, 1] and clipped to
it, so that exactly 0 and exactly 1 have positive probability. Everything is float32, whatever autocast says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_QUANTILES = 1000  # of the noise, over which the mean is taken
_AT_A_TIME = 4096  # gates, which take so many times as much memory
_EPSILON = 1e-6  # keeps the uniform noise away from 0 and 1, where its logit is infinite


@dataclass(frozen=True)
class HardConcrete:
    """A family of gates that share temperature and stretch; each gate has its own `log_alpha`.

    Attributes:
        temperature: the concrete distribution's temperature beta (2/3 in the paper).
        low: lower end gamma of the stretched interval, below 0.
        high: upper end zeta of the stretched interval, above 1.
    """

    temperature: float = 2 / 3
    low: float = -0.1
    high: float = 1.1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}.")
        if not self.low < 0 < 1 < self.high:
            raise ValueError(f"The stretch must reach below 0 and above 1, got [{self.low}, {self.high}].")

    def sample(self, log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws gates, differentiable in `log_alpha` (eq. 10-12).

        Args:
            log_alpha: locations, any shape.
            generator: the source of the noise, on any device.

        Returns:
            Values in [0, 1], float32, of the shape of `log_alpha`.
        """
        return self.with_noise(log_alpha, self.noise(log_alpha, generator))

    def noise(self, log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws the uniform noise of gates, in (0, 1), of the shape of `log_alpha` and on its device."""
        device = generator.device if generator is not None else log_alpha.device
        noise = torch.rand(log_alpha.shape, generator=generator, device=device).to(log_alpha.device, non_blocking=True)
        return noise.clamp(_EPSILON, 1 - _EPSILON)

    def with_noise(self, log_alpha: Tensor, noise: Tensor) -> Tensor:
        """The gates that noise gives (see `sample`), which several forward passes can have alike."""
        return self._stretch(torch.sigmoid((torch.logit(noise) + log_alpha.float()) / self.temperature))

    def probability_open(self, log_alpha: Tensor) -> Tensor:
        """The probability that a gate is not exactly 0 (eq. 12), of the shape of `log_alpha`, float32."""
        return torch.sigmoid(log_alpha.float() - self.temperature * math.log(-self.low / self.high))

    def log_probability_closed(self, log_alpha: Tensor) -> Tensor:
        """The logarithm of the probability that a gate is exactly 0; the shape of `log_alpha`, float32."""
        return functional.logsigmoid(self.temperature * math.log(-self.low / self.high) - log_alpha.float())

    def mean(self, log_alpha: Tensor) -> Tensor:
        """The mean value of a gate, above 0 for any location; the shape of `log_alpha`, float32."""
        noise = torch.logit((torch.arange(_QUANTILES, device=log_alpha.device) + 0.5) / _QUANTILES)
        means = [
            self._stretch(torch.sigmoid((noise + some[:, None]) / self.temperature)).mean(-1)
            for some in log_alpha.float().flatten().split(_AT_A_TIME)
        ]
        return torch.cat(means).view_as(log_alpha)

    def deterministic(self, log_alpha: Tensor) -> Tensor:
        """The gate's value without noise, for evaluation and removal (eq. 13), in [0, 1], float32."""
        return self._stretch(torch.sigmoid(log_alpha.float()))

    def log_alpha_for(self, drop_rate: float) -> float:
        """The location at which a gate is closed with probability `drop_rate` (in (0, 1)); inverse of eq. 12.

        (CoFi and DPHuBERT call the logit of 1 - rate so, at which a gate is closed far less often: 0.2 % for 0.01.)
        """
        if not 0 < drop_rate < 1:
            raise ValueError(f"A drop rate lies between 0 and 1, got {drop_rate}.")
        return math.log(1 - drop_rate) - math.log(drop_rate) + self.temperature * math.log(-self.low / self.high)

    def _stretch(self, concrete: Tensor) -> Tensor:
        return (concrete * (self.high - self.low) + self.low).clamp(0.0, 1.0)
