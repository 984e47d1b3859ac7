"""The generic predictor-corrector: every predictor with every corrector, and stages in a chart,
against recursions written out."""

import math
from itertools import pairwise, product

import mpmath
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffgeo.config.build import build
from diffgeo.config.line import conf_dir
from diffgeo.denoiser import Counted
from diffgeo.sampler import (
    Euler,
    EulerMaruyama,
    ExponentialFlow,
    ExponentialIntegrator,
    Heun,
    Langevin,
    PredictorCorrector,
    Uncorrected,
    Underdamped,
    steps,
)
from diffgeo.schedule import OU, VE, VP
from diffgeo.schedule.spacing import ExponentialDecay
from diffgeo.theory import linear
from diffgeo.theory.orders import gaussian

LAM = np.array([0.25, 0.5, 2.0, 4.0])
# dx = -x dt + sqrt(2) dW
PATH = VP(t_min=0.05, t_max=3, beta_min=2, beta_max=2, spacing=ExponentialDecay(), to_zero=False)
CHOICES = {
    "predictor": {
        "ei": ExponentialIntegrator(OU()),
        "em": EulerMaruyama(OU()),
        "pf": ExponentialFlow(OU()),
        "heun": Heun(),
    },
    "corrector": {
        "none": Uncorrected(),
        "langevin": Langevin(),
        "underdamped": Underdamped(),
        "lmc": Langevin(0.02, 12, OU()),
        "ulmc": Underdamped(1.0, 10, 4.0, OU()),
    },
}


def f64(values):
    return torch.as_tensor(values, dtype=torch.float64)


def score_slope(t):
    return 1 / (np.exp(-2 * t) * LAM - np.expm1(-2 * t))  # s_t(x) = -q x


def heun(v, t, after):
    """In sigma: x' = x + (sigma' - sigma) (k1 + k2)/2, k = c x/sigma, c = sigma^2/(lambda +
    sigma^2); then x_t = scale x."""
    a = np.sqrt(np.expm1(2 * t))
    b = np.sqrt(np.expm1(2 * after))
    k1 = a / (LAM + a * a)
    k2 = b / (LAM + b * b) * (1 + (b - a) * k1)
    return v * (np.exp(t - after) * (1 + (b - a) * (k1 + k2) / 2)) ** 2


# v -> v', the variance of x_t, over a step h = t - t', from convergence.md and gaussian.md at beta
# = 1
PREDICT = {
    "ei": lambda v, t, after: (
        (np.exp(t - after) - 2 * np.expm1(t - after) * score_slope(t)) ** 2 * v
        + np.expm1(2 * (t - after))
    ),
    "em": lambda v, t, after: (
        (1 + (t - after) * (1 - 2 * score_slope(t))) ** 2 * v + 2 * (t - after)
    ),
    "pf": lambda v, t, after: (np.exp(t - after) - np.expm1(t - after) * score_slope(t)) ** 2 * v,
    "heun": heun,
}


def lmc(v, t, h, n):
    for _ in range(n):
        v = (1 - h * score_slope(t)) ** 2 * v + 2 * h
    return v


def ulmc(v, t, L, n, time=1.0):
    """The 2x2 recursion of (z, v) in the chart; friction 2 sqrt(L), total time time/sqrt(L)."""
    gamma = 2 * math.sqrt(L)
    h = time / math.sqrt(L) / n
    a = math.exp(-gamma * h)
    b = (1 - a) / gamma
    c = (h - b) / gamma
    cov = (1 - a) ** 2 / gamma
    Q = np.array([[2 / gamma * (h - 2 * b + (1 - a * a) / (2 * gamma)), cov], [cov, 1 - a * a]])
    out = []
    for q, v0 in zip(score_slope(t), v, strict=True):
        M = np.array([[1 - c * q, b], [-b * q, a]])
        P = np.diag([v0, 1.0])
        for _ in range(n):
            P = M @ P @ M.T + Q
        out.append(P[0, 0])
    return np.array(out)


noise_variance = lambda t: -math.expm1(-2 * t)  # (scale sigma)^2
CORRECT = {
    "none": (Uncorrected(), lambda v, t: v),
    # h = delta sigma^2 in x is so much in x_t
    "langevin": (Langevin(0.3, 2), lambda v, t: lmc(v, t, 0.3 * noise_variance(t), 2)),
    "underdamped": (
        Underdamped(1.3, 3, 2.0),
        lambda v, t: ulmc(v, t, 2 / noise_variance(t), 3, 1.3),
    ),
    "lmc": (Langevin(0.02, 4, PATH), lambda v, t: lmc(v, t, 0.02, 4)),
    "ulmc": (Underdamped(1.0, 5, 4.0, PATH), lambda v, t: ulmc(v, t, 4.0, 5)),
}


@pytest.mark.parametrize("predictor, corrector", list(product(PREDICT, CORRECT)))
@pytest.mark.parametrize("stage", [None, 0.5])
def test_the_law_of_every_composition(predictor, corrector, stage):
    """A corrector after each step, or at the first level at or below each multiple of the stage,
    and at t_min."""
    act, correct = CORRECT[corrector]
    first = {
        "ei": ExponentialIntegrator(PATH),
        "em": EulerMaruyama(PATH),
        "pf": ExponentialFlow(PATH),
        "heun": Heun(),
    }[predictor]
    sampler = PredictorCorrector(first, act, stage, PATH)
    sigmas = PATH.grid(12)
    times = PATH.t(sigmas).tolist()
    corrected = []
    # N(0, I) in the chart; sigma N(0, I) else
    v = np.ones(4) if predictor != "heun" else np.full(4, -math.expm1(-6))
    for t, after in pairwise(times):
        v = PREDICT[predictor](v, t, after)
        passed = [k for k in range(1, 7) if after <= 0.5 * k + 1e-12 and t > 0.5 * k + 1e-12]
        if stage is None or passed or after < 0.05 + 1e-9:
            v = correct(v, after)
            _ = corrected.append(after)
    start = float(sampler.start(f64([[1.0]]), float(sigmas[0]))) ** 2
    end = linear.law(
        linear.tableaux(sampler, sigmas), linear.gain(f64(LAM)), linear.start(f64([start] * 4))
    )
    np.testing.assert_allclose(end.variance.numpy() / (1 + float(sigmas[-1]) ** 2), v, rtol=1e-12)
    assert len(corrected) == (12 if stage is None else 6)

    counted = Counted(gaussian(f64(LAM)))
    for _ in steps(sampler, counted, torch.ones(1, 4), sigmas, lambda: torch.zeros(1, 4)):
        pass
    assert counted.nfe == 12 * (2 if predictor == "heun" else 1) + len(corrected) * getattr(
        act, "steps", 0
    )


@pytest.mark.parametrize(
    "L, n, t", [(4.0, 1, 0.01), (4.0, 10, 0.7), (0.3, 3, 2.0), (50.0, 40, 1e-3)]
)
def test_the_noise_of_ulmc_in_a_chart_is_that_of_the_matrix_exponential(L, n, t):
    """Without a score z is int v du: from z = 0, v ~ N(0, 1) its variance after any sub-steps is
    Van Loan's of the whole time, to 1e-12."""
    sigma = math.sqrt(math.expm1(2 * t))

    class Still(Euler):
        def step(self, denoise, x, s, s_next, history, noise):
            return (
                super()
                .step(denoise, x, s, s_next, history, noise)
                ._replace(
                    x=Underdamped(1.0, n, L, PATH)(
                        lambda y, _: y, torch.zeros_like(x), sigma, noise
                    )
                )
            )

    row = linear.probe(Still(), sigma, sigma / 2)
    still = sum(row.outputs[0].get(w, 0.0) ** 2 for w in row.draws) * math.exp(-2 * t)
    with mpmath.workdps(40):
        gamma = 2 * mpmath.sqrt(L)
        T = 1 / mpmath.sqrt(L)
        whole = mpmath.expm(
            mpmath.matrix(
                [[0, -1, 0, 0], [0, gamma, 0, 2 * gamma], [0, 0, 0, 0], [0, 0, 1, -gamma]]
            )
            * T,
            method="taylor",
        )
        flow = whole[2:4, 2:4].T
        # of the noise, and of the first velocity
        exact = (flow * whole[0:2, 2:4])[0, 0] + flow[0, 1] ** 2
        assert abs(still / exact - 1) < 1e-12


def test_a_chart_of_scale_one_counts_in_x_and_no_chart_in_sigma():
    """Langevin with h = delta sigma^2 said in three ways is one step."""
    x = f64([[1.0, -2.0]])
    denoise = gaussian(f64([0.5, 2.0]))
    sigma = 0.7
    ends = [
        corrector(denoise, x, sigma, lambda: f64([[0.3, -1.1]]))
        for corrector in (
            Langevin(0.2),
            Langevin(0.2 * sigma**2, 1, VE()),
            Langevin(0.2 * sigma**2 / (1 + sigma**2), 1, VP()),
        )
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-14, atol=0)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-14, atol=0)
    ends = [
        corrector(denoise, x, sigma, lambda: f64([[0.3, -1.1]]))
        for corrector in (
            Underdamped(1, 3, 2.0),
            Underdamped(1, 3, 2 / sigma**2, VE()),
            Underdamped(1, 3, 2 * (1 + sigma**2) / sigma**2, VP()),
        )
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-13, atol=0)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-13, atol=0)


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(
            compose(overrides=["+sampler=predictor_corrector", *overrides]).sampler, resolve=True
        )
    return build(
        OmegaConf.create({k: v for k, v in node.items() if k not in ("steps", "schedule")})
    )


def test_every_choice_of_the_config_builds():
    assert {
        group: {f.stem for f in (conf_dir() / "sampler" / group).glob("*.yaml")}
        for group in CHOICES
    } == {group: set(choices) for group, choices in CHOICES.items()}
    for predictor, corrector in zip(
        ["ei", "em", "pf", "heun", "pf"], CHOICES["corrector"], strict=True
    ):
        expected = PredictorCorrector(
            CHOICES["predictor"][predictor], CHOICES["corrector"][corrector]
        )
        assert (
            composed(f"sampler/predictor={predictor}", f"sampler/corrector={corrector}") == expected
        )
    path = VP(
        t_min=1e-4, t_max=6, beta_min=2, beta_max=2, spacing=ExponentialDecay(), to_zero=False
    )
    typed = (
        "schedule@sampler.schedule=ou_decay",
        "sampler/corrector=ulmc",
        "sampler.stage=0.25",
        "sampler.corrector.smoothness=9",
    )
    assert composed(*typed) == (
        PredictorCorrector(ExponentialIntegrator(path), Underdamped(1.0, 10, 9.0, path), 0.25, path)
    )


def test_mistakes_on_the_line_are_one_line(inside):
    line = (
        "sample",
        "model=exact",
        "data=mixture",
        "n=4",
        "metrics=none",
        "figures=false",
        "sampler=predictor_corrector",
    )
    for wrong, said in (
        ("sampler.stage=-1", "write null, or a positive time"),
        ("sampler/corrector=foo", "write sampler/corrector= one of langevin, lmc"),
        ("sampler.corrector.steps=0", "write"),
    ):
        found = inside(*line, wrong)
        assert found.returncode == 2 and said in found.line
