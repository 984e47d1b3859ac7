"""The posterior of a law on segments: a truncated normal along each, in closed form."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Linear
from diffgeo.analytic.segment import variance
from diffgeo.analytic.segment_given import Local, Told
from diffgeo.data.flat import Segments
from diffgeo.errors import UsageError

ROWS = 512  # of x at a time: what stays in the cache


class GivenSegments(Segments):
    """p(x0 | y) of the uniform law on k segments. `told` holds the segments and the measurement."""

    def __init__(self, law: Segments, told: Told, log_evidence: float):
        self.start = law.start
        self.direction = law.direction
        self.length = law.length
        self.offset = law.offset
        self.shape = law.shape
        self.told = told
        self.log_evidence = log_evidence
        self.along = told.posterior()
        self.share = self.along.log_mass.softmax(0)  # the mass of each segment, [k]
        middle = self.start + self.along.mean[:, None] * self.direction
        self.mean = self.share @ middle
        spread = variance(self.along.centre, self.length, self.along.width)
        apart = (middle - self.mean).square().sum(1)
        self.std = float((self.share @ (spread + apart) / self.shape[0]).sqrt())

    def quantile(self, u: Tensor) -> Tensor:
        # torch has no inverse of a truncated normal that keeps its digits in the tails
        from scipy.stats import truncnorm

        ends = torch.cat([self.share.new_zeros(1), self.share.cumsum(0)]).to(u)
        k = (torch.searchsorted(ends, u.contiguous(), right=True) - 1).clamp(0, len(self.share) - 1)
        inner = ((u - ends[k]) / self.share.to(u)[k]).clamp(0, 1)
        centre, width, length = (
            part.to(u)[k] for part in (self.along.centre, self.along.width, self.length)
        )
        low = -centre / width
        high = (length - centre) / width
        numbers = truncnorm.ppf(*(part.cpu().numpy() for part in (inner, low, high)))
        place = centre + width * torch.as_tensor(numbers).to(u)
        return self.offset.to(u)[k] + torch.minimum(place.clamp(min=0), length)

    def _locals(self, x: Tensor, sigma: Tensor) -> list[Local]:
        told = self.told.to(x)
        parts = zip(x.split(ROWS), sigma.split(ROWS), strict=True)
        return [Local(told, *part) for part in parts]

    def posterior(self, x, sigma):
        return torch.cat([part.mean() for part in self._locals(x, sigma)])

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([part.log_density() for part in self._locals(x, sigma)])

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([part.trace() for part in self._locals(x, sigma)])

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        parts = zip(self._locals(x, sigma), v.split(ROWS), strict=True)
        return torch.cat([part.covariance_product(own) for part, own in parts])

    def parameters(self):
        content = hashlib.sha256()
        for part in vars(self.told).values():
            content.update(part.cpu().contiguous().numpy().tobytes())
        return [("told", content.hexdigest())]


def given(law: Segments, operator: Linear, y: Tensor, sigma_n: float) -> GivenSegments:
    """The posterior of a uniform law on segments, y [*M]. Raises UsageError without noise."""
    if sigma_n == 0:
        raise UsageError(
            "sigma_n=0: on a law of segments a measurement without noise leaves points; write a "
            "small one, such as sigma_n=1e-3"
        )
    measured = operator(law.start).flatten(1)
    residual = (y.double().flatten() - measured) / sigma_n
    slope = operator(law.direction).flatten(1) / sigma_n
    told = Told(law.start, law.direction, law.length, residual, slope)
    return GivenSegments(law, told, told.log_evidence(sigma_n))
