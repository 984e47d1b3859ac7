"""Girsanov's certificate of a sampler with a frozen score, and the error of its start, in closed
form.

The exponential integrator (EI-DDPM) follows the reverse SDE with the score of the step's beginning,
s_t(x_t) in place of s_s(x_s), where s = grad ln p. By Girsanov the law of its PATH differs from
that of the true reverse path by

    KL(paths) = KL(p_T | N(0, I)) + sum_k int_u^t E|s_t(x_t) - s_s(x_s)|^2 ds,      h = t - u,

(+ sum_k h_k eps^2 for a constant error eps), which by data processing bounds KL(p_0 | output): a
certificate, not the error. Along the OU process e^-t s_t(x_t) is a backward martingale,
E[s_s(x_s) | x_t] = e^-(t-s) s_t(x_t), so for ANY law, with J the Fisher information E|s_t|^2 and H
the differential entropy (H' = J - d),

    E|s_t(x_t) - s_s(x_s)|^2 = J_s - (2 e^-(t-s) - 1) J_t,
    int_u^t                  = H_t - H_u + d h + (h - 2 (1 - e^-h)) J_t.

For a Gaussian coordinate of variance lambda, J = r = 1/lambda^t and H_t - H_u + h = I_t - I_u,
I = 1/2 ln(e^2t + lambda - 1). With a = 1 - e^-h and
z = r a (2 - a) = 1 - e^-2h lambda^u/lambda^t both terms are positive, and nothing cancels however
small the step:

    int_u^t = r (-ln(1-a) - a - a^2/2) + (-ln(1-z) - z)/2  =  O(h^2),

inf where p_u is singular.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgeo.theory.distances import excess
from diffgeo.theory.gaussian import Spectrum

CHUNK = 1_000_000  # steps of a grid that are held at once


def tail(z: Tensor, rest: Tensor, order: int) -> Tensor:
    """-ln(1 - z) - sum_{k <= order} z^k/k for 0 <= z <= 1 without cancellation; `rest` is 1 - z, as
    exact where z is near 1."""
    above = torch.zeros_like(z)
    for k in range(order + 17, order, -1):  # Horner's rule
        above.add_(1 / k).mul_(z)
    above.mul_(z**order)
    small = z < 0.1
    if bool(small.all()):
        return above
    plain = -torch.log(rest) - sum(z**k / k for k in range(1, order + 1))
    return torch.where(small, above, plain)


def variance(values: Tensor, t: Tensor) -> Tensor:
    """lambda^t, exact near t = 0: values [k], t [n] -> [k,n]."""
    return values[:, None] * torch.exp(-2 * t) - torch.expm1(-2 * t)


def step_kl(values: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """int_u^t E|s_t(x_t) - s_s(x_s)|^2 ds of one coordinate of variance lambda at time 0: values
    [k], t and u [n] -> [k,n]."""
    h = t - u
    r = 1 / variance(values, t)
    a = -torch.expm1(-h)
    z = r * a * (2 - a)
    rest = r * torch.exp(-2 * h) * variance(values, u)
    return r * tail(a, torch.exp(-h), 2) + tail(z, rest, 1) / 2


def path_kl(spectrum: Spectrum, times: Tensor) -> float:
    """The discretization term down the grid `times` [N+1], in nats."""
    return float(spectrum.counts @ step_kl(spectrum.values, times[:-1], times[1:]).sum(1))


def uniform_path_kl(spectrum: Spectrum, steps: int, horizon: float, stop: float = 0.0) -> float:
    """`path_kl` of the uniform grid, which is never held as a whole: a certificate may ask for
    millions of steps."""

    def times(first: int) -> Tensor:
        k = torch.arange(first, min(first + CHUNK, steps) + 1, dtype=torch.float64)
        return (stop * k + horizon * (steps - k)) / steps

    return sum(path_kl(spectrum, times(first)) for first in range(0, steps, CHUNK))


def path_kl_of(entropy: tuple[float, float], fisher: Tensor, times: Tensor, d: int = 1) -> float:
    """The same for any law, from the entropies of p at the first and last time and the Fisher
    information J at times[:-1] [N]."""
    h = -times.diff()
    before, after = entropy
    return before - after + float(d * h.sum() + ((h + 2 * torch.expm1(-h)) * fisher).sum())


def initialization(spectrum: Spectrum, horizon: float) -> float:
    """KL(p_T | N(0, I)): at most (E|x0|^2 + d) e^-2T up to a constant, e^-4T where the mean is
    0."""
    shrink = torch.exp(torch.tensor(-2 * horizon, dtype=torch.float64))
    mean = 0.0 if spectrum.mean is None else float(spectrum.mean.square().sum() * shrink)
    spread = float((spectrum.counts * excess((spectrum.values - 1) * shrink)).sum())
    return (spread + mean) / 2
