"""Images plus noise, as a law: x0 = a_i + b z, z ~ N(0, I), and its posterior given y = A x0 + s n.

A set of images is finitely many points, and its posterior mostly one of them. Blurred it has a
density, a posterior with a spread, and truths that are drawn from it: what calibration is measured
on. A draw of the posterior is one of the prior's component i, moved by what it gets wrong of y:

    i ~ p(i | y),    u = a_i + b z,    x0 = u + A'(A A' + s^2/b^2)^-1 (y - A u - s n)
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property

import torch
from torch import Tensor

from diffgeo.analytic import given as posteriors
from diffgeo.analytic.images_blurred import (
    BlurredImageDenoiser,
    GivenBlurredDenoiser,
    Measured,
    coefficients,
)
from diffgeo.analytic.measurement import Decomposed, Operator, prox
from diffgeo.core import Denoiser
from diffgeo.data.images import Images
from diffgeo.data.law import Law
from diffgeo.errors import UsageError


class BlurredImages(Law):
    """`images` convolved with N(0, blur^2 I): numbers, not bytes, so that it is a law like others
    and no set of images. Raises UsageError where blur is not positive."""

    def __init__(self, images: Images, blur: float):
        if not 0 < blur < math.inf:
            raise UsageError(f"data.blur={blur:g} must be positive; write data.blur=0 for the set")
        self.images = images
        self.blur = blur
        self.shape = images.shape
        self.dim = math.prod(images.shape)
        self._measured: dict[int, tuple[Decomposed, Tensor]] = {}

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        return self.images.mean

    @cached_property
    def std(self) -> float:  # type: ignore[override]
        return math.sqrt(self.images.std**2 + self.blur**2)

    def sample(self, n, generator):
        return self.blurred(self.images.sample(n, generator), generator)

    def blurred(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """a + b z, float64."""
        device = generator.device
        z = torch.randn(x0.shape, generator=generator, dtype=torch.float64, device=device)
        return x0.double() + self.blur * z

    def project(self, x):
        return x.clone()

    def tangent(self, p):
        """Every direction, of flattened images: [n,d,d]."""
        return torch.eye(self.dim, dtype=p.dtype, device=p.device).expand(len(p), -1, -1)

    def posterior(self, x, sigma):
        return self._denoiser(x, sigma)

    def denoiser(self) -> Denoiser:
        return self._denoiser

    @cached_property
    def _denoiser(self) -> Denoiser:
        return BlurredImageDenoiser(self.images.denoiser(), self.blur)

    def measured(self, operator: Operator, y: Tensor, sigma_n: float) -> Measured:
        """The images and measurements y [n,*M]. Raises UsageError."""
        if not isinstance(operator, Decomposed):
            raise UsageError(
                "data.blur with an operator that is not linear: its posterior has no closed form; "
                "write data.blur=0, where every operator has one"
            )
        if sigma_n == 0:
            raise UsageError("data.blur with sigma_n=0: write a small noise, such as sigma_n=1e-3")
        base = self.images.denoiser()
        # of the last operator: a run asks for many y of the same
        if id(operator) not in self._measured:
            self._measured = {id(operator): (operator, coefficients(base, operator))}
        own = self._measured[id(operator)][1]
        return Measured(base, self.blur, operator, own, y.double(), sigma_n)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> GivenBlurredImages:
        posteriors.check(operator, y, sigma_n, self.shape)
        return GivenBlurredImages(self, self.measured(operator, y[None], sigma_n))

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser:
        """E[x0 | x, y_b] of rows with measurements y [B,*M]. Raises UsageError."""
        told = self.measured(operator, y, sigma_n)
        return GivenBlurredDenoiser(told, told.weights().log_evidence)

    def parameters(self):
        return [("images", self.images.key), ("blur", self.blur)]


class GivenBlurredImages(BlurredImages):
    """p(x0 | y) of blurred images. weights: p(i | y), [G,N]; ess: 1/sum of their squares."""

    def __init__(self, law: BlurredImages, told: Measured):
        super().__init__(law.images, law.blur)
        self.told = told
        found = told.weights()
        self.share = found.log_weight[0].exp()
        self.log_evidence = float(found.log_evidence)
        self.ess = float(found.ess)
        self.rho = told.sigma_n**2 / law.blur**2

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        base = self.told.base
        total = torch.zeros(self.shape, dtype=torch.float64)
        for turn, share in zip(base.turns, self.share, strict=True):
            held = share.nonzero()[:, 0]
            for part in held.split(4096):
                pixels = turn(base.images[part].double())
                total += torch.einsum("n,nchw->chw", share[part], pixels)
        prior = base.low + total / base.scale
        return prox(self.told.operator, prior[None], self.told.y, self.rho)[0]

    @cached_property
    def std(self) -> float:  # type: ignore[override]
        """Of what y leaves of the blur, and of the images' means apart."""
        operator = self.told.operator
        base = self.told.base
        values = operator.values**2
        # A'(A A' + rho)^-1 A has the trace sum t^2/(t^2 + rho)
        within = self.blur**2 * (self.dim - float((values / (values + self.rho)).sum()))
        apart = 0.0
        for turn, share in zip(base.turns, self.share, strict=True):
            held = share.nonzero()[:, 0]
            for part in held.split(1024):
                x0 = base.low + turn(base.images[part].double()) / base.scale
                y = self.told.y.expand(len(part), *self.told.y.shape[1:])
                moved = prox(operator, x0, y, self.rho) - self.mean
                apart += float(share[part] @ moved.flatten(1).square().sum(1))
        return math.sqrt((within + apart) / self.dim)

    def sample(self, n, generator):
        told = self.told
        device = generator.device
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=device)
        ends = self.share.flatten().cumsum(0).to(device)
        draw = torch.searchsorted(ends, u * ends[-1]).clamp(max=len(ends) - 1)
        count = self.share.shape[1]
        mirrored = (draw >= count) if self.images.flip else None
        x0 = self.images.finish(self.images.rows(draw % count), mirrored)
        moved = self.blurred(x0, generator)
        size = (n, *told.y.shape[1:])
        noise = torch.randn(size, generator=generator, dtype=torch.float64, device=device)
        y = told.y.to(device) - told.sigma_n * noise
        return prox(told.operator, moved, y, self.rho)

    @cached_property
    def _denoiser(self) -> Denoiser:
        evidence = torch.tensor([self.log_evidence], dtype=torch.float64)
        return GivenBlurredDenoiser(self.told, evidence)

    def given(self, operator: Operator, y: Tensor, sigma_n: float) -> GivenBlurredImages:
        raise UsageError("blurred images are conditioned once: stack the two measurements into one")

    def given_rows(self, operator: Operator, y: Tensor, sigma_n: float) -> Denoiser:
        raise UsageError("blurred images are conditioned once: stack the two measurements into one")

    def parameters(self):
        content = hashlib.sha256(self.share.contiguous().numpy().tobytes())
        return [*super().parameters(), ("given", content.hexdigest())]
