"""Optimizers with a denoiser in them: rates, fixed points and minima in closed form."""

import pytest
import torch

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import generator
from diffgeo.data.gaussian import Gaussian
from diffgeo.data.law import Ambient
from diffgeo.data.points import Points
from diffgeo.data.sphere import Circle
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithms import constraint, reddiff, regularizer
from diffgeo.inverse.operators import gaussian_rows, hdr, matrix
from diffgeo.inverse.steps.descent import ProjectedGradient, RedDiff, rate, square_norm
from diffgeo.sampler import steps
from diffgeo.schedule import VE
from diffgeo.simulation.noise import Streams, keys

f64 = torch.float64


def run(step, law, measurement, sigmas, rows=1, first=0):
    """The states after each step, and what the step tells at the end."""
    told = step.told(measurement)
    noise = Streams(keys(0, range(first, first + rows)), law.shape)
    x = told.start(noise(), float(sigmas[0]))
    states = [x]
    for taken in steps(told, law.denoiser(), x, sigmas, noise):
        states.append(taken.x)
    return states, told


def many(count):
    """A grid of so many steps, for methods that look at a level of their own."""
    return torch.linspace(2, 1, count + 1, dtype=f64)


@pytest.fixture(scope="module")
def subspace():
    """A truth on a 4-dimensional subspace of R^32, seen through 8 Gaussian rows without noise."""
    law = Ambient(Gaussian([0.0] * 4, torch.eye(4)), 32)
    operator = gaussian_rows(shape=(32,), rows=8, seed=2)
    truth = law.sample(1, generator(2))
    return law, truth, Measurement(operator, operator(truth), 0.0)


def test_the_rate_of_the_regularizer_is_one_minus_mu_over_l(subspace):
    """The error's coordinates on K are those of (1 - B'B/L)^k, B = A on K; the largest shrinks by
    1 - mu/L a step. After 200 steps nothing is left, where A^+ y was off by .82 of the truth."""
    law, truth, measurement = subspace
    frame = law.frame
    least, largest, factor = rate(measurement.operator, frame)
    b = measurement.operator(frame.mT).mT
    squares = torch.linalg.eigvalsh(b.mT @ b)
    assert least == pytest.approx(float(squares[0]), rel=1e-12)
    assert largest == pytest.approx(float(squares[-1]), rel=1e-12)
    assert factor == pytest.approx(1 - least / largest, rel=1e-12)

    step = ProjectedGradient(lipschitz=largest, level=1e-9)
    states, _ = run(step, law, measurement, many(200))
    assert float((states[0] - truth).norm() / truth.norm()) == pytest.approx(0.818, abs=1e-3)
    shrink = torch.eye(4, dtype=f64) - b.mT @ b / largest
    error = (states[1] - truth) @ frame
    for k in range(1, 60):
        expected = error @ torch.linalg.matrix_power(shrink, k - 1)
        assert ((states[k] - truth) @ frame - expected).abs().max() < 1e-12
    assert float((states[-1] - truth).norm() / truth.norm()) < 1e-13
    # the slowest direction by itself
    _, axes = torch.linalg.eigh(b.mT @ b)
    slow = [float(((state - truth) @ frame @ axes[:, 0]).abs()) for state in states[10:40]]
    assert (slow[-1] / slow[0]) ** (1 / 29) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.01])
def test_at_a_fixed_level_the_regularizer_ends_in_ridge(subspace, level):
    """On N(0, P) the fixed point solves (B'B + v L) z = B'y: a bias of order v."""
    law, truth, measurement = subspace
    _, largest, _ = rate(measurement.operator, law.frame)
    step = ProjectedGradient(lipschitz=largest, level=level)
    states, _ = run(step, law, measurement, many(400))
    b = measurement.operator(law.frame.mT).mT
    ridge = torch.linalg.solve(
        b.mT @ b + level**2 * largest * torch.eye(4, dtype=f64), b.mT @ measurement.y[0]
    )
    assert (states[-1][0] - law.frame @ ridge).abs().max() < 1e-13
    bias = float((states[-1] - truth).norm() / truth.norm())
    expected = {0.1: 2.8866e-2, 0.01: 3.0020e-4}
    assert bias == pytest.approx(expected[level], rel=1e-4)


def test_down_the_levels_the_regularizer_finds_the_truth(subspace):
    """As a user runs it: the sampler's own levels, the step 1/|A|^2; measured .073 after 100 steps,
    .0040 after 300."""
    law, truth, measurement = subspace
    for count, expected in ((100, 0.0726525), (300, 0.00398570)):
        states, _ = run(regularizer().step, law, measurement, VE().grid(count))
        found = float((states[-1] - truth).norm() / truth.norm())
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_norm_of_an_operator():
    operator = gaussian_rows(shape=(32,), rows=8, seed=0)
    assert square_norm(operator) == pytest.approx(float(operator.values.max() ** 2), rel=1e-8)


@pytest.mark.parametrize("lam", [None, 0.9])
def test_reddiff_rests_where_its_level_lets_it(lam):
    """On N(m, c), y = h x, without noise in eps (whose mean it is): at one level the descent rests
    where h (y - h mu) = lambda v/(c + v) (mu - m), lambda = s^2 where nothing is said. There a step
    moves nothing; beside it, by the whole rate towards it."""
    m, c, h, y, s, sigma = 0.4, 1.7, 1.3, 2.0, 0.5, 0.8
    law = Gaussian([m], [[c]])
    measurement = Measurement(matrix(shape=(1,), entries=[[h]]), torch.tensor([y], dtype=f64), s)
    told = RedDiff(lam, rate=0.01).told(measurement)
    zero = torch.zeros(1, 1, dtype=f64)
    assert float(told.start(zero, sigma)) == pytest.approx(y / h)
    weight = (s**2 if lam is None else lam) * sigma**2 / (c + sigma**2)
    rest = (h * y + weight * m) / (h**2 + weight)
    for beside, moved in ((0.0, 0.0), (0.02, -0.01), (-0.02, 0.01)):
        mu = torch.full((1, 1), rest + beside, dtype=f64)
        new = told.on(torch.ones(2)).step(law.denoiser(), mu, sigma, sigma, [], lambda: zero).x
        assert float(new - mu) == pytest.approx(moved, abs=1e-8)


def test_reddiff_forgets_the_prior_at_the_end():
    """Down the levels the weight of the prior goes to 0: on N(0, 1), y = 1, s = .5 a run of 400
    steps ends at y, not at the posterior mean .8, and has no spread to speak of."""
    law = Gaussian([0.0], [[1.0]])
    measurement = Measurement(matrix(shape=(1,), entries=[[1.0]]), torch.tensor([1.0]), 0.5)
    states, _ = run(reddiff(rate=0.02).step, law, measurement, VE().grid(400), rows=64)
    assert float(states[-1].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(states[-1].std()) < 0.02


@pytest.mark.slow  # torch.optim takes seconds to import
def test_adam_is_torchs_adam():
    """The first steps of a run against torch.optim.Adam on the same gradients."""
    law = Gaussian([0.3, -0.2], [[1.0, 0.4], [0.4, 0.5]])
    operator = matrix(shape=(2,), entries=[[1.0, 0.5]])
    measurement = Measurement(operator, torch.tensor([1.2], dtype=f64), 0.4)
    sigmas = VE().grid(12)
    states, _ = run(RedDiff(0.25, 0.1), law, measurement, sigmas)
    noise = Streams(keys(0, range(1)), (2,))
    noise()  # the start's
    mu = states[0].clone().requires_grad_()
    adam = torch.optim.Adam([mu], lr=0.1, betas=(0.9, 0.99))
    for sigma, expected in zip(sigmas.tolist(), states[1:], strict=False):
        eps = noise()
        with torch.no_grad():
            x = mu + sigma * eps
            apart = (x - law.denoiser()(x, sigma)) / sigma - eps
        loss = measurement.square(mu).sum() / 2 + 0.25 * sigma * (apart * mu).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert (mu.detach() - expected).abs().max() < 1e-12


def test_a_linear_function_is_least_at_its_point_of_the_circle():
    """min <c, x> on the circle is at -c/|c|, from any start."""
    direction = torch.tensor([0.6, 0.8], dtype=f64)
    step = ProjectedGradient(lipschitz=1.0, noise=1.0, objective=lambda x: x @ direction)
    nothing = Measurement(matrix(shape=(2,), entries=[[1.0, 0.0]]), torch.zeros(1, dtype=f64), 0.1)
    states, told = run(step, Circle(), nothing, VE().grid(60), rows=16)
    assert (states[-1] + direction).norm(dim=1).max() < 0.006  # three levels of .002
    assert told.account()["objective"].tolist() == pytest.approx([-1.0] * 16, abs=1e-4)


def test_draws_of_the_constraint_find_the_best_of_finitely_many_points():
    """64 points of the plane, one number measured, 40 measurements: how often the least misfit of
    all points is reached, by the one way without noise and by the best of 16 draws with noise."""
    g = generator(3)
    atoms = torch.randn(64, 2, generator=g, dtype=f64)
    law = Points(atoms.tolist())
    y = torch.randn(40, 1, generator=g, dtype=f64)
    operator = matrix(shape=(2,), entries=[[1.0, 0.5]])
    best = (y - operator(atoms).mT).square().min(1).values / 2
    found = {}
    for noise, rows in ((0.0, 1), (1.0, 16)):
        every = Measurement(operator, y.repeat_interleave(rows, 0), 0.1)
        _, told = run(constraint(noise=noise).step, law, every, VE().grid(50), 40 * rows)
        reached = told.account()["objective"].view(40, rows).min(1).values
        assert (reached > best - 1e-12).all()
        found[noise] = int((reached < best + 1e-12).sum())
    assert found[0.0] == 14
    assert found[1.0] >= 30  # measured: 33


def test_an_operator_that_is_not_linear_can_be_a_constraint():
    """HDR, clip(2x), of one of two images on a segment: the truth is found where it is not
    clipped."""
    operator = hdr(shape=(1, 1, 2))
    ends = torch.tensor([[[[-0.4, 0.1]]], [[[0.3, 0.4]]]], dtype=f64)
    law = Gaussian([-0.05, 0.25], [[0.1225, 0.0525], [0.0525, 0.0225]])  # on the line of both
    measurement = Measurement(operator, operator(ends[1:])[0], 0.0)

    def denoise(x, sigma):
        return law.denoiser()(x.flatten(1), sigma).view_as(x)

    told = constraint(lipschitz=4.0, noise=0.0).step.told(measurement)
    x = told.start(torch.zeros(1, 1, 1, 2, dtype=f64), 80.0)
    for taken in steps(told, denoise, x, VE().grid(60), None):
        x = taken.x
    assert (x - ends[1:]).abs().max() < 1e-3


def test_what_optimizers_cannot_do_is_refused(subspace):
    _, _, measurement = subspace
    bent = Measurement(hdr(shape=(1, 4, 4)), torch.zeros(1, 4, 4, dtype=f64), 0.1)
    with pytest.raises(UsageError, match="algorithm.lipschitz=L"):
        constraint().step.told(bent)
    with pytest.raises(UsageError, match=r"algorithm.lam=.25"):
        reddiff().step.told(measurement)
    for wrong in (lambda: reddiff(rate=0), lambda: regularizer(level=-1), lambda: reddiff(lam=0)):
        with pytest.raises(UsageError, match="above 0"):
            wrong()
    with pytest.raises(UsageError, match="0 or more"):
        constraint(noise=-1)
