"""Predictor against corrector on a Gaussian: both printed tables, a second way to compute them, and
the published order, which a wrong score brings back and the exact one does not."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from diffgeo.core import Step, generator
from diffgeo.errors import UsageError
from diffgeo.sampler.base import Method
from diffgeo.theory import affine
from diffgeo.theory.predictor_corrector import PREDICTORS, Problem, alternating, table

f64 = torch.float64
VARIANCE = np.array([0.25, 0.5, 2, 4])
# latent.md, B1; where it prints .135936 it is .135915
PRINTED = {
    0.0: {
        "reverse diffusion": [0.011010, 0.005453, 0.019634, 0.019356],
        "flow": [0.031669, 0.015053, 0.019634, 0.019489],
    },
    0.1: {
        "reverse diffusion": [0.289008, 0.285109, 0.135919, 0.135915],
        "flow": [0.989272, 0.976394, 0.135919, 0.135939],
    },
}


@pytest.fixture(scope="module")
def tables():
    return {error: table(Problem(VARIANCE, alternating(error, 4)), 1000) for error in PRINTED}


def test_the_printed_numbers(tables):
    for error, rows in PRINTED.items():
        for name, numbers in rows.items():
            assert list(tables[error][name].values()) == pytest.approx(numbers, abs=6e-7)


def test_the_exact_score_has_another_order_than_the_published_one(tables):
    """Song et al.: PC1000 before P2000 everywhere."""
    for name in PREDICTORS:
        exact, wrong = tables[0.0][name], tables[0.1][name]
        assert exact["P2000"] < exact["P1000"] and exact["P2000"] < exact["PC1000"]
        assert wrong["PC1000"] < wrong["P2000"] / 2
    # what the correctors end near: the stationary law of the wrong score
    stationary = VARIANCE / (1 + alternating(0.1, 4))
    still = Problem(VARIANCE, alternating(0.1, 4)).w2(stationary)
    assert still == pytest.approx(0.1343, abs=5e-5)
    assert tables[0.1]["flow"]["PC1000"] == pytest.approx(still, rel=0.02)


class Song(Method):
    """Correctors and a predictor of the published code in one step, on states; `e` holds the
    corrector's step at each level."""

    order = 1

    def __init__(self, predictor, e):
        self.predictor = predictor
        self.e = e

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        e = self.e[sigma]
        x = x + e * (denoise(x, sigma) - x) / sigma**2 + (2 * e) ** 0.5 * noise()
        denoised = denoise(x, sigma)
        weight, variance = self.predictor(sigma, sigma_next)
        x = x + weight * (denoised - x) / sigma**2
        if variance and sigma_next > 0:
            x = x + variance**0.5 * noise()
        return Step(x, sigma_next, denoised)


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_law_is_that_of_the_steps_themselves(name):
    """The steps on states, whose law is read off impulses (theory.affine)."""
    problem = Problem(VARIANCE, alternating(0.1, 4), ratio=0.3)
    levels = problem.levels(30)
    e = {}
    v = np.full(4, problem.high**2)
    for sigma, after in zip(levels, levels[1:], strict=False):
        s = (1 + problem.error) / (VARIANCE + sigma**2)
        e[sigma] = 2 * (0.3 * 4**0.5) ** 2 / float((s * s * v).sum())
        v = problem.predicted(PREDICTORS[name], problem.corrected(v, sigma), sigma, after)

    def denoise(x: Tensor, sigma, **cond) -> Tensor:
        return x - sigma**2 * torch.from_numpy(problem.slope(float(sigma))) * x

    law = affine.law(Song(PREDICTORS[name], e), denoise, torch.tensor(levels, dtype=f64), (4,))
    end = problem.end(PREDICTORS[name], 30, 1)
    torch.testing.assert_close(
        law.covariance, torch.from_numpy(np.diag(end)), rtol=1e-9, atol=1e-12
    )


def test_a_batch_of_the_published_rule_tends_to_the_population():
    """The norms of 20 000 samples in the place of their means: within 5 standard errors of the
    variances."""
    n = 20_000
    problem = Problem(VARIANCE, alternating(0.0, 4))
    levels = problem.levels(60)
    draws = generator(0, *b"song")
    x = problem.high * torch.randn(n, 4, generator=draws, dtype=f64)
    for sigma, after in zip(levels, levels[1:], strict=False):
        slope = torch.from_numpy(problem.slope(sigma))
        s = -x * slope
        w = torch.randn(n, 4, generator=draws, dtype=f64)
        e = 2 * float(0.16 * w.norm(dim=1).mean() / s.norm(dim=1).mean()) ** 2
        e_of_squares = 2 * 0.16**2 * float(w.square().sum() / s.square().sum())
        assert e == pytest.approx(e_of_squares, rel=0.15)
        x = x + e_of_squares * s + (2 * e_of_squares) ** 0.5 * w
        weight, variance = PREDICTORS["reverse diffusion"](sigma, after)
        x = x - weight * x * slope
        if after > 0:
            x = x + variance**0.5 * torch.randn(n, 4, generator=draws, dtype=f64)
    expected = problem.end(PREDICTORS["reverse diffusion"], 60, 1)
    error = expected * (2 / n) ** 0.5
    assert (np.abs(x.var(0).numpy() - expected) < 5 * error).all()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"variance": np.array([1.0, 0.0])}, "variance=.*write numbers above 0"),
        ({"error": alternating(1.5, 4)}, "error=.*between -1 and 1"),
        ({"low": 60.0}, "low=60 high=50: write two noise levels"),
        ({"ratio": 0.0}, "ratio=0: write a number above 0"),
    ],
)
def test_no_problem(options, says):
    with pytest.raises(UsageError, match=says):
        Problem(**{"variance": VARIANCE, "error": alternating(0, 4)} | options)


@pytest.mark.slow
def test_the_reproduction_prints_the_published_table_and_both_orders(inside, tmp_path):
    done = inside("reproduce", "lee/predictor_corrector", "out=pc")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "pc" / "table.md").read_text()
    assert "| published, CIFAR-10 | VE reverse diffusion | 4.79 " in text
    lines = [line for line in text.splitlines() if "| reverse diffusion" in line]
    assert len(lines) == 2 and "P, 3.55 x" in lines[0] and "PC, 2.10 x" in lines[1]
    values = json.loads((tmp_path / "pc" / "exact_score" / "metrics.json").read_text())
    assert values["w2/reverse diffusion/PC1000"] == pytest.approx(0.019356, abs=6e-7)
    assert (tmp_path / "pc" / "correctors.png").stat().st_size > 10_000
