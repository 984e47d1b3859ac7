"""Learning sum_j w_j N(mu_j, I) from n samples: descent on the DDPM objective against EM (Shah,
Chen, Klivans 2023; Lee's lectures).

    x_t = a x0 + sigma_t z,  a = e^(-t),  sigma_t^2 = 1 - a^2,
    L(mu, b) = E |sigma_t s_t(x_t) + z|^2,

s_t the softmax network of `nn.softmax`, whose only parameters are mu_j and b_j. EM is the oracle of
the same samples: with r = E-step,

    w_j <- mean r_j,      mu_j <- sum r_j x / sum r_j;

it ends at the maximum of the likelihood, whose error falls as n^(-1/2).

Two components +-mu of equal weight leave one mean: EM is mu <- mean tanh(<x, mu>) x. At one level
t, -dL/dmu / (2 sigma_t^2 a^2) points nearly along this EM step: descent so preconditioned is a
noisy EM. Gradients by autograd; descent in float32, whose rounding is far below its noise, all else
in float64. All numbers a function of (seed, n) alone. Over n, R, t and seeds: mixture_sweeps.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from diffgeo.core import generator
from diffgeo.nn.softmax import Softmax
from diffgeo.parameterization import Epsilon
from diffgeo.training.optim import Cosine

WEIGHTS = (0.1, 0.2, 0.3, 0.4)
PART = 1 << 14  # samples whose gradient is taken at once


class Components(NamedTuple):
    """sum_j weights_j N(means_j, I): the truth, or an estimate of it. means [k,d], weights [k]."""

    means: Tensor
    weights: Tensor

    def sample(self, n: int, g: torch.Generator) -> Tensor:
        """n draws [n,d]."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        return self.means[k] + torch.randn(n, self.means.shape[1], generator=g, dtype=torch.float64)

    def logits(self, x: Tensor) -> Tensor:
        """log w_j N(x; mu_j, I) + |x|^2/2 + (d/2) log 2 pi, [n,k]."""
        return x @ self.means.mT - self.means.square().sum(1) / 2 + self.weights.log()

    def score(self, x: Tensor) -> Tensor:
        """grad log p(x) = E[mu | x] - x, [n,d]."""
        return self.logits(x).softmax(1) @ self.means - x

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Mean log p over the samples."""
        d = x.shape[1]
        without_constant = (self.logits(x).logsumexp(1) - x.square().sum(1) / 2).mean()
        return without_constant - d / 2 * math.log(2 * math.pi)

    def em(self, x: Tensor) -> Components:
        """One step of expectation and maximization on the samples x [n,d]."""
        r = self.logits(x).softmax(1)
        return Components(r.mT @ x / r.sum(0)[:, None], r.mean(0))


def em(x: Tensor, start: Components, iterations: int = 1000, rest: float = 1e-9) -> Components:
    """EM on the samples x [n,d], until no coordinate of a mean moves by more than `rest`; means
    near each other take hundreds of steps."""
    for _ in range(iterations):
        before = start
        start = start.em(x)
        if (start.means - before.means).abs().max() < rest:
            break
    return start


def pair_em(x: Tensor, mu: Tensor, iterations: int = 1) -> Tensor:
    """EM for the one mean [d] of (N(mu, I) + N(-mu, I))/2: mu <- mean tanh(<x, mu>) x."""
    for _ in range(iterations):
        mu = torch.tanh(x @ mu) @ x / len(x)
    return mu


def parameter_error(estimate: Components, truth: Components) -> float:
    """Mean over components of |mu_hat - mu|, under the permutation that makes it least."""
    cost = torch.cdist(estimate.means, truth.means, compute_mode="donot_use_mm_for_euclid_dist")
    return float(cost[linear_sum_assignment(cost.numpy())].mean())


def score_error(score: Callable[[Tensor], Tensor], truth: Components, x: Tensor) -> float:
    """sqrt(E |score(x) - grad log p(x)|^2), the L2(p) distance of a score at t = 0 to the true one,
    over fresh samples x of the truth."""
    return float((score(x) - truth.score(x)).square().sum(1).mean().sqrt())


# the DDPM objective


def network(k: int, d: int) -> Softmax:
    """The softmax network of k components under epsilon, data in their own unit: F = -sigma_t s_t
    of x_t, exactly."""
    return Softmax((d,), Epsilon(), k)


def dsm(net: Softmax, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """L = mean |sigma_t s_t(x_t) + z|^2 of clean points x0 and noise z, [n,d], at times t [n]."""
    a = torch.exp(-t)[:, None]
    sigma = torch.sqrt(torch.expm1(2 * t))  # sigma_t/a
    x_t = torch.addcmul(a * x0, a * sigma[:, None], z)
    return (net(x_t, sigma.log() / 4) - z).square().sum(1).mean()


def pair_gradient(net: Softmax, mu: Tensor, x0: Tensor, t: float, z: Tensor) -> Tensor:
    """dL/dmu of `net` made the network of the two means +-mu, at one time t, [d]; x0, z [n,d]."""
    net.assign(torch.stack((mu, -mu)), torch.ones(2))
    loss = dsm(net, x0, torch.full((len(x0),), t, dtype=x0.dtype), z)
    (gradient,) = torch.autograd.grad(loss, net.points)
    plus, minus = gradient.view(2, -1)
    return plus - minus


def precondition(t: float) -> float:
    """1/(2 sigma_t^2 a^2): what turns -dL/dmu into an EM step."""
    return 1 / (2 * -math.expm1(-2 * t) * math.exp(-2 * t))


def batches(x: Tensor, size: int, g: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (clean points, noise), both [size,d]: points of x with replacement, noise always
    fresh."""
    while True:
        picked = x[torch.randint(len(x), (size,), generator=g)]
        noise = torch.randn(size, x.shape[1], generator=g, dtype=x.dtype)
        yield picked, noise


def pair_descent(
    x: Tensor,
    mu: Tensor,
    g: torch.Generator,
    stages: Sequence[tuple[float, int]] = ((0.7, 600), (0.1, 1500)),
    lr: float = 0.05,
    batch: int = 2048,
) -> Tensor:
    """Descent from large noise to small: `stages` of (t, steps), mu <- mu - lr dL/dmu / (2
    sigma_t^2 a^2); the mean of the last stage's second half of iterates, [d]."""
    net = network(2, len(mu)).to(x)
    drawn = batches(x, batch, g)
    path: list[Tensor] = []
    for t, steps in stages:
        path = []
        for _ in range(steps):
            x0, z = next(drawn)
            mu = mu - lr * precondition(t) * pair_gradient(net, mu, x0, t, z)
            path.append(mu)
    return torch.stack(path[len(path) // 2 :]).mean(0)


def descent(
    net: Softmax,
    x: Tensor,
    start: Components,
    g: torch.Generator,
    steps: int = 2500,
    lr: float = 0.02,
    batch: int = 2048,
    times: tuple[float, float] = (0.02, 1.52),
) -> Softmax:
    """The float64 net that Adam finds from `start` with a half cosine of rates, t uniform in
    `times`; in float32 on the way."""
    net = net.float().assign(*start)
    drawn = batches(x.float(), batch, g)
    rate = Cosine()
    adam = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], fused=True)
    for i in range(steps):
        adam.param_groups[0]["lr"] = lr * rate(i / steps)
        x0, z = next(drawn)
        t = times[0] + (times[1] - times[0]) * torch.rand(batch, generator=g)
        adam.zero_grad()
        dsm(net, x0, t, z).backward()
        adam.step()
    return net.double()


# the experiments


def symmetric(
    n: int, seed: int, d: int, norm: float
) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    """(mu [d] of length `norm`, n samples of (N(mu, I) + N(-mu, I))/2, a start of law N(0, .09 I),
    the generator of what follows)."""
    g = generator(seed, *b"pair", n)
    mu, start = torch.randn(2, d, generator=g, dtype=torch.float64)
    mu = norm * mu / mu.norm()
    truth = Components(torch.stack((mu, -mu)), torch.full((2,), 0.5, dtype=torch.float64))
    return mu, truth.sample(n, g), 0.3 * start, g


def pair(n: int, seed: int = 0, d: int = 16, norm: float = 1.5, **options) -> dict[str, float]:
    """|mu_hat - mu| up to sign of descent (`gd`, with options) and of 200 EM steps (`em`), from one
    start, on the same n samples."""
    mu, x, start, g = symmetric(n, seed, d, norm)

    def error(found: Tensor) -> float:
        return float(min((found - mu).norm(), (found + mu).norm()))

    descended = pair_descent(x.float(), start.float(), g, **options).double()
    return {"gd": error(descended), "em": error(pair_em(x, start, 200))}


def alignment(a: Tensor, b: Tensor) -> dict[str, float]:
    """`cosine` of the angle between a and b, and `ratio` |a|/|b|."""
    return {"cosine": float(a @ b / (a.norm() * b.norm())), "ratio": float(a.norm() / b.norm())}


def step(
    t: float, n: int = 400_000, seed: int = 0, d: int = 16, norm: float = 1.5
) -> dict[str, float]:
    """The preconditioned gradient step at time t against the EM step on the same samples, from a
    random start of length `norm`: `cosine` and `ratio` of lengths, and `cosine_exact`,
    `ratio_exact` of infinitely many samples, by quadrature."""
    mu, x, start, g = symmetric(n, seed, d, norm)
    start = norm * start / start.norm()
    z = torch.randn(x.shape, generator=g, dtype=torch.float64)
    net = network(2, d).double()
    total = torch.zeros_like(start)
    for some, noise in zip(x.split(PART), z.split(PART), strict=True):
        total = total + len(some) * pair_gradient(net, start, some, t, noise)
    found = alignment(-precondition(t) / n * total, pair_em(x, start) - start)
    exact = alignment(*population_steps(mu, start, t))
    return found | {f"{key}_exact": value for key, value in exact.items()}


def population_steps(mu: Tensor, start: Tensor, t: float, nodes: int = 80) -> tuple[Tensor, Tensor]:
    """The two steps of `step` at n = infinity, both [2] in the plane of mu and start, in which they
    lie; by Gauss-Hermite quadrature.

    E[z | x_t] = -sigma_t s, so that L is sigma_t^2 E |s_theta - s|^2 and a constant; s_theta = a
    theta tanh<x_t, a theta> - x_t.
    """
    roots, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(nodes))
    z = torch.cartesian_prod(roots, roots)
    w = torch.cartesian_prod(weights, weights).prod(1) / (2 * math.pi)
    along = float(start @ mu / mu.norm())
    across = float((start - (start @ mu) / (mu @ mu) * mu).norm())
    theta = torch.tensor([along, across], dtype=torch.float64, requires_grad=True)
    mu = torch.tensor([float(mu.norm()), 0.0], dtype=torch.float64)

    def mean(x: Tensor, m: Tensor) -> Tensor:
        return torch.tanh(x @ m)[:, None] * m

    a = math.exp(-t)
    x_t = z + a * mu  # by symmetry the component +mu is enough
    difference = mean(x_t, a * theta) - mean(x_t, a * mu)
    loss = (1 - a * a) * (w @ difference.square().sum(1))
    (gradient,) = torch.autograd.grad(loss, theta)
    x = z + mu
    theta_em = w @ (torch.tanh(x @ theta)[:, None] * x)
    return -precondition(t) * gradient, (theta_em - theta).detach()


def softmax(
    n: int = 20_000, radius: float = 4.0, seed: int = 0, d: int = 8, deck: bool = False, **options
) -> dict[str, float]:
    """Four components at radius e_j of weights .1 to .4, from their true means moved by .6 N(0, I)
    and equal weights.

    `gd`, `em`: mean |mu_hat - mu|; `gd_score`, `em_score`: the error of the score at t = 0. deck:
    also `deck_score`, descent with the network of the lectures' equation (1), which has no weights.
    options: of `descent`.
    """
    g = generator(seed, *b"softmax", n, round(1000 * radius))
    k = len(WEIGHTS)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    truth = Components(radius * torch.eye(k, d, dtype=torch.float64), weights)
    x = truth.sample(n, g)
    test = truth.sample(20_000, g)
    moved = truth.means + 0.6 * torch.randn(k, d, generator=g, dtype=torch.float64)
    start = Components(moved, torch.full_like(truth.weights, 1 / k))
    net = descent(network(k, d), x, start, g, **options)
    found = {"gd": Components(*net.mixture()), "em": em(x, start)}
    errors = {name: parameter_error(one, truth) for name, one in found.items()}
    errors |= {f"{name}_score": score_error(one.score, truth, test) for name, one in found.items()}
    if deck:
        plain = descent(Softmax((d,), Epsilon(), k, deck=True), x, start, g, **options)
        means, _ = plain.mixture()

        def score(x: Tensor) -> Tensor:
            return (x @ means.mT).softmax(1) @ means - x

        errors["deck_score"] = score_error(score, truth, test)
    return errors
