"""A network of discrete time asked at trained levels only, whatever levels a sampler goes by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma
from diffgeo.schedule.discrete import Discrete
from diffgeo.schedule.rounding import ROUNDINGS, TIE, check_rounding


def trained(schedule: Discrete, rounding: str, sigma: Tensor) -> Tensor:
    """The level a network is asked at for sigma: itself if it was trained, else its rounding,
    inside [sigma(0), sigma(T-1)]."""
    t = schedule.t(sigma.double())
    on_a_level = (t - t.round()).abs() < TIE
    t = torch.where(on_a_level, t.round(), ROUNDINGS[rounding](t))
    return schedule.sigma(t.clamp(0, schedule.t_max)).to(sigma)


@lru_cache(maxsize=4096)
def _trained(schedule: Discrete, rounding: str, sigma: float) -> float:
    """`trained` of a grid's level, remembered: it comes back with every batch."""
    return float(trained(schedule, rounding, torch.tensor(sigma, dtype=torch.float64)))


@dataclass(frozen=True)
class OnTrainedLevels:
    """D(x; sigma) asked of a network at a trained level, D(x; trained(sigma)).

    A method's own intermediate levels (a midpoint, an adaptive step) then stay where the network
    was trained. With rounding=none a level is only kept inside the trained range, for networks that
    take a fractional t.
    """

    denoise: Denoiser
    schedule: Discrete
    rounding: str = "up"

    def __post_init__(self):
        check_rounding(self.rounding)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        at: Sigma
        if isinstance(sigma, Tensor):
            at = trained(self.schedule, self.rounding, sigma)
        else:
            at = _trained(self.schedule, self.rounding, sigma)
        return self.denoise(x, at, **cond)
