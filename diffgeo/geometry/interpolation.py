"""Between two latents a, b of N(0, I) in R^d: three ways to go, and how long a latent stays.

    linear      (1-l) a + l b                                      N(0, f^2 I),  f^2 = (1-l)^2 + l^2
    rescaled    the same over f                                    N(0, I) exactly, in every d
    slerp       (sin((1-l) psi) a + sin(l psi) b) / sin psi,       psi the angle between a and b

Half way, linear latents are shorter than any that a sampler starts from, by sqrt(2): their samples
are those of a narrower law. With E|a| = m, m = sqrt(2) Gamma((d+1)/2)/Gamma(d/2) and Var|a| =
d - m^2, the mean norm is f m and m of the first two. The norms are independent of psi, whose
density is proportional to sin^(d-2), and of slerp

    E|.|^2 = m^2 + Var|a| (d-2)/(d-3) (1 - (c(2l) + c(2-2l))/2),
    c(u)   = cos(pi u/2) Gamma(q)^2 / (Gamma(q+u/2) Gamma(q-u/2)),     q = (d-2)/2,

that is m^2 + Var|a| (d-2)/(d-3) at l = 1/2, and d at the ends. For d <= 3 it is infinite between
them: opposite latents are too frequent. So slerp keeps the law only as d grows (White 2016 has the
formula; Song et al. 2021 took it over to diffusion models).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import expand
from diffgeo.errors import UsageError
from diffgeo.simulation import Simulation

Way = Callable[[Tensor, Tensor, float], Tensor]  # (a, b [n,*D], lambda) -> [n,*D]


def linear(a: Tensor, b: Tensor, at: float) -> Tensor:
    """(1-l) a + l b."""
    return (1 - at) * a + at * b


def rescaled(a: Tensor, b: Tensor, at: float) -> Tensor:
    """The linear way, divided by the deviation that it leaves: N(0, I) again."""
    return linear(a, b, at) / shrinkage(at)


def slerp(a: Tensor, b: Tensor, at: float) -> Tensor:
    """Along the great circle from a to b; rows of one direction go straight."""
    angle = expand(angle_between(a, b), a)
    sine = torch.sin(angle)
    straight = sine < 1e-12
    whole = torch.where(straight, 1.0, sine)
    first = torch.where(straight, 1 - at, torch.sin((1 - at) * angle) / whole)
    second = torch.where(straight, at, torch.sin(at * angle) / whole)
    return first * a + second * b


WAYS: dict[str, Way] = {"linear": linear, "slerp": slerp, "rescaled": rescaled}


def way(kind: str) -> Way:
    """A way by its name. Raises UsageError."""
    if kind not in WAYS:
        raise UsageError(f"kind={kind}: write some of {', '.join(WAYS)}")
    return WAYS[kind]


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The angle of each row of a and b [n,*D], float64 [n], from its tangent at the half: an
    arc cosine loses half the digits near 0 and pi."""
    a = a.flatten(1).double()
    b = b.flatten(1).double()
    a = a / torch.linalg.vector_norm(a, dim=1, keepdim=True)
    b = b / torch.linalg.vector_norm(b, dim=1, keepdim=True)
    apart = torch.linalg.vector_norm(a - b, dim=1)
    along = torch.linalg.vector_norm(a + b, dim=1)
    return 2 * torch.atan2(apart, along)


def shrinkage(at: float) -> float:
    """f = sqrt((1-l)^2 + l^2), the deviation of a coordinate on the linear way."""
    return math.hypot(1 - at, at)


def mean_norm(d: int) -> float:
    """E|z| of z ~ N(0, I) in R^d: sqrt(2) Gamma((d+1)/2)/Gamma(d/2)."""
    return math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def norm_variance(d: int) -> float:
    """Var|z| = d - (E|z|)^2, a little below 1/2. For large d the difference would keep no digits:
    there its series in 1/d, of 13 digits at d = 200 and more beyond."""
    if d < 200:
        return d - mean_norm(d) ** 2
    return 0.5 - 1 / (8 * d) - 1 / (16 * d**2) + 5 / (128 * d**3) + 23 / (256 * d**4)


class Length(NamedTuple):
    """What is known of |.| at one place of a way."""

    mean: float | None  # E|.|; None: no closed form
    square: float  # E|.|^2


def length(kind: str, d: int, at: float) -> Length:
    """The norm of the latents of a way at l = `at`, in R^d. Raises UsageError on another kind."""
    way(kind)
    if kind == "linear":
        shrunk = shrinkage(at)
        return Length(shrunk * mean_norm(d), shrunk**2 * d)
    if kind == "rescaled" or at in (0.0, 1.0):
        return Length(mean_norm(d), float(d))
    return Length(None, slerp_square(d, at))


def slerp_square(d: int, at: float) -> float:
    """E|.|^2 of slerp at l = `at`: the formula above; inf for d <= 3 between the ends."""
    if at in (0.0, 1.0):
        return float(d)
    if d <= 3:
        return math.inf
    both = (cosine_mean(d, 2 * at) + cosine_mean(d, 2 - 2 * at)) / 2
    spread = norm_variance(d)
    # from d, not from (E|z|)^2: what is added is small beside either
    return d + spread * ((d - 2) / (d - 3) * (1 - both) - 1)


def cosine_mean(d: int, u: float) -> float:
    """c(u), the mean of cos(u psi) under a density proportional to sin^(d-4), 0 <= u <= 2, d > 3
    (Gradshteyn and Ryzhik 3.631.8)."""
    q = (d - 2) / 2
    if q == u / 2:  # 1/Gamma(0) = 0
        return 0.0
    logs = 2 * math.lgamma(q) - math.lgamma(q + u / 2) - math.lgamma(q - u / 2)
    return math.cos(math.pi * u / 2) * math.exp(logs)


class Pairs(NamedTuple):
    """Latents in pairs: pair i is the unit noise of sample i and of sample i + apart."""

    simulation: Simulation
    apart: int

    def ends(self, numbers: range) -> tuple[Tensor, Tensor]:
        """(a, b) of the pairs of these numbers, [n,*D] each."""
        others = range(numbers.start + self.apart, numbers.stop + self.apart)
        return self.simulation.start(numbers).unit, self.simulation.start(others).unit

    def between(self, kind: str, at: float, numbers: range) -> Simulation:
        """The simulation whose samples of these numbers start from the latents at l = `at` of the
        way `kind`. At 0 they are the simulation's own."""
        a, b = self.ends(numbers)
        return replace(self.simulation, noise=way(kind)(a, b, at), first=numbers.start)
