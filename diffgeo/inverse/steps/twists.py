"""What a particle is told of the measurement before it has arrived: a twist of its level.

    twist(x; sigma) ~ p(y | x),      D^ = D + sigma^2 grad_x log twist, or nearly so.

With S = Cov[x0 | x], v = sigma^2 and e = y - A D, the guesses are

    mmps    y ~ N(A D, A S A' + s^2 I)                        exact of a Gaussian law
    pigdm   y ~ N(A D, r^2 A A' + s^2 I), r^2 = v t^2/(v + t^2)     exact of the law N(m, t^2 I)
    jfps    the same guess, and D^ = D + r^2 A' (r^2 A A' + s^2)^-1 e without a Jacobian
    dps     y ~ N(A(D), s^2 I)                                any operator

and D^ - D is S A' times the inverse covariance times e but in jfps. Particles are weighted by what
they were told, so any twist gives the right limit, and a bad one bad weights. A factor that depends
on sigma alone cancels from them: only mmps, whose covariance depends on x, has its determinant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Protocol

from diffgeo.analytic.measurement import Linear, Measurement
from diffgeo.core import Denoiser
from diffgeo.errors import UsageError
from diffgeo.inverse.jacobian import tangent

DENSE = 64  # measured numbers of which mmps holds a covariance a particle


class Told(NamedTuple):
    """What particles x [P,*D] are told at their level."""

    denoised: Tensor  # D, [P,*D]
    guided: Tensor  # D^, [P,*D]
    log_twist: Tensor  # log twist(x), nats, but for a constant of the level; [P]


class Twist(Protocol):
    """A guess of p(y | x)."""

    def check(self, measurement: Measurement) -> None: ...  # raises UsageError
    # the measurement has one y, which all particles share, or one a particle
    def __call__(
        self, denoise: Denoiser, measurement: Measurement, x: Tensor, sigma: float
    ) -> Told: ...


def linear(measurement: Measurement, name: str) -> Linear:
    """The operator of a measurement. Raises UsageError where it is not linear."""
    operator = measurement.operator
    if isinstance(operator, Linear):
        return operator
    raise UsageError(
        f"algorithm.twist={name} needs a linear operator: write algorithm.twist=dps, or another "
        "operator="
    )


@dataclass(frozen=True)
class Mmps:
    """N(A D, A S A' + s^2 I), the covariance held entry by entry: m + 1 products with the Jacobian
    for m measured numbers (Rozet et al. 2024 have the covariance)."""

    def check(self, measurement: Measurement) -> None:
        operator = linear(measurement, "mmps")
        count = math.prod(operator.measured)
        if count > DENSE:
            raise UsageError(
                f"algorithm.twist=mmps holds a covariance of {count} measured numbers a particle: "
                f"write algorithm.twist=pigdm, or measure at most {DENSE}"
            )

    def __call__(self, denoise, measurement, x, sigma):
        operator = linear(measurement, "mmps")
        near = tangent(denoise, x, sigma)
        error = measurement.residual(near.denoised)
        columns = []
        for unit in torch.eye(error[0].numel(), dtype=x.dtype, device=x.device):
            direction = operator.adjoint(unit.view(1, *error.shape[1:]).expand_as(error))
            columns.append(operator(near.product(direction)).flatten(1))
        covariance = torch.stack(columns, 2)
        # symmetric but for rounding, and for a network's Jacobian
        covariance = (covariance + covariance.mT) / 2
        covariance.diagonal(dim1=1, dim2=2).add_(measurement.sigma_n**2)
        root = torch.linalg.cholesky(covariance)
        flat = error.flatten(1)[:, :, None]
        solved = torch.cholesky_solve(flat, root)
        log_root = root.diagonal(dim1=1, dim2=2).log().sum(1)
        log_twist = -(flat * solved).sum((1, 2)) / 2 - log_root
        move = near.product(operator.adjoint(solved.view_as(error)))
        return Told(near.denoised, near.denoised + move, log_twist)


@dataclass(frozen=True)
class Scaled:
    """N(A D, r^2 A A' + s^2 I), r^2 = v t^2/(v + t^2).

    t: the deviation that the law is given, data units.
    jacobian: D^ - D = S A' (...)^-1 e as in PiGDM (Song et al. 2023); else r^2 A' (...)^-1 e.
    """

    t: float = 1.0
    jacobian: bool = True

    def check(self, measurement: Measurement) -> None:
        linear(measurement, "pigdm" if self.jacobian else "jfps")

    def __call__(self, denoise, measurement, x, sigma):
        operator = linear(measurement, "pigdm")
        square = sigma**2 * self.t**2 / (sigma**2 + self.t**2)
        if self.jacobian:
            near = tangent(denoise, x, sigma)
            denoised = near.denoised
        else:
            denoised = denoise(x, sigma)
        error = measurement.residual(denoised)
        solved = operator.solve(error, measurement.sigma_n**2 / square) / square
        log_twist = -(error * solved).flatten(1).sum(1) / 2
        back = operator.adjoint(solved)
        move = near.product(back) if self.jacobian else square * back
        return Told(denoised, denoised + move, log_twist)


@dataclass(frozen=True)
class Likelihood:
    """N(A(D), s^2 I): DPS's guess (Chung et al. 2023), of any operator that autograd can follow."""

    def check(self, measurement: Measurement) -> None:
        pass

    def __call__(self, denoise, measurement, x, sigma):
        near = tangent(denoise, x, sigma)
        with torch.enable_grad():
            point = near.denoised.detach().requires_grad_()
            log_twist = -measurement.square(point) / (2 * measurement.sigma_n**2)
            (gradient,) = torch.autograd.grad(log_twist.sum(), point)
        return Told(near.denoised, near.denoised + near.product(gradient), log_twist.detach())


TWISTS = ("mmps", "pigdm", "jfps", "dps")


def twist_of(name: str, t: float) -> Twist:
    """The twist of this name. Raises UsageError on another one, and on t <= 0."""
    if not t > 0:
        raise UsageError(f"algorithm.t={t}: write a deviation of the law, above 0")
    if name == "mmps":
        return Mmps()
    if name in ("pigdm", "jfps"):
        return Scaled(t, jacobian=name == "pigdm")
    if name == "dps":
        return Likelihood()
    raise UsageError(f"algorithm.twist={name}: write one of {', '.join(TWISTS)}")
