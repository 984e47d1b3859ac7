"""Analytic-DPM: exact on isotropic Gaussians, the published formula, and its table of posterior
variances against quadrature."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gaussian_runs import KARRAS, LAM, SAME, published, run
from hydra import compose, initialize_config_dir

from diffgeo.config.build import assemble, fitted
from diffgeo.config.line import conf_dir
from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.sampler import AnalyticVariance, Euler, posterior_variance
from diffgeo.theory.orders import gaussian, impulse_response, weak_errors

TABLE = tuple(10 ** (k / 8) for k in range(-24, 25))


def test_isotropic_gaussian_is_sampled_exactly_with_its_own_variance():
    """On N(0, s^2 I) the step's Gaussian is the true x' | x for every eta, so the law at the end is
    the law."""
    s2 = 1.69
    sigmas = KARRAS.grid(9)
    levels = tuple(sigmas.flip(0).tolist())
    denoise = gaussian(torch.tensor([s2], dtype=torch.float64))
    mean = sigmas[:1] * 0
    deviation = torch.sqrt(s2 + sigmas[:1] ** 2)
    for eta in (0.0, 0.5, 1.0):
        sampler = AnalyticVariance(eta, levels, tuple(s2 * s**2 / (s2 + s**2) for s in levels))
        _, response = impulse_response(sampler, denoise, sigmas, mean, deviation)
        assert float(response.square().sum()) == pytest.approx(
            s2 + float(sigmas[-1]) ** 2, rel=1e-10
        )
        assert abs(weak_errors(replace(sampler, variances=(0.0,) * 10), sigmas)[1]) > 0.1


@pytest.mark.parametrize("eta", [0, 1])
def test_analytic_dpm_as_published(eta):
    """Bao et al. 2022, eqs. 4, 8 and 9 in x_n = sqrt(abar_n) x with Gamma_n = E|eps|^2/d, lambda^2
    = 0 or beta~."""
    sigmas = KARRAS.grid(10)
    levels = tuple(sigmas.flip(0).tolist())
    # E|x - D|^2/(sigma^2 d) on the Gaussian
    gamma = {s: float((s**2 / (s**2 + LAM)).mean()) for s in levels}

    def update(x, past, s, s_next, noise):
        # abar_n, abar_(n-1)
        a = 1 / (1 + s**2)
        a_next = 1 / (1 + s_next**2)
        b = 1 - a
        b_next = 1 - a_next
        alpha = a / a_next
        lam2 = eta * b_next / b * (1 - alpha)
        D = past[-1][1]
        x_n = math.sqrt(a) * x
        mean = math.sqrt(a_next) * D + math.sqrt(b_next - lam2) * (
            x_n - math.sqrt(a) * D
        ) / math.sqrt(b)
        variance = lam2 + (math.sqrt(b / alpha) - math.sqrt(b_next - lam2)) ** 2 * (1 - gamma[s])
        return (mean + math.sqrt(variance) * noise()) / math.sqrt(a_next)

    sampler = AnalyticVariance(eta, levels, tuple(s**2 * (1 - gamma[s]) for s in levels))
    SAME(run(sampler, sigmas), published(update, sigmas))


class Atoms:
    """+-1 with equal weights."""

    shape = (1,)

    def sample(self, n, generator):
        return torch.randint(2, (n, 1), generator=generator).double() * 2 - 1


def test_posterior_variance_measures_both_forms_of_v():
    """v and sigma^2 (1 - Gamma) by quadrature on +-1, where D = tanh(x/sigma^2), and by samples
    within 5 deviations."""
    levels = (0.3, 0.8, 3.0)
    n = 40_000
    node = np.linspace(-12, 12, 4001)  # the trapezoidal rule, exact to rounding
    weight = np.exp(-(node**2) / 2) / np.exp(-(node**2) / 2).sum()
    measured = posterior_variance(lambda x, s: torch.tanh(x / s**2), Atoms(), levels, n, seed=1)
    for s, v in zip(levels, measured, strict=True):
        x = 1 + s * node
        D = np.tanh(x / s**2)
        exact = float(weight @ (1 - D) ** 2)
        assert s**2 * (1 - float(weight @ ((x - D) / s) ** 2)) == pytest.approx(exact, rel=1e-10)
        assert abs(v - exact) < 5 * math.sqrt(float(weight @ (1 - D) ** 4) / n)


def test_fit_makes_a_table_that_another_seed_changes():
    circle = Circle()
    sampler = AnalyticVariance(levels=(0.1, 1.0), n=500)
    fitted = [sampler.fit(circle.denoiser(), circle, seed) for seed in (0, 0, 1)]
    assert fitted[0] == fitted[1] != fitted[2]
    assert (
        fitted[0].variances == posterior_variance(circle.denoiser(), circle, (0.1, 1.0), 500, 0)
        and fitted[0].eta == sampler.eta
    )
    assert AnalyticVariance(n=10).fit(circle.denoiser(), circle).levels == pytest.approx(TABLE)


def test_a_run_is_evaluated_and_its_trajectories_measured_with_the_same_table(inside, tmp_path):
    """`evaluate run=` measures again what `sample` did; both, and `theory admissibility`, need the
    sampler fitted."""
    words = (
        "model=exact",
        "data=circle",
        "sampler=a_ddim",
        "sampler.steps=6",
        "sampler.n=200",
        "n=50",
        "seed=3",
    )
    assert (
        inside("sample", *words, "metrics=quick", "figures=false", "hydra.run.dir=S").returncode
        == 0
    )
    done = inside("evaluate", "run=S", "figures=true", "hydra.run.dir=E")
    assert done.returncode == 0, done.stderr
    sampled, evaluated = (
        json.loads((tmp_path / folder / "metrics.json").read_text()) for folder in "SE"
    )
    assert evaluated == {key: sampled[key] for key in evaluated} and len(evaluated) > 5
    assert (tmp_path / "E/figures/trajectories.png").is_file()
    done = inside(
        "theory", "admissibility", "data=circle", "data.ambient=3", *words[2:], "figures=false"
    )
    assert (
        done.returncode == 0 and "it is DDIM's, and this sampler takes other steps" in done.stdout
    ), done.stderr


def test_fitted_measures_the_law_with_the_seed_and_leaves_other_samplers_alone():
    law = Circle()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("sample", ["data=circle", "model=exact", "sampler=a_ddim", "seed=7"])
    experiment = assemble(cfg)
    sampler = AnalyticVariance(n=50, levels=(0.1, 1.0))
    simulation = replace(experiment.simulation, sampler=sampler)
    found = fitted(replace(experiment, simulation=simulation)).simulation.sampler
    expected = posterior_variance(law.denoiser(), law, (0.1, 1.0), 50, 7)
    assert found.variances == expected
    plain = replace(experiment, simulation=replace(simulation, sampler=Euler()))
    assert fitted(plain) is plain


def test_a_step_without_a_table_says_what_happened():
    with pytest.raises(
        UsageError,
        match="no posterior variances: none were given, and it was not fitted to a law first$",
    ):
        run(AnalyticVariance(), KARRAS.grid(3))


def test_the_table_is_read_along_power_laws():
    sampler = AnalyticVariance(0, (0.1, 1.0, 10.0), (0.01, 0.5, 1.0))
    for sigma, v in (
        (0.1, 0.01),
        (1.0, 0.5),
        (10.0, 1.0),
        (math.sqrt(0.1), math.sqrt(0.005)),
        (0.02, 0.0004),
        (500, 1.0),
    ):
        assert sampler.variance(sigma) == pytest.approx(v, rel=1e-12)
