"""Clouds whose points have weights, and the posterior of a law that has no closed form: its own
draws, weighted by the likelihood.

    p(x0 | y) = sum_i w_i delta(x_i),   x_i ~ p,   w_i = exp(-|y - A(x_i)|^2 / 2 sigma_n^2) / sum

is self-normalized importance sampling (Owen, Monte Carlo, 2013, chapter 9): right in the limit of
many draws, and worth 1/sum w^2 of them, its effective sample size (`ess`). Where that is small the
cloud is no posterior.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic import points as exact
from diffgeo.analytic.measurement import Operator
from diffgeo.core import generator
from diffgeo.data.law import Law
from diffgeo.data.points import Cloud

DRAWS = 1 << 16  # of a law whose posterior has no closed form
NOTHING = -700.0  # the logarithm of a weight that is left out, counted from the largest


class WeightedCloud(Cloud):
    """sum_i w_i delta(points_i) of many points [N,d]; log_weights [N], normalized here. Points that
    weigh less than e^-700 of the heaviest are left out."""

    def __init__(self, points: Tensor, log_weights: Tensor):
        held = log_weights - log_weights.max() > NOTHING
        super().__init__(points=points[held])
        self.log_weights = log_weights[held].double().log_softmax(0)
        share = self.shares
        self.mean = share @ self.points.double()
        square = torch.zeros((), dtype=torch.float64)
        for part, own in zip(self.points.split(8192), share.split(8192), strict=True):
            square = square + own @ (part - self.mean).square().mean(1)
        self.std = float(square.sqrt())

    @property
    def shares(self) -> Tensor:
        """The weights, of sum 1, [N]. (`weights` is None: a plot does not show them one by one.)"""
        return self.log_weights.exp()

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> WeightedCloud:
        posteriors.check(operator, y, sigma_n, self.shape)
        return weighted(self.points, self.log_weights, operator, y, sigma_n)

    def sample(self, n, generator):
        share = self.shares.to(generator.device)
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        pick = torch.searchsorted(share.cumsum(0), u).clamp(max=len(share) - 1)
        return self.points[pick.to(self.points.device)].to(generator.device, torch.float64)

    def prepared(self, device):
        if device not in self._prepared:
            points = self.points.to(device)
            self._prepared[device] = exact.cloud(points, self.log_weights.to(device))
        return self._prepared[device]

    @property
    def key(self) -> str:
        content = hashlib.sha256(self.log_weights.cpu().contiguous().numpy().tobytes())
        return f"weighted-{super().key}-{content.hexdigest()[:16]}"


def weighted(
    points: Tensor, log_weights: Tensor | None, operator: Operator, y: Tensor, sigma_n: float
) -> WeightedCloud:
    """The posterior of points [N,d] of log weights [N] of sum 1, or equal ones. Raises
    UsageError."""
    found = posteriors.reweighted(operator, points, log_weights, y[None], sigma_n)
    law = WeightedCloud(points, found.log_weight[0])
    return law.known_by(float(found.log_evidence), float(found.ess))


def given_draws(law: Law, operator: Operator, y: Tensor, sigma_n: float) -> WeightedCloud:
    """The posterior of a law as `DRAWS` seeded draws of it, weighted; its `log_evidence` is an
    estimate. Raises UsageError."""
    posteriors.check(operator, y, sigma_n, law.shape)
    draws = law.sample(DRAWS, generator(0, *b"given"))
    return weighted(draws, None, operator, y, sigma_n)
