"""What the network predicts: four scalars, never a conversion table (Karras et al. 2022, Table 1).

    D(x; sigma) = skip*x + out*F(inp*x, noise)
    |D - x0|^2  = out^2 |F - F*|^2,                 F* = (x0 - skip*x)/out

    name      skip               out                        inp                  F is
    epsilon   1                  -sigma                     1/sqrt(1+sigma^2)    the noise
    score     1                  sigma^2                    1/sqrt(1+sigma^2)    the score of x
    cem       0                  1                          1/sqrt(1+sigma^2)    E[x0|x]
    v         1/(1+sigma^2)      -sigma/sqrt(1+sigma^2)     1/sqrt(1+sigma^2)    alpha eps - s_t x0
    velocity  1/(1+sigma)        -sigma/(1+sigma)           1/(1+sigma)          eps - x0
    edm       s^2/(sigma^2+s^2)  sigma s/sqrt(sigma^2+s^2)  1/sqrt(sigma^2+s^2)  of unit variance

where s_t is sigma_t and s the deviation of the data; `Score` can predict the score of x_t, too.
`Scaled` states any of them in units of the data's own deviation. `native` is the weight 1/out^2 on
|D - x0|^2: the plain square loss on F. The conditioning scalar is a choice of its own (`noise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffgeo.core import Coefficients, Parameterization, Schedule
from diffgeo.errors import UsageError


@runtime_checkable
class Conditioned(Protocol):
    """A parameterization that says how it tells the network the noise level."""

    @property
    def noise(self) -> Callable[[Tensor], Tensor]: ...  # sigma [B] -> the conditioning scalar [B]
    def __call__(self, sigma: Tensor) -> Coefficients: ...


def quarter_log(sigma: Tensor) -> Tensor:
    """log(sigma)/4, EDM's conditioning: even in log sigma, of order one over all levels."""
    return torch.log(sigma) / 4


def ou_time(sigma: Tensor) -> Tensor:
    """The raw time t = log(1 + sigma^2) of the OU process, as the CEM paper feeds it to its
    networks."""
    return torch.log1p(sigma * sigma)


def flow_time(sigma: Tensor) -> Tensor:
    """The time sigma/(1+sigma) of the straight path x_t = (1-t) x0 + t eps."""
    return sigma / (1 + sigma)


@dataclass(frozen=True)
class Epsilon:
    """The network predicts the noise eps = (x - D)/sigma (Ho et al. 2020)."""

    noise: Callable[[Tensor], Tensor] = quarter_log

    def __call__(self, sigma: Tensor) -> Coefficients:
        return Coefficients(
            skip=torch.ones_like(sigma),
            out=-sigma,
            inp=torch.rsqrt(1 + sigma * sigma),
            noise=self.noise(sigma),
        )


@dataclass(frozen=True)
class Score:
    """The network predicts the score (D - x)/sigma^2 of x (Song and Ermon 2019).

    With a `chart` it predicts the score of x_t = scale*x, which is (D - x)/(scale*sigma^2): the CEM
    paper's S up to its sign (Remark 3.1).
    """

    chart: Schedule | None = None
    noise: Callable[[Tensor], Tensor] = quarter_log

    def __call__(self, sigma: Tensor) -> Coefficients:
        scale = 1.0 if self.chart is None else self.chart.scale(sigma)
        return Coefficients(
            skip=torch.ones_like(sigma),
            out=scale * sigma * sigma,
            inp=torch.rsqrt(1 + sigma * sigma),
            noise=self.noise(sigma),
        )


@dataclass(frozen=True)
class CEM:
    """The network predicts the conditional expectation E[x0|x] itself (Lu, Wang and Bal, equation
    (34))."""

    noise: Callable[[Tensor], Tensor] = quarter_log

    def __call__(self, sigma: Tensor) -> Coefficients:
        return Coefficients(
            skip=torch.zeros_like(sigma),
            out=torch.ones_like(sigma),
            inp=torch.rsqrt(1 + sigma * sigma),
            noise=self.noise(sigma),
        )


@dataclass(frozen=True)
class V:
    """The network predicts v = alpha*eps - sigma_t*x0 in the variance-preserving chart (Salimans
    and Ho 2022)."""

    noise: Callable[[Tensor], Tensor] = quarter_log

    def __call__(self, sigma: Tensor) -> Coefficients:
        alpha = torch.rsqrt(1 + sigma * sigma)
        return Coefficients(alpha * alpha, -sigma * alpha, alpha, self.noise(sigma))


@dataclass(frozen=True)
class Velocity:
    """The network predicts eps - x0 on the straight path x_t = (1-t) x0 + t eps,
    t = sigma/(1+sigma) (Lipman et al. 2023)."""

    noise: Callable[[Tensor], Tensor] = flow_time

    def __call__(self, sigma: Tensor) -> Coefficients:
        inp = 1 / (1 + sigma)
        return Coefficients(inp, -sigma * inp, inp, self.noise(sigma))


@dataclass(frozen=True)
class EDM:
    """Karras et al. (2022), Table 1, last column; `sigma_data` is the data's standard deviation per
    coordinate."""

    sigma_data: float = 0.5
    noise: Callable[[Tensor], Tensor] = quarter_log

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise UsageError(
                f"model.sigma_data={self.sigma_data} must be positive: write the standard "
                "deviation of the data"
            )

    def __call__(self, sigma: Tensor) -> Coefficients:
        s = self.sigma_data
        total = sigma * sigma + s * s
        return Coefficients(
            skip=s * s / total,
            out=sigma * s * torch.rsqrt(total),
            inp=torch.rsqrt(total),
            noise=self.noise(sigma),
        )


@dataclass(frozen=True)
class Scaled:
    """`parameterization` in units of the data's deviation s: D(x; sigma) = s D'(x/s; sigma/s).

    The papers' coefficients assume data of unit variance. Without this a curve of radius 13 reaches
    the network as inputs of size 13; with it cem has out = s, inp = 1/sqrt(s^2+sigma^2), and edm is
    what it always was.
    """

    parameterization: Parameterization
    sigma_data: float

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise UsageError(
                f"sigma_data={self.sigma_data} must be positive: write the standard deviation of "
                "the data"
            )

    def __call__(self, sigma: Tensor) -> Coefficients:
        skip, out, inp, noise = self.parameterization(sigma / self.sigma_data)
        return Coefficients(skip, self.sigma_data * out, inp / self.sigma_data, noise)
