"""What every sampler has unless it says otherwise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from diffgeo.core import Denoiser, Noise, Past, Sampler, Step


class Method(ABC):
    """A sampler in x = x0 + sigma eps that starts from x = sigma * noise, looks at no earlier step
    and adds no noise.

    A subclass says its `order` and takes a `step`; what else it says differently it writes as a
    class attribute (`memory = 1`), or as a property where its options decide.
    """

    @property
    @abstractmethod
    def order(self) -> int:
        """In the step size, of the error of the flow, or in law for a method that draws noise."""

    @property
    def memory(self) -> int:
        """How many earlier steps `step` looks at."""
        return 0

    adaptive = False  # chooses its steps by the state, between the levels of the grid
    at_end = False  # takes the slope at the end of a step too, which at 0 only a closed form has

    def on(self, sigmas: Tensor) -> Sampler:
        """This method on the grid `sigmas` [K+1]: for those that must know their grid before the
        first step."""
        return self

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """The state at the first level, from unit normal noise [B,*D]."""
        return sigma * noise

    @abstractmethod
    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        history: list[Past],
        noise: Noise,
    ) -> Step:
        """From x [B,*D] at sigma to sigma_next; `history`, the newest last, is at most `memory`
        long and shorter at the start."""

    def added_noise(self, sigma: float, sigma_next: float) -> float:
        """Standard deviation, in data units and per coordinate, of the noise that a step adds and
        leaves in x'."""
        return 0.0

    def terminal_noise(self, sigmas: Tensor) -> float:
        """The noise that the last step of a grid alone leaves: the floor of every distance to the
        support, for any denoiser."""
        sigma, sigma_next = sigmas[-2:].tolist()
        return self.added_noise(sigma, sigma_next)


class ChartMethod(Method):
    """A scheme that a paper states in x_t = x/sqrt(1+sigma^2), where it starts from N(0, I)."""

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        return math.hypot(1, sigma) * noise
