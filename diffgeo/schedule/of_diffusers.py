"""What diffusers' schedulers have and no schedule of a paper needs: listed betas, betas rescaled to
end in noise alone, and three ways to space timesteps.

The grid of N steps of a DDPMScheduler or DDIMScheduler among T levels (Lin et al. 2024, Table 2)
is, for k = 0 .. N-1,

    leading     (N-1-k) floor(T/N) + steps_offset
    trailing    round(T - k T/N) - 1
    linspace    round((N-1-k) (T-1)/(N-1))

and then sigma = 0, or t = 0 with set_alpha_to_one=false.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.schedule.discrete import Betas, Discrete

SPACINGS = ("leading", "trailing", "linspace")


@dataclass(frozen=True)
class Given:
    """Betas as a file lists them; the last may be 1."""

    betas: tuple[float, ...]

    @property
    def T(self) -> int:
        return len(self.betas)

    def __call__(self) -> Tensor:
        return torch.tensor(self.betas, dtype=torch.float64)


@dataclass(frozen=True)
class ZeroTerminal:
    """`betas` rescaled so that the last level is noise alone (Lin et al. 2024, Algorithm 1): with
    s_t = sqrt(abar_t),

        s_t  ->  (s_t - s_(T-1)) s_0/(s_0 - s_(T-1)),

    the first level as it was, the last with abar = 0 and beta = 1.
    """

    betas: Betas

    @property
    def T(self) -> int:
        return self.betas.T

    def __call__(self) -> Tensor:
        s = torch.cumprod(1 - self.betas(), 0).sqrt()
        s = (s - s[-1]) * s[0] / (s[0] - s[-1])
        abar = s**2
        alpha = torch.cat([abar[:1], abar[1:] / abar[:-1]])
        return 1 - alpha


@dataclass(frozen=True)
class Spaced:
    """The timesteps above.

    end: where the last step goes, -1 for sigma = 0, or the timestep 0.
    Raises UsageError where `offset` leads beyond the trained levels.
    """

    spacing: str = "leading"
    offset: int = 0
    end: int = -1

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        T = schedule.T
        k = torch.arange(steps, dtype=torch.float64)
        if self.spacing == "trailing":
            t = torch.round(T - k * (T / steps)) - 1
        elif self.spacing == "linspace":
            t = torch.round(k.flip(0) * ((T - 1) / max(steps - 1, 1)))
        else:
            t = k.flip(0) * (T // steps) + self.offset
        if t[0] >= T:
            raise UsageError(
                f"steps={steps}: with steps_offset={self.offset} they begin at timestep "
                f"{int(t[0])} of {T}; write fewer steps"
            )
        return torch.cat([t, t.new_full((1,), self.end)])
