"""Twisted SMC: its limit in particles is the posterior of the N-step prior, with its evidence, and
its account says which twists are of any use."""

import math

import pytest
import torch

from diffgeo.analytic.measurement import Measurement
from diffgeo.data.gaussian import Gaussian, Mixture
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithms import tds
from diffgeo.inverse.operators import hdr, matrix
from diffgeo.inverse.steps.twists import twist_of
from diffgeo.sampler import steps
from diffgeo.schedule import VE
from diffgeo.simulation.noise import Streams, keys
from diffgeo.theory.distances import bures

f64 = torch.float64
MEAN = torch.tensor([0.5, -1, 0, 2], dtype=f64)
COVARIANCE = torch.tensor(
    [[2, 0.5, 0, 0], [0.5, 1, 0.3, 0], [0, 0.3, 0.5, 0.1], [0, 0, 0.1, 0.2]], dtype=f64
)
A = torch.tensor([[1, 0, 1, 0], [0, 2, 0, -1]], dtype=f64)
Y = torch.tensor([1.5, -3], dtype=f64)
S = 0.3
SIGMAS = VE().grid(30)


def posterior(mean, covariance):
    """Mean, covariance and log evidence of a Gaussian prior, by the textbook."""
    total = A @ covariance @ A.mT + S**2 * torch.eye(2, dtype=f64)
    gain = covariance @ A.mT @ torch.linalg.inv(total)
    law = torch.distributions.MultivariateNormal(A @ mean, total)
    moved = mean + gain @ (Y - A @ mean)
    return moved, covariance - gain @ A @ covariance, float(law.log_prob(Y))


def of_steps(mean, covariance):
    """The N-step prior: what DDPM with the exact D makes of N(0, 80^2) on SIGMAS, by its own
    recursion of mean and covariance."""
    eye = torch.eye(4, dtype=f64)
    at = torch.zeros(4, dtype=f64)
    spread = float(SIGMAS[0]) ** 2 * eye
    for sigma, below in zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True):
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * eye)
        square = (below / sigma) ** 2
        linear = (1 - square) * gain + square * eye
        at = linear @ at + (1 - square) * (mean - gain @ mean)
        spread = linear @ spread @ linear.mT + below**2 * (1 - square) * eye
    return at, spread


def run(algorithm, law, measurement, rows=1, seed=0, first=0):
    """The ended particles of the rows, and the step's account."""
    told = algorithm.step.told(measurement)
    running = told.on(SIGMAS)
    noise = Streams(keys(seed, range(first, first + rows)), law.shape)
    x = told.start(noise(), float(SIGMAS[0]))
    for step in steps(running, law.denoiser(), x, SIGMAS, noise):
        x = step.x
    return running, x, told.account()


@pytest.fixture(scope="module")
def g4():
    law = Gaussian(MEAN, COVARIANCE)
    return law, Measurement(matrix(shape=(4,), entries=A), Y, S)


def test_the_limit_is_the_posterior_of_the_n_step_prior():
    moved, spread, evidence = posterior(*of_steps(MEAN, COVARIANCE))
    exact_mean, exact_covariance, exact_evidence = posterior(MEAN, COVARIANCE)
    assert evidence == pytest.approx(-2.898, abs=5e-4)
    assert exact_evidence == pytest.approx(-3.147647, abs=1e-6)
    assert bures(moved, spread, exact_mean, exact_covariance) == pytest.approx(0.165, abs=5e-4)


@pytest.mark.parametrize("twist", ["mmps", "pigdm", "jfps"])
def test_particles_find_evidence_mean_and_covariance(g4, twist):
    """Bounds are five standard deviations, measured over 24 rows: at most .033 of the evidence,
    .030 of an entry of the mean and .025 of one of the covariance."""
    law, measurement = g4
    moved, spread, evidence = posterior(*of_steps(MEAN, COVARIANCE))
    running, _, account = run(tds(2000, twist), law, measurement)
    assert float(account["log_evidence"]) == pytest.approx(evidence, abs=0.165)
    assert float(account["least_ess"]) > 0.7
    (cloud,) = running.clouds
    shares = cloud.shares()
    mean = shares @ cloud.x
    apart = cloud.x - mean
    covariance = apart.mT @ (shares[:, None] * apart)
    assert (mean - moved).abs().max() < 0.15
    assert (covariance - spread).abs().max() < 0.125


def test_the_twist_of_dps_leaves_no_particles(g4):
    """Of 2000 hardly one: the evidence is off by many nats, and the account shows why."""
    law, measurement = g4
    _, _, account = run(tds(2000, "dps"), law, measurement)
    assert float(account["least_ess"]) < 0.02
    assert float(account["log_evidence"]) < -6


def test_a_row_is_the_same_alone_and_among_others(g4):
    law, _ = g4
    y = torch.stack([Y, Y + 0.1, Y - 0.1, Y])
    every = Measurement(matrix(shape=(4,), entries=A), y, S)
    _, x, account = run(tds(50), law, every, rows=4)
    _, alone, own = run(tds(50), law, every.of(slice(2, 3)), first=2)
    assert torch.equal(x[2:3], alone)
    for name, values in account.items():
        assert torch.equal(values[2:3], own[name])


def test_a_sample_is_one_of_the_particles(g4):
    law, measurement = g4
    running, x, _ = run(tds(50), law, measurement, rows=3)
    for row, cloud in enumerate(running.clouds):
        assert (cloud.x == x[row]).all(1).any()


def test_systematic_resampling_keeps_each_particle_by_its_share(g4):
    """Of 8 particles one with the share w is kept 8 w times, rounded up or down, at any offset."""
    from diffgeo.inverse.steps.twisted import Cloud

    cloud = Cloud(torch.zeros(8, 1, dtype=f64))
    shares = torch.tensor([0.5] + [0.5 / 7] * 7, dtype=f64)
    cloud.weighted(shares.log())
    assert cloud.ess() == pytest.approx(1 / float((shares**2).sum()) / 8)
    for u in (0.1, 0.3, 0.999):
        counts = torch.bincount(cloud.ancestors(u), minlength=8)
        assert counts.sum() == 8
        assert ((counts - 8 * shares).abs() < 1).all()


@pytest.mark.parametrize("name", ["mmps", "pigdm"])
def test_a_twist_is_its_own_gradient(g4, name):
    """D^ - D = v grad log twist, which on a Gaussian is exact: by autograd through D."""
    law, measurement = g4
    denoise = law.denoiser()
    x = torch.tensor([[1, 0, -1, 1.0]], dtype=f64, requires_grad=True)
    told = twist_of(name, 1.0)(denoise, measurement, x, 1.5)
    (gradient,) = torch.autograd.grad(told.log_twist.sum(), x)
    assert (told.guided - told.denoised - 1.5**2 * gradient).abs().max() < 1e-12


def test_the_exact_twist_is_the_posterior_mean(g4):
    """On a Gaussian D^ of mmps is D_y: the spec's value at sigma 1.5."""
    law, measurement = g4
    x = torch.tensor([[1, 0, -1, 1.0]], dtype=f64)
    told = twist_of("mmps", 1.0)(law.denoiser(), measurement, x, 1.5)
    expected = [1.3811498421, -0.5383398271, 0.0696053863, 1.9238594791]
    assert told.guided[0].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.slow
def test_the_mean_of_the_evidence_is_right_for_any_number_of_particles(g4):
    """E exp(log_evidence) is the evidence of the N-step prior, with 16 particles too."""
    law, measurement = g4
    _, _, evidence = posterior(*of_steps(MEAN, COVARIANCE))
    _, _, account = run(tds(16), law, measurement, rows=400)
    found = (account["log_evidence"] - evidence).exp()
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - 1) < 4 * error
    assert error < 0.05


@pytest.mark.slow
def test_a_mixture_is_weighed_as_its_posterior_weighs_it():
    """M2: evidence -1.815327, posterior mean (.5625, 1.2182), component weights (.609, .146, .245),
    to what 200 steps and 4000 particles leave."""
    means = [[0, 0], [2, 1], [-1, 2]]
    covariances = [[[1, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.25, 0.5], [0.5, 1]]]
    law = Mixture(means, covariances, [0.5, 0.3, 0.2])
    measurement = Measurement(
        matrix(shape=(2,), entries=[[1, 0.5]]), torch.tensor([1.2], dtype=f64), 0.4
    )
    told = tds(4000, "mmps").step.told(measurement)
    sigmas = VE().grid(200)
    running = told.on(sigmas)
    noise = Streams(keys(1, range(1)), (2,))
    for _ in steps(running, law.denoiser(), told.start(noise(), 80.0), sigmas, noise):
        pass
    (cloud,) = running.clouds
    mean = cloud.shares() @ cloud.x
    assert float(told.account()["log_evidence"]) == pytest.approx(-1.815326514, abs=0.08)
    assert mean.tolist() == pytest.approx([0.5625353602, 1.2181930981], abs=0.08)


def test_what_tds_cannot_weigh_is_refused(g4):
    law, measurement = g4
    silent = Measurement(measurement.operator, Y, 0.0)
    with pytest.raises(UsageError, match="sigma_n above 0"):
        tds().step.told(silent)
    bent = Measurement(hdr(shape=(1, 4, 4)), torch.zeros(1, 4, 4, dtype=f64), S)
    with pytest.raises(UsageError, match="twist=dps"):
        tds().step.told(bent)
    with pytest.raises(UsageError, match="write one of mmps"):
        tds(twist="none")
    with pytest.raises(UsageError, match="2 or more"):
        tds(particles=1)
    with pytest.raises(UsageError, match="share from 0 to 1"):
        tds(resample=2)
    wide = Measurement(matrix(shape=(65,), entries=torch.eye(65)), torch.zeros(65, dtype=f64), S)
    with pytest.raises(UsageError, match="at most 64"):
        tds(twist="mmps").step.told(wide)
