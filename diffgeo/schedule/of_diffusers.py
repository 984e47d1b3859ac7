"""What diffusers' schedulers have and no schedule of a paper needs: listed betas, betas rescaled to
end in noise alone, and their ways to space timesteps.

The grid of N steps among T levels (Lin et al. 2024, Table 2) is, for k = 0 .. N-1,

                DDPM, DDIM, PNDM                DPM-Solver, UniPC, DEIS         Euler, LMS
    leading     (N-1-k) floor(T/N) + offset     (N-k) floor(T/(N+1)) + offset   as DDPM
    trailing    round(T - k T/N) - 1            as DDPM                         as DDPM
    linspace    round((N-1-k) (T-1)/(N-1))      round((N-k) (T-1)/N)            not rounded

and then sigma = 0, or t = 0. The second column lays N + 1 timesteps and leaves out the lowest.
Between two levels the third takes sigma linear in t; with Karras' spacing it keeps the first and
the last level of the column and lays those between them at equal steps in sigma^(1/7).

diffusers' DDIM and PNDM step by floor(T/N) whatever the spacing is: on linspace, and on trailing
where N does not divide T, they put the state at one level and ask the network at another. Here a
step goes to the next level of the grid.
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
    """The timesteps of the first two columns above.

    offset: of `leading` alone, as in diffusers.
    end: where the last step goes, -1 for sigma = 0, or the timestep 0.
    ahead: one timestep more is laid, and the lowest left out: the second column.
    Raises UsageError where `offset` leads beyond the trained levels.
    """

    spacing: str = "leading"
    offset: int = 0
    end: int = -1
    ahead: bool = False

    def __post_init__(self):
        if self.spacing not in SPACINGS:
            raise UsageError(f"timesteps.spacing={self.spacing}: write {', '.join(SPACINGS)}")
        if self.offset < 0:
            raise UsageError(f"timesteps.offset={self.offset}: write a whole number from 0")
        if self.end not in (-1, 0):
            raise UsageError(f"timesteps.end={self.end}: write -1, for sigma = 0, or 0")

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        T = schedule.T
        k = torch.arange(steps, dtype=torch.float64)
        laid = steps + 1 if self.ahead else steps
        left = laid - 1 - k  # how many timesteps are laid below the k-th
        if self.spacing == "trailing":
            t = torch.round(T - k * (T / steps)) - 1
        elif self.spacing == "linspace":
            t = torch.round(left * ((T - 1) / max(laid - 1, 1)))
        else:
            t = left * (T // laid) + self.offset
            self.check_leading(T, steps, laid, int(t[0]))
        return torch.cat([t, t.new_full((1,), self.end)])

    def check_leading(self, T: int, steps: int, laid: int, first: int) -> None:
        """Raise UsageError where leading timesteps begin above T - 1, or are all one."""
        if first < T and laid <= T:
            return
        begin = f"with steps_offset={self.offset} they begin at timestep {first} of {T}"
        most = T - max(self.offset, laid - steps)
        if most < 1:
            raise UsageError(
                f"steps_offset={self.offset} of {T} timesteps leaves none: write a whole number "
                f"below {T}"
            )
        if steps <= most:
            raise UsageError(f"steps={steps}: {begin}; write another number of steps")
        raise UsageError(
            f"steps={steps}: {begin}, and leading timesteps make {most} steps; write at most "
            f"steps={most}"
        )

    def below(self, sigma: float) -> Spaced:
        """From a level of one's own down. Leading timesteps begin below the highest one, so they
        are those of linspace there."""
        if self.spacing != "leading":
            return self
        return Spaced("linspace", 0, self.end, ahead=self.ahead or self.end == 0)


@dataclass(frozen=True)
class SpacedLevels:
    """The times of the levels in the third column above: what k-diffusion's methods take in
    diffusers, which keep x itself.

    karras: at equal steps in sigma^(1/7) from the first level to the last (Karras et al. 2022).
    """

    spacing: str = "linspace"
    offset: int = 0
    end: int = -1
    karras: bool = False

    def __call__(self, schedule: Discrete, steps: int) -> Tensor:
        if self.spacing == "linspace":
            left = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
            t = left * ((schedule.T - 1) / max(steps - 1, 1))
        else:
            t = Spaced(self.spacing, self.offset)(schedule, steps)[:-1]
        sigma = between(schedule.levels, t)
        if self.karras:
            first, last = sigma[[0, -1]].pow(1 / 7).tolist()
            sigma = torch.linspace(first, last, steps, dtype=torch.float64) ** 7
        elif self.spacing != "linspace":
            return torch.cat([t, t.new_full((1,), self.end)])
        return torch.cat([schedule.t(sigma), t.new_full((1,), self.end)])

    def below(self, sigma: float) -> SpacedLevels:
        """From a level of one's own down: as `Spaced`."""
        if self.spacing != "leading":
            return self
        return SpacedLevels("linspace", 0, self.end, self.karras)


def between(levels: Tensor, t: Tensor) -> Tensor:
    """sigma at the times t [n], linear between the levels [T]."""
    i = t.floor().clamp(0, len(levels) - 2).long()
    return torch.lerp(levels[i], levels[i + 1], t - i)


@dataclass(frozen=True, kw_only=True)
class FromNoise(Discrete):
    """Levels down which a sampler that is not stated in the chart starts from sigma N(0, I): what
    diffusers' Euler and LMS do on linspace and trailing timesteps."""

    @property
    def starts_in_chart(self) -> bool:
        return False
