"""Asymptotic discrete spot noise: a Gaussian of pictures that is stationary on the torus.

An image u [C,H,W] becomes its spot t = (u - mean)/sqrt(HW), and a texture is

    x0 = mean + t * w,      w white, one number a pixel [H,W], * the convolution on the torus.

In the unitary Fourier basis the C numbers of a frequency are x0^(xi) = T(xi) w^(xi), T the plain
Fourier transform of t, so the covariance there has rank one: with the unit vector e = T/|T|

    lambda(xi) = sum_c |T_c(xi)|^2   along e,       0 in the C - 1 directions across it,

and 0 for the constants, whose mean is gone. With z = x - mean and a gain g(xi), let

    along(z; g) = F^-1 [ e g <e, F z> ].       Then

    D(x; sigma)   = mean + along(z; lambda/(lambda + sigma^2)),
    Cov[x0|x] v   = sigma^2 along(v; lambda/(lambda + sigma^2)),
    x(sigma')     = mean + ratio along and sigma'/sigma across     (the probability flow).

Two Fourier transforms, whatever the size. Galerne, Gousseau and Morel, Random phase textures (IEEE
Trans. Image Process. 20, 2011); as a test of diffusion models: Pierret and Galerne 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffgeo.core import expand

ROUNDING = 1e-13  # |T| below this fraction of the largest is rounding, and the eigenvalue 0


class SpotNoise:
    """The formulas of N(mean, C) of a spot noise: an `exact.Formulas` of images [B,C,H,W].

    mean [C,1,1] and spot [C,H,W] float64. values: lambda by frequency, [H,W] in the order of
    torch.fft.fft2. Everything is float64, on the device of what it is given.
    """

    def __init__(self, mean: Tensor, spot: Tensor):
        self.mean = mean
        self.spot = spot
        self.shape = tuple(spot.shape)
        transform = torch.fft.rfft2(spot)
        length = torch.linalg.vector_norm(transform, dim=0)
        length = torch.where(length > ROUNDING * length.max(), length, 0.0)
        length[0, 0] = 0.0  # the constants
        self.transform = torch.where(length > 0, transform, 0.0)
        self.direction = self.transform / length.clamp(min=torch.finfo(torch.float64).tiny)
        self.half = length**2  # the frequencies that a real transform holds, [H,W//2+1]
        self.values = whole(self.half, spot.shape[-1])
        self._held: dict[torch.device, SpotNoise] = {}

    def on(self, device: torch.device) -> SpotNoise:
        """These numbers on a device, copied there at the first use."""
        if device == self.spot.device:
            return self
        if device not in self._held:
            self._held[device] = SpotNoise(self.mean.to(device), self.spot.to(device))
        return self._held[device]

    # pictures and their coordinates

    def made_of(self, white: Tensor) -> Tensor:
        """The textures mean + t * w of white noise w [n,H,W]: [n,C,H,W]."""
        own = self.on(white.device)
        transform = torch.fft.rfft2(white)[:, None] * own.transform
        return own.mean + torch.fft.irfft2(transform, s=own.shape[1:])

    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x - mean in an orthonormal real basis in which C is diagonal: the coordinates along
        [n,H,W], of variance `values`, and the square of what is left across, where C is 0, [n].

        <e, F z> is the transform of one real number a pixel; its Hartley transform, Re - Im, is
        real and orthonormal too.
        """
        own = self.on(x.device)
        z = x - own.mean
        field = torch.fft.irfft2(own.inner(z), s=own.shape[1:])
        transform = torch.fft.fft2(field, norm="ortho")
        coordinates = transform.real - transform.imag
        square = z.flatten(1).square().sum(1) - field.flatten(1).square().sum(1)
        return coordinates, square.clamp(min=0)

    def inner(self, z: Tensor) -> Tensor:
        """<e, F z> at each frequency of the real transform: [n,C,H,W] -> [n,H,W//2+1]."""
        return (self.direction.conj() * torch.fft.rfft2(z)).sum(1)

    def along(self, z: Tensor, gain: Tensor | float) -> Tensor:
        """F^-1 [e g <e, F z>], [n,C,H,W]; gain a number, or [n,H,W//2+1]."""
        transform = (gain * self.inner(z))[:, None] * self.direction
        return torch.fft.irfft2(transform, s=self.shape[1:])

    def axes(self) -> Tensor:
        """The directions of the coordinates, flattened pictures [HW,CHW] with an orthonormal row
        for each positive eigenvalue and 0 for the others: dense, for small pictures."""
        height, width = self.shape[1:]
        units = torch.eye(height * width, dtype=torch.float64).view(-1, height, width)
        transform = torch.fft.fft2(units, norm="ortho")
        return self.along_field(transform.real - transform.imag).flatten(1)

    def along_field(self, field: Tensor) -> Tensor:
        """F^-1 [e F field] of one number a pixel [n,H,W], [n,C,H,W]."""
        transform = torch.fft.rfft2(field)[:, None] * self.direction
        return torch.fft.irfft2(transform, s=self.shape[1:])

    # what an exact denoiser knows: x [B,C,H,W], sigma [B]

    def posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x]."""
        own = self.on(x.device)
        return own.mean + own.along(x - own.mean, own.gain(sigma))

    def gain(self, sigma: Tensor) -> Tensor:
        """lambda/(lambda + sigma^2), [B,H,W//2+1]."""
        return self.half / (self.half + sigma[:, None, None] ** 2)

    def covariance_product(self, x: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        """Cov[x0 | x] v, whatever x is."""
        own = self.on(x.device)
        return expand(sigma**2, v) * own.along(v, own.gain(sigma))

    def trace(self, x: Tensor, sigma: Tensor) -> Tensor:
        """tr dD/dx = sum lambda/(lambda + sigma^2), [B], whatever x is."""
        values = self.on(x.device).values.flatten()
        return (values / (values + sigma[:, None] ** 2)).sum(1)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(x) in nats, [B]."""
        coordinates, across = self.coordinates(x)
        square = sigma[:, None] ** 2
        total = self.on(x.device).values.flatten() + square
        count = math.prod(self.shape)
        flat = count - total.shape[1]  # directions across
        logarithms = total.log().sum(1) + flat * square[:, 0].log() + count * math.log(2 * math.pi)
        lengths = (coordinates.flatten(1) ** 2 / total).sum(1) + across / square[:, 0]
        return -0.5 * (logarithms + lengths)

    def flow(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Where the probability flow takes x from sigma to sigma_next, which may be 0."""
        own = self.on(x.device)
        z = x - own.mean
        high = sigma[:, None, None] ** 2
        low = sigma_next[:, None, None] ** 2
        ratio = ((own.half + low) / (own.half + high)).sqrt()
        across = z - own.along(z, 1.0)
        return own.mean + own.along(z, ratio) + expand(sigma_next / sigma, z) * across


def whole(half: Tensor, width: int) -> Tensor:
    """A real and even function of frequency [H,W//2+1] at all of them, [H,W]: that of -xi is that
    of xi."""
    height = len(half)
    rows = -torch.arange(height) % height
    columns = torch.arange(1, (width + 1) // 2)
    mirrored = half[rows][:, columns].flip(1)
    return torch.cat([half, mirrored], 1)


def spot_of(image: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [C,1,1] and the spot [C,H,W] of an image [C,H,W], float64."""
    u = image.double()
    mean = u.mean((1, 2), keepdim=True)
    return mean, (u - mean) / math.sqrt(u[0].numel())
