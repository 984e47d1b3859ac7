"""What every sampler has unless it says otherwise."""

from __future__ import annotations

import math

from torch import Tensor

from diffgeo.core import Sampler


class Method:
    """A sampler in x = x0 + sigma eps that starts from x = sigma * noise, looks at no earlier step
    and adds no noise."""

    memory = 0
    adaptive = False

    def on(self, sigmas: Tensor) -> Sampler:
        """This method on the grid `sigmas` [K+1]: for those that must know their grid before the
        first step."""
        return self

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """The state at the first level, from unit normal noise [B,*D]."""
        return sigma * noise

    def added_noise(self, sigma: float, sigma_next: float) -> float:
        """Standard deviation, in data units and per coordinate, of the noise that a step adds and
        leaves in x'."""
        return 0.0

    def terminal_noise(self, sigmas: Tensor) -> float:
        """The noise that the last step of a grid alone leaves: the floor of every distance to the
        support, for any denoiser."""
        return self.added_noise(*sigmas[-2:].tolist())


class ChartMethod(Method):
    """A scheme that a paper states in x_t = x/sqrt(1+sigma^2), where it starts from N(0, I)."""

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        return math.hypot(1, sigma) * noise
