"""Optimizers with a denoiser in them. Each ends in a point; none samples the posterior.

RED-diff (Mardani, Song, Kautz, Vahdat 2024), Adam down the levels on

    |y - A mu|^2/2 + lambda sigma <eps^ - eps, mu>,
    x = mu + sigma eps,      eps^ = (x - D(x))/sigma,

in which eps^ - eps is held fixed. On N(m, c) its mean is sigma (mu - m)/(c + v), v = sigma^2, so at
rest at one level mu solves h (y - h mu) = lambda v/(c + v) (mu - m): a point whose prior counts
less from level to level, and at the end not at all.

Projected gradient (Permenter and Yuan 2024: a denoiser is a projection; so the model may stand in
an optimization, as its regularizer or its constraint),

    x <- D(x - g(x)/L; sigma) + noise sigma' eps,      D -> the projection on K as sigma -> 0,

the support of the law. With g = A'(A x - y), L and mu the extreme squared singular values of A on a
subspace K, the error shrinks by 1 - mu/L a step; on N(0, P), P the projection on K, the fixed point
at one level is the ridge estimate of weight v L. Without noise the way is the same from any start
and ends in one of the minima on K, by no means the least; with noise draws end in several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement, Operator, pinv
from diffgeo.core import Sampler, Step, generator
from diffgeo.errors import UsageError
from diffgeo.inverse.linear import pullback
from diffgeo.sampler.base import Method

BETAS = (0.9, 0.99)  # of Adam, as RED-diff is published
POWERS = 100  # iterations for |A|^2


def gradient_of(measurement: Measurement, x: Tensor) -> Tensor:
    """The gradient of |y - A(x)|^2/2 in x, [B,*D]."""
    return -pullback(measurement.operator, x, measurement.residual(x))


def square_norm(operator: Linear) -> float:
    """|A|^2, the largest squared singular value, by the power method from a fixed start."""
    size = (1, *operator.shape)
    x = torch.randn(size, generator=generator(0, *b"norm"), dtype=torch.float64)
    value = 0.0
    for _ in range(POWERS):
        x = operator.adjoint(operator(x / x.norm()))
        value = float(x.norm())
    return value


def rate(operator: Operator, tangent: Tensor) -> tuple[float, float, float]:
    """(mu, L, 1 - mu/L): the extreme squared singular values of A on the span of the orthonormal
    columns of `tangent` [d,dim], and the factor by which a step of projected gradient shrinks the
    error there. A Jacobian of an operator that is not linear is not looked at."""
    columns = operator(tangent.mT.reshape(-1, *operator.shape)).flatten(1)
    squares = torch.linalg.svdvals(columns) ** 2
    least = float(squares[-1]) if len(squares) == tangent.shape[1] else 0.0
    largest = float(squares[0])
    return least, largest, 1 - least / largest


@dataclass(frozen=True)
class RedDiff:
    """The step of RED-diff; a `Guide`.

    lam: the weight lambda of the prior beside |y - A mu|^2/2; None: sigma_n^2, so that the data
        counts as it does in the posterior. Published: .25.
    rate: the step size of Adam, data units. Published: .1 to .5.
    passes: Adam steps at every level.
    Raises UsageError on numbers that are not positive.
    """

    lam: float | None = None
    rate: float = 0.1
    passes: int = 1

    def __post_init__(self):
        for name, value in (("lam", self.lam), ("rate", self.rate), ("passes", self.passes)):
            if value is not None and not value > 0:
                raise UsageError(f"algorithm.{name}={value}: write a number above 0")

    def told(self, measurement: Measurement) -> Sampler:
        """The sampler of rows with this measurement. Raises UsageError where the weight is to be
        that of a measurement without noise."""
        if self.lam is None and measurement.sigma_n <= 0:
            raise UsageError(
                "sigma_n=0: algorithm=reddiff weighs the prior by sigma_n^2; write sigma_n above "
                "0, or algorithm.lam=.25 as it is published"
            )
        lam = measurement.sigma_n**2 if self.lam is None else self.lam
        return RedDiffRows(self, measurement, lam)


def start_of(measurement: Measurement, noise: Tensor) -> Tensor:
    """A^+ y of a linear operator, else 0: where an optimizer sets out, [B,*D]."""
    operator = measurement.operator
    if not isinstance(operator, Linear):
        return torch.zeros_like(noise)
    y = measurement.y.to(noise)
    if measurement.shared:
        y = y.expand(len(noise), *y.shape)
    return pinv(operator, y)


@dataclass(frozen=True, eq=False)
class RedDiffRows(Method):
    """RED-diff of rows with their own measurements: the state is mu, and the noise of a level is
    drawn in its step."""

    options: RedDiff
    measurement: Measurement
    lam: float
    order = 1

    def on(self, sigmas):
        return RedDiffRunning(self)

    def start(self, noise, sigma):
        return start_of(self.measurement, noise)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        raise UsageError("Adam remembers its steps: put the method on a grid by on(sigmas)")


class RedDiffRunning(Method):
    """RED-diff on its way: a fresh one for every run, since it holds Adam's moments."""

    order = 1

    def __init__(self, rows: RedDiffRows):
        self.rows = rows
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.taken = 0

    def start(self, noise, sigma):
        return self.rows.start(noise, sigma)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        for _ in range(self.rows.options.passes):
            eps = noise()
            noisy = x + sigma * eps
            denoised = denoise(noisy, sigma)
            apart = (noisy - denoised) / sigma - eps
            gradient = gradient_of(self.rows.measurement, x) + self.rows.lam * sigma * apart
            x = self.moved(x, gradient)
        return Step(x, sigma_next, denoised)

    def moved(self, mu: Tensor, gradient: Tensor) -> Tensor:
        """One step of Adam (Kingma and Ba 2015)."""
        one, two = BETAS
        self.taken += 1
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient**2
        mean = self.first / (1 - one**self.taken)
        square = self.second / (1 - two**self.taken)
        return mu - self.rows.options.rate * mean / (square.sqrt() + 1e-8)


@dataclass(frozen=True)
class ProjectedGradient:
    """x <- D(x - g(x)/L; sigma) + noise sigma' eps at every level; a `Guide`.

    lipschitz: L; None: |A|^2 of a linear operator.
    level: the level of every projection, data units; None: those of the grid, downwards.
    passes: steps at every level.
    noise: of a step, in units of the next level; with it a row sets out from the sampler's start,
        without it from A^+ y.
    objective: f, [B,*D] -> [B], that is minimized, by autograd; None: |y - A(x)|^2/2.
    Raises UsageError on a negative noise and on other numbers that are not positive.
    """

    lipschitz: float | None = None
    level: float | None = None
    passes: int = 1
    noise: float = 0.0
    objective: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self):
        numbers = (("lipschitz", self.lipschitz), ("level", self.level), ("passes", self.passes))
        for name, value in numbers:
            if value is not None and not value > 0:
                raise UsageError(f"algorithm.{name}={value}: write a number above 0")
        if not self.noise >= 0:
            raise UsageError(f"algorithm.noise={self.noise}: write 0 or more")

    def told(self, measurement: Measurement) -> Sampler:
        """The sampler of rows with this measurement. Raises UsageError where L is not known."""
        operator = measurement.operator
        if self.lipschitz is not None:
            return ProjectedRows(self, measurement, self.lipschitz)
        if self.objective is not None or not isinstance(operator, Linear):
            raise UsageError(
                "algorithm.lipschitz=null is |A|^2 of a linear operator: write "
                "algorithm.lipschitz=L, a bound of the curvature of what is minimized"
            )
        return ProjectedRows(self, measurement, square_norm(operator))


@dataclass(frozen=True, eq=False)
class ProjectedRows(Method):
    """Projected gradient of rows with their own measurements.

    tally: the objective [B] after the last step.
    """

    options: ProjectedGradient
    measurement: Measurement
    lipschitz: float
    tally: dict[str, Tensor] = field(default_factory=dict)
    order = 1

    def account(self) -> dict[str, Tensor]:
        """The `tally`."""
        return self.tally

    def start(self, noise, sigma):
        return sigma * noise if self.options.noise else start_of(self.measurement, noise)

    def objective(self, x: Tensor) -> Tensor:
        """What is minimized, [B]."""
        own = self.options.objective
        return self.measurement.square(x) / 2 if own is None else own(x)

    def gradient(self, x: Tensor) -> Tensor:
        """Of the objective, [B,*D]."""
        own = self.options.objective
        if own is None:
            return gradient_of(self.measurement, x)
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(own(point).sum(), point)
        return gradient

    def added_noise(self, sigma, sigma_next):
        return self.options.noise * sigma_next

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        level = sigma if self.options.level is None else self.options.level
        for _ in range(self.options.passes):
            x = denoise(x - self.gradient(x) / self.lipschitz, level)
        self.tally["objective"] = self.objective(x)
        denoised = x
        if added := self.added_noise(sigma, sigma_next):
            x = torch.add(x, noise(), alpha=added)
        return Step(x, sigma_next, denoised)
