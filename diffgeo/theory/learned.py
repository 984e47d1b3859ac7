"""The relative error of a score on a Gaussian: given, drawn, or measured from a network; what it
costs, and where it turns a ranking.

In the eigen-direction i the exact residual of a denoiser is x - D = c_i (x - m), c_i =
sigma^2/(lambda_i + sigma^2), and a score with the relative error e_i has c_i (1 + e_i). A network
is no diagonal map; its error in direction i is the slope of its own residual on the exact one over
samples of p_sigma,

    1 + e_i(sigma) = Cov(u_i^T (x - D), u_i^T x) / (c_i Var(u_i^T x)),

and what is left over, the share of its residual's error that no diagonal map has, is reported
beside it. To first order in e, with I_t = int_eps^t beta/lambda^s ds = 1/2 ln (lambda +
sigma_t^2)/(lambda + sigma_eps^2), the deviation at the end is off by a factor 1 - w,

    ODE   w = int e dI_t                    the flow keeps every error,
    SDE   w = int e d(1 - e^(-2 I_t))       the diffusion forgets the early ones.

For constant e these are theory/gaussian.py's e I and e (1 - e^(-2I)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Chart, Data, Denoiser, Sampler, generator
from diffgeo.errors import UsageError
from diffgeo.theory.distances import roots
from diffgeo.theory.gaussian import Spectrum, discrete, level, levels, true

LEVELS = 24  # at which a network is measured
FINE = 400  # of the integral of a first-order law


class Draws(NamedTuple):
    """Independent draws of a random relative error, one an eigenvalue: [m,k]. What follows from
    them has a mean and a standard deviation, and no one of them is the answer."""

    errors: Tensor


def drawn(eta: float, k: int, seed: int, draw: int = 0) -> Tensor:
    """eta xi, xi ~ N(0, 1) for each eigenvalue, [k]; the draws 0, 1, ... of a seed are
    independent."""
    stream = (*b"score error", draw) if draw else tuple(b"score error")
    return eta * torch.randn(k, generator=generator(seed, *stream), dtype=torch.float64)


def several(eta: float, k: int, seed: int, draws: int) -> Draws:
    """The first draws of a seed."""
    return Draws(torch.stack([drawn(eta, k, seed, draw) for draw in range(draws)]))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over draws: nan and inf as they come, the deviation of infinite
    values nan."""
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std())


class Learned(NamedTuple):
    """Relative errors [L,k] at increasing levels sigma [L]; called with a level they are linear in
    log sigma, constant beyond the ends.

    rest [L]: the share of E|network - exact|^2 that is not of this form: offsets, mixing of
    directions, nonlinearity.
    noise [L]: the standard error of a direction's slope, root mean square over the directions: what
    the finite number of points adds to the errors.
    """

    sigma: Tensor
    error: Tensor
    rest: Tensor
    noise: Tensor

    def __call__(self, sigma: float) -> Tensor:
        x = self.sigma.log()
        at = torch.tensor(sigma, dtype=x.dtype).clamp(self.sigma[0], self.sigma[-1]).log()
        right = int(torch.searchsorted(x, at).clamp(1, len(x) - 1))
        u = (at - x[right - 1]) / (x[right] - x[right - 1])
        return torch.lerp(self.error[right - 1], self.error[right], u)


@torch.no_grad()
def measure(
    model: Denoiser,
    data: Data,
    mean: Tensor,
    basis: Tensor,
    values: Tensor,
    sigmas: Tensor,
    n: int,
    seed: int = 0,
    device="cpu",
    batch: int = 1000,
) -> Learned:
    """The relative error of `model` in each eigen-direction of N(mean, basis diag(values) basis^T),
    [d], [d,d], [d], at the positive levels `sigmas` [L], over n points of `data` noised to
    each."""
    if n < 2:
        raise UsageError(f"n={n}: write 2 or more samples to measure a network on")
    errors = []
    rest = []
    noises = []
    mean = mean.to(device, torch.float64)
    basis = basis.to(device, torch.float64)
    ordered = sorted(float(s) for s in sigmas)
    for sigma in ordered:
        g = generator(seed, *b"learned", device=device)  # the same points and noise at every level
        c = sigma**2 / (values.to(mean) + sigma**2)
        sums = values.new_zeros(5, len(values)).to(mean)
        for size in torch.arange(n).split(batch):
            x0 = data.sample(len(size), g)
            noise = torch.randn(x0.shape, generator=g, dtype=torch.float64, device=g.device)
            x = x0 + sigma * noise
            u = (x.flatten(1).double() - mean) @ basis
            r = (x - model(x, sigma)).flatten(1).double() @ basis
            sums = sums + sums_of(u, r, r - c * u)
        fit = fitted(sums / n, c, n)
        errors.append(fit.error.cpu())
        rest.append(fit.rest)
        noises.append(fit.noise)
    return Learned(
        sigma=torch.tensor(ordered, dtype=torch.float64),
        error=torch.stack(errors),
        rest=torch.tensor(rest, dtype=torch.float64),
        noise=torch.tensor(noises, dtype=torch.float64),
    )


def sums_of(u: Tensor, r: Tensor, off: Tensor) -> Tensor:
    """Over the states [n,k]: of centred states u, residuals r, and the products that a slope takes,
    [5,k]; off is what a residual is off the exact one."""
    return torch.stack([u.sum(0), r.sum(0), (u * u).sum(0), (u * r).sum(0), (off * off).sum(0)])


class Fit(NamedTuple):
    """Of one level: the relative errors [k], the share of the squared error that is not of this
    form, the rms standard error of a direction."""

    error: Tensor
    rest: float
    noise: float


def fitted(means: Tensor, c: Tensor, n: int) -> Fit:
    """The fit from the means of `sums_of` over n points. What a slope leaves of `off` in its
    direction has the variance s^2, and its standard error is s/(c sqrt(n Var u))."""
    u, r, uu, ur, off = means
    variance = uu - u * u
    error = (ur - u * r) / variance / c - 1
    if not float(off.sum()) > 0:
        return Fit(error, 0.0, 0.0)
    explained = (c * error) ** 2 * variance
    left = (off - (r - c * u) ** 2 - explained).clamp(min=0)
    noise = (left / (n * variance)).sqrt() / c
    rest = float(1 - explained.sum() / off.sum())
    return Fit(error, rest, float(noise.square().mean().sqrt()))


def effective(
    spectrum: Spectrum,
    chart: Chart,
    eps: float,
    error: Callable[[float], Tensor],
    stochastic: bool,
) -> Tensor:
    """The constant relative error [k] with the same first-order law as error(sigma)."""
    high, _ = level(chart, chart.t_max)
    low = max(level(chart, eps)[0], 1e-8 * high)
    sigma = torch.linspace(math.log(low), math.log(high), FINE + 1, dtype=torch.float64).exp()
    # 2 I_t, [FINE+1,k]
    logarithm = torch.log((spectrum.values + sigma[:, None] ** 2) / (spectrum.values + low**2))
    weight = (-torch.expm1(-logarithm) if stochastic else logarithm / 2).diff(dim=0)
    between = torch.stack([error(float(s)) for s in (sigma[1:] * sigma[:-1]).sqrt()])
    return (weight * between).sum(0) / weight.sum(0)


# where a ranking turns


def by_eta(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    sigmas: Tensor,
    start: str,
    etas: Tensor,
    xi: Tensor | float = 1.0,
) -> dict[str, Tensor]:
    """(sqrt v - sqrt lambda)^2 of every scheme, [E,k], for the relative errors eta xi: all eta in
    one pass, as so many more eigenvalues."""
    k = len(spectrum.values)
    wide = Spectrum(spectrum.values.repeat(len(etas)))
    error = (etas[:, None] * torch.as_tensor(xi, dtype=torch.float64).expand(k)).flatten()
    goal = true(wide, chart, 0.0).variance
    laws = discrete(wide, chart, samplers, sigmas, (start,), error)
    return {
        name: roots(law.variance, goal).square().view(len(etas), k)
        for (name, _), law in laws.items()
    }


class Flip(NamedTuple):
    """The relative error eta at which the first scheme's lead is lost (0: it never led; inf: it
    keeps it to the largest tried), and W2."""

    eta: float
    w2: float


def flip(
    spectrum: Spectrum,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    points: int,
    eps: float,
    start: str,
    xi: Tensor | float = 1.0,
    low: float = 1e-5,
    high: float = 1.0,
    rounds: int = 4,
    per_round: int = 6,
) -> Flip:
    """Where W2 to p_0 of the first sampler overtakes that of the second as eta grows from `low` to
    `high`, for the errors eta xi.

    Each round lays `per_round` values into the interval and keeps the two between which the sign
    turns; at the end the difference is taken as linear between two values
    (high/low)^(1/(per_round-1)^rounds) apart.
    """
    first, second = samplers
    sigmas = levels(chart, points, eps)
    a = math.log(low)
    b = math.log(high)
    for _ in range(rounds):
        etas = torch.linspace(a, b, per_round, dtype=torch.float64).exp()
        squares = by_eta(spectrum, chart, samplers, sigmas, start, etas, xi)
        leader, follower = ((squares[name] @ spectrum.counts).sqrt() for name in (first, second))
        behind = leader - follower
        turn = first_turn(behind)
        if turn is None:
            return Flip(math.inf, float(follower[-1]))
        i, share = turn
        if i == 0:  # in the first round: nothing there to lose
            return Flip(0.0, float(follower[0]))
        a = math.log(float(etas[i - 1]))
        b = math.log(float(etas[i]))
    w2 = torch.lerp(follower[i - 1], follower[i], share)
    return Flip(math.exp(a + share * (b - a)), float(w2))


def first_turn(behind: Tensor) -> tuple[int, float] | None:
    """Where `behind` [E] first exceeds 0: the index i there, and how far between i - 1 and i it is
    0 if linear (0 at i = 0); None where it never does."""
    turned = (behind > 0).nonzero()
    if not len(turned):
        return None
    i = int(turned[0])
    if i == 0:
        return 0, 0.0
    return i, float(behind[i - 1] / (behind[i - 1] - behind[i]))


def flips_by_eigenvalue(
    values: Sequence[float] | Tensor,
    chart: Chart,
    samplers: Mapping[str, Sampler],
    points: int,
    eps: float,
    start: str,
    etas: Tensor,
) -> Tensor:
    """For each eigenvalue the eta from which the first sampler's error there exceeds the second's,
    rms over e = +eta and -eta; 0 and inf as in `Flip`, between two of the increasing `etas` [E]
    linear in log eta. [k]."""
    first, second = samplers
    spectrum = Spectrum(torch.as_tensor(values))
    sigmas = levels(chart, points, eps)
    both = [by_eta(spectrum, chart, samplers, sigmas, start, etas, sign) for sign in (1.0, -1.0)]
    lost = torch.log(sum(f[first] for f in both) / sum(f[second] for f in both))  # [E,k]
    out = torch.full((len(spectrum.values),), math.inf, dtype=torch.float64)
    for k, column in enumerate(lost.T):
        turn = first_turn(column)
        if turn is not None:
            i, share = turn
            out[k] = 0.0 if i == 0 else float(etas[i - 1] * (etas[i] / etas[i - 1]) ** share)
    return out
