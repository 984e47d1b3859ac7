"""Beside deepinv, a library of imaging: the same operators, and DiffPIR and DPS where the two mean
the same.

deepinv's images are in [0,1] and its noise levels follow: x = 2 x01 - 1, sigma = 2 sigma01. Its
DiffPIR minimizes |y - A x|^2 + 2 rho |x - z|^2 with rho = lambda s01^2/sigma^2, so its lambda is
twice ours (its default 7 is our 3.5), and it returns the state at the last level, not D. Its DPS
weighs grad |y - A D| by lambda (v - v')/2, in the units of [-1,1], the published one by
zeta sqrt((1+v)(1+v')): no zeta makes a run of one a run of the other, but each step has one.
"""

import math

import pytest
import torch

from diffgeo.analytic.measurement import Measurement, prox
from diffgeo.core import column, expand
from diffgeo.inverse import operators
from diffgeo.inverse.steps.gradient import DPS
from diffgeo.inverse.steps.renoise import DiffPIR
from diffgeo.sampler import steps

pytest.importorskip("deepinv", reason="the extra dev is not installed")
f64 = torch.float64
SHAPE = (3, 12, 8)
KERNEL = torch.tensor([[1, 2, 0], [0, 3, 1], [0.5, 0, 0], [0, 0.2, 1], [0, 0, 0.1]], dtype=f64)
KERNEL = KERNEL / KERNEL.sum()
MEAN, VARIANCE = 0.1, 0.04  # of the pixels of the law: its D stays inside [-1,1], which both clip


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def denoise(x, sigma, **cond):
    """E[x0 | x] of N(MEAN, VARIANCE) pixels, in [-1,1]."""
    share = VARIANCE / (VARIANCE + column(sigma, x) ** 2)
    return MEAN + expand(share, x) * (x - MEAN)


def theirs(x01, sigma01, **options):
    """The same denoiser in [0,1]."""
    sigma = 2 * torch.as_tensor(sigma01, dtype=x01.dtype).flatten()
    return (denoise(2 * x01 - 1, sigma[0] if len(sigma) == 1 else sigma) + 1) / 2


@pytest.mark.parametrize("rows, columns", [(5, 3), (4, 3), (3, 2)])
def test_a_blur_is_theirs(rows, columns):
    from deepinv.physics import Blur, BlurFFT

    kernel = KERNEL[:rows, :columns] / KERNEL[:rows, :columns].sum()
    ours = operators.kernel(SHAPE, entries=kernel)
    x = normal(2, *SHAPE)
    y = normal(2, *SHAPE, seed=1)
    by_fft = BlurFFT(SHAPE, kernel[None, None])
    assert torch.allclose(ours(x), by_fft.A(x), atol=1e-5)
    assert torch.allclose(ours.adjoint(y), by_fft.A_adjoint(y), atol=1e-5)
    # gamma |y - A z|^2/2 + |z - x|^2/2
    assert torch.allclose(prox(ours, x, y, 0.4), by_fft.prox_l2(x, y, 1 / 0.4), atol=1e-5)
    direct = Blur(kernel[None, None], padding="circular")
    assert torch.allclose(ours(x), direct.A(x), atol=1e-5)


def test_super_resolution_is_theirs():
    from deepinv.physics import Downsampling

    ours = operators.resizing.BlurAndKeep(KERNEL, SHAPE, 2)
    library = Downsampling(SHAPE, KERNEL[None, None], factor=2, padding="circular")
    x = normal(2, *SHAPE)
    y = normal(2, *ours.measured, seed=1)
    assert torch.allclose(ours(x), library.A(x), atol=1e-5)
    assert torch.allclose(ours.adjoint(y), library.A_adjoint(y), atol=1e-5)
    assert torch.allclose(prox(ours, x, y, 0.4), library.prox_l2(x, y, 1 / 0.4), atol=1e-5)


def test_inpainting_is_theirs():
    from deepinv.physics import Inpainting

    ours = operators.inpaint_random(SHAPE, keep=0.4)
    mask = ours.contents()["mask"].to(f64)
    library = Inpainting(SHAPE, mask.expand(SHAPE))
    x = normal(2, *SHAPE)
    z = normal(2, *SHAPE, seed=1)
    y = normal(2, *ours.measured, seed=2)
    assert torch.allclose(ours.adjoint(ours(x)), library.A(x), atol=1e-5)  # 0 where hidden
    assert torch.allclose(ours.adjoint(ours(z)), library.A_adjoint(z), atol=1e-5)
    found = library.prox_l2(x, ours.adjoint(y), 1 / 0.4)
    assert torch.allclose(prox(ours, x, y, 0.4), found, atol=1e-5)


def test_fourier_is_theirs():
    """Theirs measures a complex image, two channels, with frequency 0 and the first pixel in the
    middle. Its prox is of complex images: only ours knows that a real one tells -q by q."""
    from deepinv.physics import MRI

    ours = operators.fourier((1, 12, 8), share=0.4)
    mask = ours.contents()["mask"].to(f64)
    library = MRI(torch.fft.fftshift(mask).float())
    x = normal(2, 1, 12, 8)
    centred = torch.cat([x, torch.zeros_like(x)], 1).roll((6, 4), (2, 3))
    found = torch.fft.ifftshift(library.A(centred), dim=(-2, -1)).flatten(-2)[..., ours.index]
    assert torch.allclose(ours(x)[:, :, 0], found, atol=1e-5)
    y = normal(2, *ours.measured, seed=1)
    grid = torch.zeros(2, 2, 96, dtype=f64)
    grid[..., ours.index] = y[:, :, 0]
    shifted = torch.fft.fftshift(grid.reshape(2, 2, 12, 8), dim=(-2, -1))
    back = library.A_adjoint(shifted).roll((-6, -4), (2, 3))
    assert torch.allclose(ours.adjoint(y)[:, 0], back[:, 0], atol=1e-5)


class Draws:
    """The draws of torch's own generator, in order: what deepinv draws from."""

    def __init__(self, seed, shape):
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = shape

    def __call__(self):
        return torch.randn(self.shape, generator=self.generator, dtype=f64)


def blurred(noise):
    """(physics of deepinv, our measurement, its y) of two images blurred."""
    from deepinv.physics import BlurFFT, GaussianNoise

    physics = BlurFFT(SHAPE, KERNEL[None, None], noise_model=GaussianNoise(noise / 2))
    ours = operators.kernel(SHAPE, entries=KERNEL)
    truth = MEAN + VARIANCE**0.5 * normal(2, *SHAPE)
    y = ours(truth) + noise * normal(2, *SHAPE, seed=1)
    return physics, Measurement(ours, y, noise), (y + 1) / 2  # A keeps grey as it is


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_diffpir_is_theirs(zeta):
    from deepinv.optim import L2
    from deepinv.sampling import DiffPIR as Library

    noise, steps_asked, lam = 0.1, 12, 7.0
    physics, measurement, y01 = blurred(noise)
    library = Library(theirs, L2(), sigma=noise / 2, max_iter=steps_asked, zeta=zeta, lambda_=lam)
    found = 2 * library(y01, physics, seed=5) - 1

    # its levels, and its start, by its own table
    alpha = library.sqrt_alphas_cumprod.to(f64)
    table = library.reduced_alpha_cumprod.to(f64)
    sigmas = library.sigmas[library.seq].to(f64)
    draws = Draws(5, (2, *SHAPE))
    begun = measurement.operator.adjoint(y01) * 2 - 1
    first = (sigmas[0] ** 2 - noise**2).sqrt()  # 4 sigma01^2
    x = (begun + first * draws()) * alpha[-1] / alpha[(table - sigmas[0]).abs().argmin()]
    method = DiffPIR(zeta=zeta, lam=lam / 2).told(measurement)
    for step in steps(method, denoise, x, sigmas, draws):
        x = step.x
    last = alpha[(table - sigmas[-1]).abs().argmin()]
    assert torch.allclose(last * x, found.to(f64), atol=1e-5)


def test_a_step_of_dps_is_theirs():
    from deepinv.sampling import DPS as Library

    noise, weight = 0.1, 3.0
    physics, measurement, y01 = blurred(noise)
    times = torch.tensor([0.9, 0.6, 0.3, 0.1, 0.0], dtype=f64)
    library = Library(theirs, weight=weight, num_steps=5, rng=torch.Generator())
    sde, shape = library.sde, (2, *SHAPE)
    sigmas = [float(sde.sigma_t(t)) for t in times]
    begin = normal(*shape, seed=3)
    start = begin * sigmas[0] * float(sde.scale_t(times[0]))
    found = library(y01, physics, x_init=start, seed=4, timesteps=times, get_trajectory=True)[1]

    x = begin * sigmas[0]
    draws = Draws(4, shape)
    for k, (sigma, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        published = math.sqrt((1 + sigma**2) * (1 + after**2))
        zeta = weight / 2 * (sigma**2 - after**2) / published
        x = DPS(zeta).told(measurement).step(denoise, x, sigma, after, [], draws).x
        state = (2 * found[k + 1].to(f64) - 1) / float(sde.scale_t(times[k + 1]))
        # theirs asks the denoiser in float32: 1e-7 of a state as large as its level
        assert torch.allclose(x, state, atol=1e-5 * max(1.0, sigma)), k
