"""Rules: how the denoised estimate D of x learns of a measurement y = A x0 + s n.

With v = sigma^2, S = Cov[x0 | x] = v dD/dx and the residual y - A D, every rule is

    D^ = D + G (y - A D)

    exact        the denoiser of the law p(x0 | y) itself, whatever the law
    mmps         G = S A' (A S A' + s^2)^-1                     exact if the prior is Gaussian
    pigdm        G = S A' (r^2 A A' + s^2)^-1                   exact if the prior is N(m, t^2 I)
    likelihood   G = zeta S A' / s^2                            never
    prox         G = v A' (v A A' + lambda s^2)^-1              to O(v^2) at lambda = 1
    jfps         G = r^2 A' (r^2 A A' + s^2)^-1                 exact if the prior is N(m, t^2 I)
    ddnm         G = A^+                                        the prox at s = 0

r^2 = v t^2/(v + t^2) is the variance of x0 given x under N(0, t^2 I). A rule makes a `Denoiser`
of a `Denoiser`, so every sampler of the package runs under it. tests/test_rules.py holds what each
is exact for; `theory restoration` computes what it is wrong by elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from diffgeo.analytic.measurement import Linear, Measurement, prox
from diffgeo.core import Data, Denoiser, Sigma, column, expand
from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.inverse.gradients import solve_covariance
from diffgeo.inverse.jacobian import tangent
from diffgeo.inverse.linear import finite, linear, matching, noisy, pullback
from diffgeo.inverse.posterior import posterior_denoiser


@dataclass(frozen=True)
class Exact:
    """D^ = E[x0 | x, y], the denoiser of the law p(x0 | y): every sampler then draws from the
    posterior, up to what it is wrong by on any other law. Needs a law that can be told y.

    One evaluation of D^ counts as one of D. Raises UsageError where the law cannot be told.
    """

    def around(self, denoise: Denoiser, measurement: Measurement, data: Data | None) -> Denoiser:
        if data is None:
            raise UsageError(
                "algorithm=exact asks the law for its posterior, and no law is named: write data="
            )
        posterior = posterior_denoiser(data, measurement)
        return denoise.standing_in(posterior) if isinstance(denoise, Counted) else posterior


class Correction(ABC):
    """A rule that moves D by what y says of it."""

    @abstractmethod
    def check(self, measurement: Measurement) -> None:
        """Raise UsageError on a measurement that the rule cannot take."""

    @abstractmethod
    def moved(
        self, denoise: Denoiser, measurement: Measurement, x: Tensor, sigma: Sigma, **cond
    ) -> Tensor:
        """D^, [B,*D]."""

    def around(self, denoise: Denoiser, measurement: Measurement, data: Data | None) -> Denoiser:
        return self.told(denoise, measurement)

    def told(self, denoise: Denoiser, measurement: Measurement) -> Told:
        """`around` without the law, at which no correction looks. Raises UsageError."""
        self.check(measurement)
        return Told(self, denoise, measurement)


@dataclass(frozen=True, eq=False)
class Told:
    """`denoise` by a rule that is told a measurement. Raises UsageError for rows without a y."""

    rule: Correction
    denoise: Denoiser
    measurement: Measurement

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        matching(self.measurement, x)
        return self.rule.moved(self.denoise, self.measurement, x, sigma, **cond)


@dataclass(frozen=True)
class MMPS(Correction):
    """Moment matching posterior sampling (Rozet et al. 2024): p(x0 | x) taken for N(D, S), so

        D^ = D + S A' u,    (A S A' + s^2) u = y - A D.

    u by conjugate gradients on the numbers of y, a product with S each: exact on a Gaussian prior,
    an approximation elsewhere.

    iterations: at most so many; None: until a row's residual is below 1e-13 of its first. Published
        codes stop after a few.
    Raises UsageError on a number below 1.
    """

    iterations: int | None = None

    def __post_init__(self):
        if self.iterations is not None and self.iterations < 1:
            raise UsageError(f"algorithm.iterations={self.iterations}: write 1 or more, or null")

    def check(self, measurement):
        linear(measurement, "mmps")

    def moved(self, denoise, measurement, x, sigma, **cond):
        operator = linear(measurement, "mmps")
        local = tangent(denoise, x, sigma, **cond)
        residual = measurement.residual(local.denoised)

        def inner(u: Tensor) -> Tensor:
            covered = operator(local.product(operator.adjoint(u)))
            return covered + measurement.sigma_n**2 * u

        u = solve_covariance(inner, residual, self.iterations)
        return local.denoised + local.product(operator.adjoint(u))


def conditional_variance(sigma: Sigma, prior: float, x: Tensor) -> Tensor:
    """r^2 = v t^2/(v + t^2), the variance of x0 ~ N(0, t^2) given x, [B]."""
    v = column(sigma, x) ** 2
    return v / (1 + v / prior**2)


def check_prior(prior: float) -> None:
    """Raise UsageError unless a deviation is one."""
    if not prior > 0:
        raise UsageError(f"algorithm.t={prior} is the deviation of a prior: write a number above 0")


def gained(measurement: Measurement, operator: Linear, x0: Tensor, r2: Tensor) -> Tensor:
    """A' (A A' + s^2/r^2)^-1 (y - A x0), [B,*D]."""
    rho = measurement.sigma_n**2 / r2
    return operator.adjoint(operator.solve(measurement.residual(x0), rho))


@dataclass(frozen=True)
class PiGDM(Correction):
    """Pseudoinverse-guided diffusion (Song et al. 2023): x0 given x is taken for N(D, r^2 I) in the
    likelihood, and its gradient goes through D. One product with dD/dx.

    t: deviation of the prior N(m, t^2 I) for which this is exact; published 1.
    Not the posterior of another prior: on G4 its W2 stays at .08 with DDIM
    (tests/test_restoration_theory.py).
    """

    t: float = 1.0

    def __post_init__(self):
        check_prior(self.t)

    def check(self, measurement):
        linear(measurement, "pigdm")

    def moved(self, denoise, measurement, x, sigma, **cond):
        operator = linear(measurement, "pigdm")
        local = tangent(denoise, x, sigma, **cond)
        r2 = conditional_variance(sigma, self.t, x)
        gain = gained(measurement, operator, local.denoised, r2)
        return local.denoised + local.product(gain / expand(r2, x))


@dataclass(frozen=True)
class JFPS(Correction):
    """The prox with a prior scale: PiGDM with S = r^2 I, so no Jacobian.

    t: deviation of the prior N(m, t^2 I) for which this is exact.
    Not the posterior of another prior: on G4 with DDPM its W2 stays at .17
    (tests/test_restoration_theory.py).
    """

    t: float = 1.0

    def __post_init__(self):
        check_prior(self.t)

    def check(self, measurement):
        linear(measurement, "jfps")

    def moved(self, denoise, measurement, x, sigma, **cond):
        operator = linear(measurement, "jfps")
        denoised = denoise(x, sigma, **cond)
        r2 = conditional_variance(sigma, self.t, x)
        return denoised + gained(measurement, operator, denoised, r2)


@dataclass(frozen=True)
class Likelihood(Correction):
    """Diffusion posterior sampling in its likelihood form (Chung et al. 2023, eq. 15 with the noise
    level of y): p(y | x) taken for N(A D, s^2 I), any operator.

        D^ = D + zeta S A' (y - A D)/s^2

    Never the posterior: many DDPM steps have about half of its variance, many DDIM steps c
    exp(-kappa) (tests/test_restoration_limits.py). The step is explicit and stiff: it diverges
    unless the levels resolve v dD/dx |A|^2/s^2.

    zeta: the strength. Raises UsageError on a negative one, and where sigma_n is 0.
    """

    zeta: float = 1.0

    def __post_init__(self):
        check_strength(self.zeta)

    def check(self, measurement):
        noisy(measurement, "dps_likelihood", "ddnm")

    def moved(self, denoise, measurement, x, sigma, **cond):
        local = tangent(denoise, x, sigma, **cond)
        residual = measurement.residual(local.denoised)
        slope = pullback(measurement.operator, local.denoised, residual)
        weight = self.zeta / measurement.sigma_n**2
        return finite(local.denoised + weight * local.product(slope))


def check_strength(zeta: float) -> None:
    """Raise UsageError on a strength below 0."""
    if not zeta >= 0:
        raise UsageError(f"algorithm.zeta={zeta} is a strength: write a number of 0 or more")


@dataclass(frozen=True)
class Prox(Correction):
    """The data term of DiffPIR (Zhu et al. 2023): the nearest point to D that agrees with y,

        D^ = argmin |y - A z|^2 + rho |z - D|^2,    rho = lambda s^2/v,

    without a Jacobian. D_y to O(v^2) as v -> 0 at lambda = 1, not the posterior: with DDIM the
    variance of N(0, c) ends at c kappa^(-kappa/(kappa - 1)), kappa = c |A|^2/s^2
    (tests/test_restoration_limits.py).

    lam: lambda. Below 1 the data count 1/lambda times. Raises UsageError unless it is positive.
    """

    lam: float = 1.0

    def __post_init__(self):
        if not self.lam > 0:
            raise UsageError(f"algorithm.lam={self.lam}: lambda is a number above 0, such as 1")

    def check(self, measurement):
        linear(measurement, "prox")

    def moved(self, denoise, measurement, x, sigma, **cond):
        operator = linear(measurement, "prox")
        rho = self.lam * measurement.sigma_n**2 / column(sigma, x) ** 2
        return prox(operator, denoise(x, sigma, **cond), measurement.y, rho)


@dataclass(frozen=True)
class NullSpace(Correction):
    """DDNM (Wang, Yu, Zhang 2023): D^ = D + A^+ (y - A D), what is measured replaced. For sigma_n =
    0; noise in y is kept as if it were signal, and with DDPM the W2 on G4 (sigma_n .3) stays at
    .29. `ddnm_plus` counts with noise.

    Raises UsageError on an operator of more rows than columns.
    """

    def check(self, measurement):
        linear(measurement, "ddnm")

    def moved(self, denoise, measurement, x, sigma, **cond):
        operator = linear(measurement, "ddnm")
        return prox(operator, denoise(x, sigma, **cond), measurement.y, 0.0)
