"""The posterior of a set of images: the same images, each as likely as a measurement says.

A set whose images are equally likely before y has the weights of `analytic.images_given` after it,
for every operator. Where the noise is small against the distance of two images, one of them has all
the weight, and `ess`, 1/sum w^2, is 1: the posterior of a finite set is then an image, not a law
with a spread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.analytic.images_given import GivenImageDenoiser, reweighted
from diffgeo.analytic.measurement import Operator
from diffgeo.data.images import Images

MOMENTS = 4096  # images whose numbers are summed at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenImages(Images):
    """Images with weights, a `core.ImageSet` that is `core.Uneven`.

    log_weights: float64 [G,N] of sum 1 over the orientations (2 under `flip`, else 1) and images.
    log_evidence: log p(y) in nats. ess: 1/sum w^2, a mirror image being one more.
    base: the denoiser of the set before y.
    """

    log_weights: Tensor
    log_evidence: float
    ess: float
    base: ImageDenoiser

    @cached_property
    def _cumulative(self) -> Tensor:
        return self.log_weights.flatten().exp().cumsum(0)

    def pick(self, n, generator):
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        ends = self._cumulative.to(generator.device)
        draw = torch.searchsorted(ends, u * ends[-1]).clamp(max=len(ends) - 1)
        number = draw % len(self)
        return number, (draw >= len(self)) if self.flip else None

    @cached_property
    def _moments(self) -> tuple[Tensor, float]:
        weights = self.log_weights.exp()
        mean = torch.zeros(self.shape, dtype=torch.float64)
        square = 0.0
        for block, own in zip(self.images.split(MOMENTS), weights.split(MOMENTS, 1), strict=True):
            pixels = block.double()
            square += float(own.sum(0) @ pixels.flatten(1).square().mean(1))
            for turn, share in zip(self.base.turns, own, strict=True):
                mean += torch.einsum("n,nchw->chw", share, turn(pixels))
        return mean, max(0.0, square - float(mean.square().mean()))

    @cached_property
    def support(self) -> Tensor:
        return self.log_weights.exp().amax(0).nonzero()[:, 0]

    @cached_property
    def _denoiser(self) -> ImageDenoiser:
        return GivenImageDenoiser.of(self.base, self.log_weights)

    @cached_property
    def key(self) -> str:
        content = hashlib.sha256(self.log_weights.cpu().contiguous().numpy().tobytes())
        return f"{super().key}-given-{content.hexdigest()[:16]}"


def given(data: Images, operator: Operator, y: Tensor, sigma_n: float) -> GivenImages:
    """The posterior of a set of images and one y [*M]. Raises UsageError."""
    posteriors.check(operator, y, sigma_n, data.shape)
    found = weighed(data, operator, y[None], sigma_n)
    options = {field.name: vars(data)[field.name] for field in fields(Images)}
    return GivenImages(
        **options,
        log_weights=found.log_weight[0],
        log_evidence=float(found.log_evidence),
        ess=float(found.ess),
        base=base_of(data),
    )


def given_rows(data: Images, operator: Operator, y: Tensor, sigma_n: float) -> GivenImageDenoiser:
    """E[x0 | x, y_b] of row b, y [B,*M]. Raises UsageError."""
    found = weighed(data, operator, y, sigma_n)
    return GivenImageDenoiser.of(base_of(data), found.log_weight)


def weighed(data: Images, operator: Operator, y: Tensor, sigma_n: float) -> posteriors.Reweighted:
    """The weights of the images given y [n,*M], [n,G,N]; rows that share a y ask once."""
    different, own = y.flatten(1).unique(dim=0, return_inverse=True)
    before = data.log_weights if isinstance(data, GivenImages) else None
    rows = different.view(-1, *operator.measured)
    found = reweighted(base_of(data), operator, rows, sigma_n, before)
    return posteriors.Reweighted(found.log_weight[own], found.log_evidence[own])


def base_of(data: Images) -> ImageDenoiser:
    """The denoiser of the images, equally likely."""
    return data.base if isinstance(data, GivenImages) else data.denoiser()
