"""Restoration from Python: ten lines, a denoiser of the user's own, and no law beside it."""

import numpy as np
import pytest
import torch

from diffgeo.analytic.measurement import Measurement
from diffgeo.errors import UsageError
from diffgeo.inverse import algorithms, operators
from diffgeo.inverse.condition import Measured
from diffgeo.sampler import Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

f64 = torch.float64


def denoise(x, sigma):
    """E[x0 | x] of N(0, I)."""
    return x / (1 + torch.as_tensor(sigma) ** 2)


def draws(operator, y, sigma_n, algorithm, n, steps=50):
    told = Measured(Measurement(operator, y, sigma_n), algorithm)
    simulation = Simulation(Heun(), denoise, VE().grid(steps), operator.shape, condition=told)
    return simulation.draw(range(n)).samples


def test_a_denoiser_of_ones_own_restores():
    """PiGDM is exact on N(0, I), by autograd through a plain function. With A A' = 1/f^2 a pixel of
    the posterior has the mean y/(1 + f^2 s^2) and the variance 1 - 1/(f^2 (1 + f^2 s^2))."""
    operator = operators.pool(shape=(1, 4, 4), factor=2)
    y = torch.tensor([[[0.5, -1.0], [0.2, 0.8]]], dtype=f64)
    found = draws(operator, y, 0.3, algorithms.pigdm(), n=1000)
    shrunk = 1 / (1 + 0.3**2 * 4)
    mean = operator.adjoint(4 * shrunk * y[None])[0]
    variance = 1 - shrunk / 4
    # 16 pixels of 1000 draws: 4 standard errors
    assert (found.mean(0) - mean).abs().max() < 4 * (variance / 1000) ** 0.5
    assert float(found.var(0).mean()) == pytest.approx(variance, rel=4 * (2 / 16000) ** 0.5)


def test_exact_needs_a_law():
    operator = operators.pool(shape=(1, 4, 4), factor=2)
    with pytest.raises(UsageError, match="no law is named"):
        draws(operator, torch.zeros(1, 2, 2, dtype=f64), 0.3, algorithms.exact(), n=1)


def clipped_posterior(y, sigma_n):
    """Mean and variance of x ~ N(0, 1) given y = clip(2x, -1, 1) + noise, by quadrature."""
    x = torch.linspace(-8, 8, 100_001, dtype=f64)
    log_weight = -(x**2) / 2 - (y - (2 * x).clamp(-1, 1)) ** 2 / (2 * sigma_n**2)
    weight = torch.softmax(log_weight, 0)
    mean = weight @ x
    return float(mean), float(weight @ (x - mean) ** 2)


@pytest.mark.slow
def test_langevin_steps_of_daps_find_the_posterior_of_an_operator_that_clips():
    """HDR on N(0,1), y = .9, s = .3: mean .9591, variance .3181. DAPS with D and 50 Langevin steps
    is within .05 of both at 200 levels (1.00, .36), a sampler in the limit of many steps; DPS by
    the norm has .3 too much mean at zeta 1 and four times the variance: it is none."""
    operator = operators.hdr(shape=(1,))
    mean, variance = clipped_posterior(0.9, 0.3)
    assert (mean, variance) == pytest.approx((0.9591, 0.3181), abs=1e-4)
    y = torch.tensor([0.9], dtype=f64)
    daps = draws(operator, y, 0.3, algorithms.daps(langevin=50, curvature=4.0), 4000, steps=200)
    dps = draws(operator, y, 0.3, algorithms.dps(zeta=1.0), 4000, steps=200)
    assert abs(float(daps.mean()) - mean) < 0.07 and abs(float(daps.var()) - variance) < 0.07
    assert float(dps.mean()) - mean > 0.2 and float(dps.var()) > 3 * variance


def test_each_image_is_measured_by_its_own_kernel(inside, tmp_path):
    """Motion: image i by the kernel of (seed, i), which the run keeps, alone or among others."""
    line = "data=digits operator=motion operator.size=5 sigma_n=0 algorithm=ddnm sampler.steps=2"
    folder = tmp_path / "run"
    words = f"restore {line} posterior=false figures=false image=3:6 hydra.run.dir={folder}"
    assert inside(*words.split()).returncode == 0
    truth = torch.from_numpy(np.load(folder / "truth.npy"))
    y = torch.from_numpy(np.load(folder / "measurement.npy"))
    kernels = torch.from_numpy(np.load(folder / "operator_kernel.npy"))
    blur = operators.motion((1, 8, 8), size=5)
    for place in range(3):
        own = blur.of_image(3 + place)
        assert torch.equal(kernels[place], own.kernel)
        assert torch.allclose(own(truth[place][None])[0], y[place], atol=1e-12)
    assert not torch.allclose(blur(truth[:1])[0], y[0], atol=0.1)
