"""What a restoration is worth: numbers against closed forms and a second implementation."""

import math

import numpy as np
import pytest
import torch

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import generator
from diffgeo.data.gaussian import Gaussian
from diffgeo.inverse.operators import matrix
from diffgeo.metrics.restoration import (
    against,
    floors,
    misfit,
    psnr,
    ssim,
    summary,
    window,
)
from diffgeo.metrics.transport import energy

M = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
C = [[2, 0.5, 0, 0], [0.5, 1, 0.3, 0], [0, 0.3, 0.5, 0.1], [0, 0, 0.1, 0.2]]
A = torch.tensor([[1.0, 0, 1, 0], [0, 2, 0, -1]], dtype=torch.float64)


def images(seed: int, n: int = 2, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 16, 13, generator=generator(seed), dtype=torch.float64) * 2 - 1


def test_psnr_is_that_of_a_constant_error_and_clips_but_does_not_round():
    truth = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    assert psnr(truth + 0.2, truth, -1, 1).item() == pytest.approx(20, abs=1e-12)
    # bytes are 2/255 apart: rounding would make this error 0
    assert psnr(truth + 1e-3, truth, -1, 1).item() == pytest.approx(20 * math.log10(2e3), abs=1e-9)
    white = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert psnr(white + 5, white - 0.02, -1, 1).item() == pytest.approx(40, abs=1e-9)
    assert psnr(white + 5, white, -1, 1).item() == math.inf


def by_numpy(a: np.ndarray, b: np.ndarray, reach: float) -> float:
    """SSIM of one channel [H,W] as its authors' formula reads, with numpy's convolution."""
    offsets = np.arange(-5, 6)
    weight = np.exp(-(offsets**2) / (2 * 1.5**2))
    weight /= weight.sum()

    def along(x):
        return np.stack([np.convolve(row, weight, "valid") for row in x])

    def mean(x):
        return along(along(x).T).T

    mean_a, mean_b = mean(a), mean(b)
    var_a = mean(a * a) - mean_a**2
    var_b = mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * reach) ** 2, (0.03 * reach) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def test_ssim_is_the_published_formula_with_numpy_s_convolution():
    a = images(1, channels=3)
    b = (a + 0.3 * images(2, channels=3)).clamp(-1, 1)
    expected = []
    for one, other in zip(a.numpy(), b.numpy(), strict=True):
        expected.append(np.mean([by_numpy(x, y, 2.0) for x, y in zip(one, other, strict=True)]))
    torch.testing.assert_close(ssim(a, b, -1, 1), torch.tensor(expected), rtol=1e-12, atol=0)
    assert ssim(a, a, -1, 1).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert float(window().sum()) == pytest.approx(1, abs=1e-15)


def test_ssim_of_two_constants_is_the_luminance_term():
    """No variance: (2 a b + c1)/(a^2 + b^2 + c1), c1 = (.01 2)^2."""
    a = torch.full((1, 1, 11, 11), 0.5, dtype=torch.float64)
    b = torch.full((1, 1, 11, 11), 0.2, dtype=torch.float64)
    c1 = 0.0004
    expected = (2 * 0.1 + c1) / (0.25 + 0.04 + c1)
    assert ssim(a, b, -1, 1).item() == pytest.approx(expected, abs=1e-10)
    assert ssim(a[..., :10], b[..., :10], -1, 1) is None  # no window lies inside


def test_the_misfit_of_the_truth_is_one_and_of_the_posterior_mean_the_spec_s_number():
    """G4: a draw of the posterior has |y - A x|^2/(s^2 m) = 1 in the mean over x0 and y; the
    posterior mean s^2 tr(R^-1)/m = .035."""
    s = 0.3
    operator = matrix(shape=(4,), entries=A.tolist())
    law = Gaussian(M, C)
    n = 20_000
    x0 = law.sample(n, generator(3))
    y = operator(x0) + s * torch.randn(n, 2, generator=generator(4), dtype=torch.float64)
    told = Measurement(operator, y, s)
    r = A @ law.covariance @ A.mT + s**2 * torch.eye(2)
    gain = law.covariance @ A.mT @ torch.linalg.inv(r)
    mean = M + (y - M @ A.mT) @ gain.mT
    root = torch.linalg.cholesky(law.covariance - gain @ A @ law.covariance)
    z = torch.randn(n, 4, generator=generator(5), dtype=torch.float64)
    draw = mean + z @ root.mT
    # |.|^2/(s^2 2) of a chi^2 of 2 has deviation 1
    assert misfit(told, x0).mean().item() == pytest.approx(1, abs=4 / math.sqrt(n))
    assert misfit(told, draw).mean().item() == pytest.approx(1, abs=4 / math.sqrt(n))
    exact = s**2 * float(torch.linalg.inv(r).trace()) / 2
    assert exact == pytest.approx(0.035, abs=5e-4)
    assert misfit(told, mean).mean().item() == pytest.approx(exact, rel=0.04)
    assert misfit(Measurement(operator, y, 0.0), x0) is None


def test_distances_to_a_posterior_are_those_of_two_gaussians():
    """Draws of N(m + v, q^2 C) against N(m, C): W2 of moments^2 = |v|^2 + (1 - q)^2 tr C, mean
    error |v|, spread ratio q^2, each to its sampling error."""
    law = Gaussian(M, C)
    v = torch.tensor([0.3, 0.0, -0.4, 0.0], dtype=torch.float64)
    q = 0.5
    draws = M + v + q * (law.sample(1000, generator(6)) - M)
    found = against(draws, law, law.sample(1000, generator(7)))
    trace = 3.7
    w2 = math.sqrt(0.25 + (1 - q) ** 2 * trace)
    assert found["w2_moments"] == pytest.approx(w2, abs=0.06)
    assert found["w2"] == pytest.approx(w2, abs=0.12)
    assert found["mean_error"] == pytest.approx(0.5, abs=4 * q * math.sqrt(trace / 1000))
    assert found["spread_ratio"] == pytest.approx(q**2, rel=0.12)


def test_a_floor_is_the_number_of_the_posterior_itself():
    """E|mean of L draws - mu|^2 = tr V/L, and W2 of a law from itself is that of two samples."""
    law = Gaussian(M, C)
    pairs = floors(law, 50, generator(8), 60)
    square = np.mean([values["mean_error"] ** 2 for values in pairs])
    assert square == pytest.approx(3.7 / 50, rel=0.45)  # 4 sd of 60 chi^2 of about 2.6
    assert np.mean([values["spread_ratio"] for values in pairs]) == pytest.approx(1, abs=0.1)
    again = floors(law, 50, generator(8), 1)
    assert again[0] == pairs[0]


def test_one_draw_has_no_cloud_and_one_point_no_spread():
    law = Gaussian(M, C)
    assert against(law.sample(1, generator(9)), law, law.sample(1, generator(9))) == {}
    point = Gaussian([1.0, 2.0], [[0.0, 0.0], [0.0, 0.0]])
    found = against(point.sample(3, generator(0)), point, point.sample(3, generator(0)))
    assert "spread_ratio" not in found and found["w2"] == 0


def test_a_summary_is_a_mean_with_its_error_and_nothing_where_an_image_has_nothing():
    rows = [{"a": 1.0, "b": None, "c": 2.0}, {"a": 3.0, "b": 1.0, "c": math.inf}]
    assert summary(rows) == {"a": 2.0, "a_se": 1.0, "b": None, "c": None}
    assert summary([{"a": 1.0}, {"a": 3.0, "d": 5.0}]) == {"a": 2.0, "a_se": 1.0, "d": 5.0}
    assert summary(rows[:1]) == {"a": 1.0, "b": None, "c": 2.0}


def test_a_cloud_that_is_not_finite_has_no_distance_and_not_the_distance_0():
    assert math.isnan(energy(np.array([[np.nan], [1.0]]), np.zeros((2, 1))))
