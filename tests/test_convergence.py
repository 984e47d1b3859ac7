"""Convergence theory: every stated rate, the specification's figures, and closed forms against
quadrature, Monte Carlo and each other."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate

from diffgeo.theory.convergence import EXPERIMENTS, mixture, slope, stopping
from diffgeo.theory.convergence.experiment import HORIZON, decaying, tiled, uniform
from diffgeo.theory.convergence.girsanov import (
    initialization,
    path_kl,
    path_kl_of,
    step_kl,
    tail,
    uniform_path_kl,
)
from diffgeo.theory.convergence.kernel import Modes, line
from diffgeo.theory.gaussian import Spectrum

QUICK = (
    "initialization",
    "ddpm",
    "score",
    "early_stopping",
    "perturbation",
    "regularization",
    "ulmc",
    "langevin",
)


@pytest.fixture(scope="module")
def metrics() -> dict[str, float]:
    torch.set_num_threads(1)
    return {
        k: v for name in QUICK for e in EXPERIMENTS[name](False) for k, v in e.metrics().items()
    }


def rates(metrics: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {
        k: (v, metrics[k.removesuffix("_slope") + "_expected"])
        for k, v in metrics.items()
        if k.endswith("_slope")
    }


def test_every_stated_rate_is_measured_within_a_tenth(metrics):
    found = rates(metrics)
    assert len(found) == 29
    # the theorem's L^2, which a Gaussian does not attain: it tends to L
    bound = found.pop("ddpm/L/path_kl_slope")
    assert 0.6 < bound[0] < 1.05 and bound[1] == 2
    assert all(abs(measured - expected) <= 0.1 for measured, expected in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpum", "steps", "mixture"])
def test_the_other_rates(name):
    found = rates({k: v for e in EXPERIMENTS[name](False) for k, v in e.metrics().items()})
    assert found and all(
        abs(measured - expected) <= 0.1 for measured, expected in found.values()
    ), found


FIGURES = {  # convergence.md, C2, to the digits printed there
    "ddpm/L/path_kl@": {"2": ".82", "4": ".98", "8": "1.26", "16": "1.78", "32": "2.75"},
    "early_stopping/delta/path_kl_decaying@": {
        "0.1": "1.87",
        "0.01": "2.69",
        "0.001": "3.60",
        "0.0001": "4.61",
        "1e-05": "5.73",
    },
    "early_stopping/delta/path_kl_uniform@": {"0.1": "2.10", "0.01": "6.46", "0.001": "19.7"},
    "early_stopping/delta/kl_decaying@": {"0.1": ".0014", "1e-05": ".0067"},
    "early_stopping/delta/kl_uniform@": {"0.1": ".027", "1e-05": "50.6"},
    "early_stopping/trade/w2_decaying@": {
        "0.1": "1.27",
        "0.01": ".42",
        "0.001": ".147",
        "0.0001": ".081",
        "1e-05": ".082",
        "1e-06": ".093",
    },
    "early_stopping/trade/w2_uniform@": {"0.001": "1.02", "1e-06": "1.02"},
    "early_stopping/truncation/": {"singular_slope": ".50", "regular_slope": ".99"},
    "langevin/alone/weight@": {"2000": ".452"},
    "ddpm/N/": {
        "path_kl_slope": "-.99",
        "kl_slope": "-1.99",
        "tv_slope": "-.99",
        "w2_slope": "-1.04",
    },
    "ddpm/d/": {"path_kl_slope": "1.00", "kl_slope": "1.00", "tv_slope": ".51", "w2_slope": ".50"},
    "initialization/T/": {"centred_slope": "-3.99", "mean_slope": "-2.01"},
    "perturbation/h/": {"ode_gaussian_slope": "2.1", "sde_mixture_slope": "1.03"},
}


@pytest.mark.parametrize("prefix", FIGURES)
def test_the_figures_of_the_specification(metrics, prefix):
    for key, printed in FIGURES[prefix].items():
        digits = len(printed.partition(".")[2])
        assert f"{metrics[prefix + key]:.{digits}f}" == f"{float(printed):.{digits}f}", key


def test_the_certificate_bounds_the_error_of_the_output(metrics):
    pairs = [
        (v, metrics[k.replace("path_kl", "kl", 1)])
        for k, v in metrics.items()
        if "path_kl" in k and "@" in k and k.replace("path_kl", "kl", 1) in metrics
    ]
    assert len(pairs) == 26 and all(path > own for path, own in pairs)


def integrand(value: float, t: float, s: float) -> float:
    """E|s_t(x_t) - s_s(x_s)|^2 of a Gaussian coordinate, from Cov(x_t, x_s) = e^-(t-s) lambda^s."""
    now, then = (1 + (value - 1) * math.exp(-2 * u) for u in (t, s))
    return 1 / now + 1 / then - 2 * math.exp(-(t - s)) / now


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.25, 1.0, 4.0, 100.0])
@pytest.mark.parametrize(
    ("t", "h"), [(6.0, 0.5), (1.0, 1e-3), (0.3, 0.25), (0.02, 0.015), (2.0, 1.9)]
)
def test_the_certificate_of_a_step_is_the_quadrature_of_girsanov_s_integrand(value, t, h):
    by_quadrature = integrate.quad(
        lambda s: integrand(value, t, s), t - h, t, epsabs=0, epsrel=1e-13
    )[0]
    closed = float(step_kl(*(torch.tensor([v], dtype=torch.float64) for v in (value, t, t - h))))
    assert closed == pytest.approx(by_quadrature, rel=1e-10 if h > 0.01 else 1e-8)


def test_no_cancellation_for_a_million_steps_and_infinite_at_a_singular_end():
    from mpmath import mp, mpf

    with mp.workdps(60):
        t = mpf(2)
        h = mpf(2) ** -23
        value = mpf(1) / 4
        now = 1 + (value - 1) * mp.exp(-2 * t)
        i = [mp.log(mp.exp(2 * u) + value - 1) / 2 for u in (t, t - h)]
        exact = float(i[0] - i[1] + (h - 2 * (1 - mp.exp(-h))) / now)
    assert float(
        step_kl(*(torch.tensor([v], dtype=torch.float64) for v in (0.25, 2.0, 2 - 2.0**-23)))
    ) == pytest.approx(exact, rel=1e-12)
    assert math.isinf(
        float(step_kl(*(torch.tensor([v], dtype=torch.float64) for v in (0.0, 0.1, 0.0))))
    )
    z = torch.tensor([0.0999, 0.1001], dtype=torch.float64)  # the series and the direct form meet
    assert torch.allclose(tail(z, 1 - z, 2), -torch.log1p(-z) - z - z**2 / 2, rtol=1e-11)


def test_the_uniform_certificate_is_its_grid_s_sum_and_two_wrong_figures_are_six_gauss_nodes():
    assert uniform_path_kl(tiled(64.0), 1600, HORIZON) == pytest.approx(
        path_kl(tiled(64.0), uniform(1600)), rel=1e-12
    )
    nodes, weights = np.polynomial.legendre.leggauss(6)

    def coarse(stop: float) -> float:
        times = uniform(400, stop).tolist()
        return 16 * sum(
            (t - u) / 2 * w * integrand(0.0, t, (t + u + (t - u) * x) / 2)
            for t, u in zip(times[:-1], times[1:], strict=True)
            for x, w in zip(nodes, weights, strict=True)
        )

    # as the specification prints
    assert [round(coarse(stop), 1) for stop in (1e-4, 1e-5)] == [32.7, 36.0]
    exact = [path_kl(stopping.POINT, uniform(400, stop)) for stop in (1e-4, 1e-5)]
    # 36.0 would be below the KL it bounds
    assert [round(v, 1) for v in exact] == [37.4, 55.8] and exact[1] > 50.6 > 36.0


def sampled_path_kl(law: Modes, n: int, draws: int, seed: int = 0) -> float:
    """Girsanov's integral by forward paths and 8 Gauss nodes a step."""
    g = torch.Generator().manual_seed(seed)
    x = torch.tensor(law.means, dtype=torch.float64)[
        torch.multinomial(torch.tensor(law.weights), draws, True, generator=g)
    ]
    x = x + law.variance**0.5 * torch.randn(draws, generator=g, dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = 0.0
    now = 0.0
    h = HORIZON / n

    def move(x, a, b):
        return math.exp(a - b) * x + math.sqrt(-math.expm1(2 * (a - b))) * torch.randn(
            draws, generator=g, dtype=torch.float64
        )

    for k in range(n):
        scores = []
        for s in (k + (1 + nodes) / 2) * h:
            x = move(x, now, s)
            now = s
            scores.append(law.score(x, s))
        x = move(x, now, (k + 1) * h)
        now = (k + 1) * h
        last = law.score(x, now)
        total += sum(
            h / 2 * w * float((last - s).square().mean())
            for w, s in zip(weights, scores, strict=True)
        )
    return total


def test_the_certificate_of_any_law_by_entropy_and_fisher_information():
    times = uniform(50)
    nodes = line(16.0, 1601)
    for value in (0.5, 4.0):  # a Gaussian, by quadrature against its closed form
        law = Modes((0.0,), (1.0,), value)
        fisher = torch.tensor(
            [law.fisher(float(t), nodes) for t in times[:-1]], dtype=torch.float64
        )
        general = path_kl_of((law.entropy(HORIZON, nodes), law.entropy(0.0, nodes)), fisher, times)
        assert general == pytest.approx(path_kl(Spectrum([value]), times), rel=1e-6)
    assert [f"{mixture.path(n):.4f}" for n in (25, 100)] == ["1.0855", "0.2874"]
    assert mixture.path(25) == pytest.approx(sampled_path_kl(mixture.LAW, 25, 20_000), rel=0.02)


def test_the_last_step_of_the_uniform_grid_costs_a_logarithm_that_more_steps_hardly_lower():
    """8 (ln(h/delta) - 1), and those before it, from (k+1) h to kh, sum_k 8 (ln(1 + 1/k) - 1/(k+1))
    = 8 (1 - Euler's .577) whatever N."""
    stop = 1e-9
    # what the rest of the way costs, ~ ln(N)/N
    for n, smooth in ((400, 2), (4000, 0.25), (40_000, 0.03)):
        h = HORIZON / n
        times = uniform(n, stop)
        assert path_kl(stopping.POINT, times[-2:]) == pytest.approx(
            8 * (math.log(h / stop) - 1), rel=2e-3
        )
        assert 0 < path_kl(stopping.POINT, times[:-1]) - 8 * (1 - np.euler_gamma) < smooth


def test_initialization_is_the_kl_of_two_gaussians():
    s = Spectrum([0.25, 4.0], [3.0, 2.0], [1.0, 2.0])
    v = 1 + (s.values - 1) * math.exp(-4)
    m2 = (s.mean**2).sum() * math.exp(-4)
    assert initialization(s, 2.0) == pytest.approx(
        float((s.counts * (v - 1 - v.log())).sum() + m2) / 2, rel=1e-12
    )


def test_grids():
    times = decaying(400, 1e-4)
    first = round(400 * 5 / (5 + math.log(1e4)))
    assert float(times[first]) == 1 and len(times) == 401
    assert torch.allclose(
        times[: first + 1], torch.linspace(6, 1, first + 1, dtype=torch.float64), rtol=1e-13
    )
    assert torch.allclose(
        times[first + 1 :] / times[first:-1],
        torch.tensor(1e-4 ** (1 / (400 - first)), dtype=torch.float64),
        rtol=1e-10,
    )
    assert (
        times[-1] == 1e-4
        and slope([1, 2, 4], [8, 2, 0.5]) == pytest.approx(-2)
        and slope([1, 2, 3], [1, math.e, math.e**2], True) == 1
    )


def test_the_command_prints_the_warning_and_writes_every_number(inside, tmp_path):
    done = inside("theory", "convergence", "initialization", "perturbation", "out=o")
    assert done.returncode == 0, done.stderr
    assert "CERTIFICATE" in done.stdout and "expected slope -2, measured -2.01" in done.stdout
    metrics = json.loads((tmp_path / "o/metrics.json").read_text())
    assert metrics["perturbation/h/ode_mixture_slope"] == pytest.approx(2.03, abs=0.01)
    assert (tmp_path / "o/convergence.png").is_file() and "initialization/T" in (
        tmp_path / "o/table.csv"
    ).read_text()
    assert (
        "is finished" in inside("theory", "convergence", "quick", "initialization", "out=o").stdout
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ddmp"], "no experiment 'ddmp'"),
        (["quick", "full"], "one of the two"),
        (["steps=3"], "no option steps"),
        (["figures=no"], "write true or false"),
    ],
)
def test_mistakes(inside, words, said):
    done = inside("theory", "convergence", *words)
    assert done.returncode == 2 and said in done.line


def test_the_list_names_every_experiment(inside):
    assert all(name in inside("theory", "convergence", "list").stdout for name in EXPERIMENTS)
