"""Denoiser errors: exact denoisers perturbed by a known amount, whose errors are known in closed
form."""

import math

import pytest
import torch
from simulations import made_by

from diffgeo.core import Run, expand
from diffgeo.errors import UsageError
from diffgeo.metrics import DenoiserError, denoiser_error, fixed_point
from diffgeo.schedule import OU, VE

f64 = torch.float64


class Line:
    shape = (2,)
    dim = 1
    key = "test-line"

    def sample(self, n, g):
        return torch.stack([torch.randn(n, generator=g, dtype=f64), torch.zeros(n, dtype=f64)], 1)

    def project(self, x):
        return x * torch.tensor([1.0, 0.0], dtype=x.dtype)

    def tangent(self, p):
        return torch.tensor([[1.0], [0.0]], dtype=p.dtype).expand(len(p), 2, 1)

    def denoiser(self):
        return lambda x, sigma: self.project(x) / (1 + expand(sigma, x) ** 2)


class Circle(Line):
    """Uniform on the unit circle; D = (I1/I0)(|x|/sigma^2) x/|x|."""

    key = "test-circle"

    def sample(self, n, g):
        a = 2 * math.pi * torch.rand(n, generator=g, dtype=f64)
        return torch.stack([a.cos(), a.sin()], 1)

    def project(self, x):
        return x / x.norm(dim=1, keepdim=True)

    def tangent(self, p):
        return torch.stack([-p[:, 1], p[:, 0]], 1)[:, :, None]

    def denoiser(self):
        def exact(x, sigma):
            r = x.norm(dim=1, keepdim=True)
            z = r / expand(sigma, x) ** 2
            return torch.special.i1e(z) / torch.special.i0e(z) * x / r

        return exact


def test_constant_error():
    """D = exact + a on the line: tangential a1^2/2, normal a2^2/2; epsilon over sigma^2 = e^t-1, S
    over e^{-t} (e^t-1)^2."""
    a = torch.tensor([0.3, -0.04], dtype=f64)
    exact = Line().denoiser()
    t = torch.tensor([1e-4, 0.03, 1.0, 9.0], dtype=f64)
    curves = denoiser_error(lambda x, sigma: exact(x, sigma) + a, Line(), OU().sigma(t), n=50)
    assert torch.allclose(curves["t"], t, rtol=1e-12)
    for part, square in (("_tangential", 0.09 / 2), ("_normal", 0.0016 / 2), ("", 0.0916 / 2)):
        f = torch.full((4,), square, dtype=f64)
        assert torch.allclose(curves["f" + part], f, rtol=1e-9)
        assert torch.allclose(curves["epsilon" + part], f / torch.expm1(t), rtol=1e-9)
        assert torch.allclose(
            curves["score" + part], f * torch.exp(-t) / (-torch.expm1(-t)) ** 2, rtol=1e-9
        )


def test_error_is_averaged_over_forward_samples():
    """e = c (x - D): E e1^2 = c^2 sigma^4/(1+sigma^2), E e2^2 = c^2 sigma^2 for x ~ p_sigma on the
    line; n draws, 5 standard errors."""
    c = 0.1
    n = 40_000
    exact = Line().denoiser()
    sigma = torch.tensor([0.01, 0.5, 20.0], dtype=f64)
    curves = denoiser_error(lambda x, s: (1 + c) * exact(x, s) - c * x, Line(), sigma, n=n, seed=4)
    band = 5 * math.sqrt(2 / n)
    assert torch.allclose(curves["f_tangential"], c**2 * sigma**4 / (1 + sigma**2) / 2, rtol=band)
    assert torch.allclose(curves["f_normal"], c**2 * sigma**2 / 2, rtol=band)
    assert torch.allclose(
        curves["epsilon_normal"], torch.full((3,), c**2 / 2, dtype=f64), rtol=band
    )


def test_split_on_the_circle():
    """A radial error is all normal; a constant one, half and half on average over the angle."""
    exact = Circle().denoiser()
    sigma = torch.tensor([0.05], dtype=f64)
    radial = denoiser_error(lambda x, s: 1.02 * exact(x, s), Circle(), sigma, n=500)
    assert float(radial["f_tangential"]) < 1e-20 and float(radial["f"]) == pytest.approx(
        0.02**2 / 2, rel=5e-3
    )
    constant = denoiser_error(
        lambda x, s: exact(x, s) + torch.tensor([0.1, 0.0]), Circle(), sigma, n=20_000
    )
    assert float(constant["f"]) == pytest.approx(0.005, rel=1e-6)
    assert float(constant["f_tangential"]) == pytest.approx(0.0025, rel=5 * math.sqrt(0.5 / 20_000))


def test_another_chart():
    """In the VE chart scale = 1: S errs by e/sigma^2, and t is sigma itself; f and epsilon do not
    change."""
    exact = Line().denoiser()
    sigma = torch.tensor([0.2], dtype=f64)
    wrong = lambda x, s: exact(x, s) + 0.01
    ou, ve = (denoiser_error(wrong, Line(), sigma, chart, n=20) for chart in (None, VE()))
    assert float(ve["score"]) == pytest.approx(1e-4 / 0.2**4, rel=1e-9) and float(
        ve["t"]
    ) == pytest.approx(0.2)
    assert float(ou["score"]) == pytest.approx(1e-4 / 0.2**4 * 1.04, rel=1e-9)
    assert torch.equal(ve["f"], ou["f"]) and torch.equal(ve["epsilon"], ou["epsilon"])


def test_fixed_point():
    """On the line f = (e^{-t/2} x1, 0), S = (x1, x2/(1-e^{-t})), epsilon = sqrt(1-e^{-t}) S at x_t
    = (1,-.1) (eq. 62)."""
    t = torch.tensor([1e-3, 0.5, 6.0], dtype=f64)
    exact = Line().denoiser()
    curves = fixed_point(
        lambda x, s: exact(x, s) + torch.tensor([0.0, 0.02]), Line(), OU().sigma(t)
    )
    f = torch.stack([torch.exp(-t / 2), 0 * t], 1)
    score = torch.stack([torch.ones_like(t), -0.1 / -torch.expm1(-t)], 1)
    root = (-torch.expm1(-t)).sqrt()[:, None]
    assert torch.allclose(curves["f_exact"], f, rtol=1e-12) and torch.allclose(
        curves["score_exact"], score, rtol=1e-9
    )
    assert torch.allclose(curves["epsilon_exact"], root * score, rtol=1e-9)
    shift = torch.tensor([0.0, 0.02], dtype=f64) * torch.exp(-t / 2)[:, None]
    assert torch.allclose(curves["f"] - f, torch.tensor([0.0, 0.02], dtype=f64), atol=1e-9)
    assert torch.allclose(curves["score"] - score, -shift / root**2, rtol=1e-6)
    with pytest.raises(UsageError, match="3 coordinates"):
        fixed_point(exact, Line(), OU().sigma(t), x_t=(1.0, 2.0, 3.0))


def test_a_root_says_its_standard_error():
    """e = c (x - D), whose square varies from sample to sample: over 200 seeds the roots spread by
    the error that each of them tells."""
    metric = DenoiserError(n=40, nodes=5)
    exact = Line().denoiser()
    wrong = lambda x, s: 1.1 * exact(x, s) - 0.1 * x
    found = [metric(made_by(wrong, torch.zeros(1, 2), seed=k), Line()) for k in range(200)]
    for key in ("denoiser/f_l2", "denoiser/score_l2_normal", "denoiser/f_l2_tangential"):
        spread = torch.tensor([report[key] for report in found]).std()
        told = torch.tensor([report[f"{key}_se"] for report in found]).mean()
        # of a deviation from 200 numbers: 5 %, three times that
        assert float(told) == pytest.approx(float(spread), rel=0.15)
    assert not any(
        key.endswith("_se") for key in DenoiserError(n=1)(made_by(wrong, torch.zeros(1, 2)), Line())
    )


def test_metric_nodes_and_roots():
    """The first 100 positive nodes of the paper's grid, t_k = 1e-4 (1e5)^((k-1)/199), and roots of
    means over them."""
    metric = DenoiserError(n=10)
    exact = Line().denoiser()
    t = 1e-4 * 1e5 ** (torch.arange(100, dtype=f64) / 199)
    # below the paper's training times
    assert torch.allclose(OU().t(metric.sigmas()), t, rtol=1e-9) and float(t[-1]) < 10 / 199
    run = made_by(lambda x, s: exact(x, s) + torch.tensor([0.0, 0.03]), torch.zeros(1, 2))
    report = metric(run, Line())
    root = math.sqrt(0.03**2 / 2)
    assert set(report) == {
        f"denoiser/{k}_l2{p}{side}"
        for k in ("score", "epsilon", "f")
        for p in ("", "_normal", "_tangential")
        for side in ("", "_se")
    }
    assert report["denoiser/f_l2_se"] == pytest.approx(0, abs=1e-12)  # every sample errs alike
    assert (
        report["denoiser/f_l2"] == pytest.approx(root, rel=1e-6) == report["denoiser/f_l2_normal"]
    )
    assert report["denoiser/epsilon_l2"] == pytest.approx(
        root * float((1 / torch.expm1(t)).mean().sqrt()), rel=1e-6
    )
    assert report["denoiser/score_l2_tangential"] == pytest.approx(
        0, abs=1e-3 * report["denoiser/score_l2"]
    )
    assert metric(Run(torch.zeros(1, 2)), Line()) == {}
    with pytest.raises(UsageError, match="nodes=300"):
        DenoiserError(nodes=300)
