"""Adaptive samplers: the error against the tolerance, each sample on its own, steps against scipy's
and against the published pairs."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45 as Reference

from diffgeo.core import column
from diffgeo.denoiser import Counted
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.sampler import RK45, DPMAdaptive, DPMSolver2, DPMSolver3, Euler, Restart, steps
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.theory.orders import correlated_gaussian, slope, unit_circle

GAUSS = correlated_gaussian()
CIRCLE = unit_circle()
TIGHT = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
# one integration from Problem.first to Problem.last
WHOLE = torch.tensor([20.0, 0.02], dtype=torch.float64)
MAKERS = {
    "rk45": lambda tol: RK45(tol, tol),
    "dpm23": lambda tol: DPMAdaptive(tol, tol),
    "dpm12": lambda tol: DPMAdaptive(tol, tol, order=2),
}


class Evaluations:
    """Rows evaluated, and the rows' levels."""

    def __init__(self, denoise):
        self.denoise = denoise
        self.rows = 0

    def __call__(self, x, sigma):
        self.rows += len(x)
        return self.denoise(x, sigma)


def run(sampler, denoise, x, sigmas=WHOLE):
    for step in steps(sampler, denoise, x, sigmas, None):
        x = step.x
    return x


def in_lambda(lam, y):
    """dx/dlambda = D - x on the circle, for scipy."""
    return (
        CIRCLE.denoise(torch.from_numpy(y[None]), math.exp(-lam))[0] - torch.from_numpy(y)
    ).numpy()


@pytest.mark.parametrize("problem", [GAUSS, CIRCLE], ids=["gauss", "circle"])
@pytest.mark.parametrize(
    "name, tolerances", [("rk45", TIGHT), ("dpm23", TIGHT), ("dpm12", TIGHT[:3])]
)
def test_the_error_follows_the_tolerance(name, tolerances, problem):
    """The error stays below the tolerance, and falls like it; the evaluations of a sample grow like
    tol^(-1/p)."""
    errors = []
    nfe = []
    for tol in tolerances:
        counted = Evaluations(problem.denoise)
        x = run(MAKERS[name](tol), counted, problem.x)
        errors.append(float((x - problem.end).norm() / problem.end.norm()))
        nfe.append(counted.rows / len(x))
    assert all(error < tol for error, tol in zip(errors, tolerances, strict=True))
    tightness = [1 / tol for tol in tolerances]
    assert 0.8 < slope(tightness, errors) < 1.15
    order = MAKERS[name](1).order
    assert -slope(tightness[-2:], nfe[-2:]) == pytest.approx(1 / order, abs=0.06)


def test_higher_pairs_need_fewer_evaluations_when_the_tolerance_is_tight():
    """Evaluations a sample at tol = 1e-5 on the circle: 135 (RK45), 176 (DPM-23), 707 (DPM-12)."""
    spent = {}
    for name, make in MAKERS.items():
        counted = Evaluations(CIRCLE.denoise)
        run(make(1e-5), counted, CIRCLE.x)
        spent[name] = counted.rows / len(CIRCLE.x)
    assert (
        spent["rk45"] < spent["dpm23"] < spent["dpm12"]
        and spent["rk45"] < 150
        and spent["dpm23"] < 200
    )


@pytest.mark.parametrize("name", MAKERS)
def test_a_sample_does_not_depend_on_the_others(name):
    x = torch.cat([CIRCLE.x, 1e-3 * CIRCLE.x, CIRCLE.x.flip(0) * 3])
    together = run(MAKERS[name](1e-4), CIRCLE.denoise, x)
    sampler = MAKERS[name](1e-4)
    for i in (0, 7, 25, 59):
        torch.testing.assert_close(
            run(sampler, CIRCLE.denoise, x[i : i + 1]), together[i : i + 1], rtol=1e-12, atol=1e-12
        )
    torch.testing.assert_close(
        run(sampler, CIRCLE.denoise, x.flip(0)), together.flip(0), rtol=1e-12, atol=1e-12
    )


def test_samples_that_have_arrived_leave_the_batch():
    """Half of the rows lie where the flow is straight. A denoiser call sees the rows still on their
    way, each at its own level."""
    stiff = lambda x, sigma: torch.where(
        x[:, 1:] > 0, x * torch.sin(5 * column(sigma, x)[:, None]), torch.zeros_like(x)
    )
    x = torch.stack(
        [
            torch.linspace(1, 3, 8, dtype=torch.float64),
            torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4),
        ],
        1,
    )
    sizes = []
    levels = []

    def denoise(x, sigma):
        sizes.append(len(x))
        levels.append(torch.as_tensor(sigma).unique().numel())
        return stiff(x, sigma)

    run(RK45(1e-7, 1e-7), denoise, x, torch.tensor([3.0, 0.1]))
    assert (
        sizes[0] == 8 and sizes[-1] < 4 and sizes == sorted(sizes, reverse=True) and max(levels) > 3
    )


def test_rk45_takes_the_step_of_dormand_and_prince():
    """One trial against scipy's RK45 object: x', and the error estimate, from the same step."""
    sigma = 1.3
    h = 0.2
    x = CIRCLE.x[:1]
    reference = Reference(
        in_lambda, -math.log(sigma), x[0].numpy(), 10, rtol=1e3, atol=1e3, first_step=h
    )
    reference.step()
    level = torch.tensor([sigma], dtype=torch.float64)
    trial = RK45().pair(
        CIRCLE.denoise,
        x,
        CIRCLE.denoise(x, sigma),
        level,
        level * math.exp(-h),
        torch.tensor([[h]], dtype=torch.float64),
    )
    np.testing.assert_allclose(trial.x[0].numpy(), reference.y, rtol=1e-13)
    np.testing.assert_allclose(
        (trial.x - trial.lower)[0].numpy(), -reference.K.T @ reference.E * h, rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize(
    "order, high, low", [(3, DPMSolver3(), DPMSolver2(r=1 / 3)), (2, DPMSolver2(), Euler())]
)
def test_the_pairs_are_dpm_solvers(order, high, low):
    """With a tolerance that takes everything the first step is h_init long: x' of the higher
    solver, and the estimate of the lower."""
    x = GAUSS.x
    s = 2.0
    t = 1.5
    level = torch.full((len(x),), s, dtype=torch.float64)
    h = torch.full((len(x), 1), math.log(s / t), dtype=torch.float64)
    trial = DPMAdaptive(order=order).pair(
        GAUSS.denoise, x, GAUSS.denoise(x, s), level, level * t / s, h
    )
    for mine, method in ((trial.x, high), (trial.lower, low)):
        torch.testing.assert_close(
            mine, method.step(GAUSS.denoise, x, s, t, [], None).x, rtol=1e-12, atol=1e-12
        )
    free = DPMAdaptive(rtol=1e9, atol=1e9, h_init=1.0, order=order)
    torch.testing.assert_close(
        run(free, GAUSS.denoise, x, torch.tensor([s, t])), trial.x, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "name, first, accepted, refused", [("rk45", 1, 6, 6), ("dpm23", 1, 3, 2), ("dpm12", 1, 2, 1)]
)
def test_evaluations_of_accepted_and_refused_trials(name, first, accepted, refused):
    """On one sample: the first D, then what each trial costs; the last accepted one of a DPM pair
    needs no D at its end."""
    sampler = MAKERS[name](1e-6)
    trials = []

    class Spy(type(sampler)):
        def error(self, x, trial):
            error = super().error(x, trial)
            trials.append(float(error) <= 1)
            return error

    counted = Counted(CIRCLE.denoise)
    run(Spy(**sampler.__dict__), counted, CIRCLE.x[:1])
    saved = name != "rk45"
    assert trials.count(False) > 0 and trials[-1]
    assert (
        counted.nfe == first + accepted * trials.count(True) + refused * trials.count(False) - saved
    )


@pytest.mark.parametrize("name", MAKERS)
def test_levels_of_the_grid_are_met_and_zero_is_reached_by_euler(name):
    sigmas = VE(sigma_min=0.02, sigma_max=20, spacing=Geometric()).grid(5)
    visited = list(steps(MAKERS[name](1e-4), GAUSS.denoise, GAUSS.x, sigmas, None))
    assert [step.sigma for step in visited] == sigmas[1:].tolist() and torch.equal(
        visited[-1].x, visited[-1].denoised
    )
    torch.testing.assert_close(visited[-2].x, GAUSS.end, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(visited[1].denoised, GAUSS.denoise(visited[0].x, float(sigmas[1])))


def test_a_denoiser_that_jumps_or_diverges_stops_with_one_line():
    turn = iter(range(10**6))
    rough = lambda x, sigma: x + 1e14 * next(turn)  # never the same twice
    for sampler in (RK45(rtol=0), DPMAdaptive(rtol=0), DPMAdaptive(rtol=0, order=2)):
        with pytest.raises(
            DiffgeoError, match="below sigma=2 the step shrank to nothing.*raise sampler.atol"
        ) as caught:
            run(sampler, rough, CIRCLE.x, torch.tensor([2.0, 0.1]))
        assert "\n" not in str(caught.value)
        broken = lambda x, sigma: torch.where(column(sigma, x)[:, None] < 1, torch.nan, x / 2)
        with pytest.raises(DiffgeoError, match="the state is not finite"):
            run(sampler, broken, CIRCLE.x, torch.tensor([2.0, 0.1]))


def test_endless_chatter_stops_with_one_line(monkeypatch):
    """D pulls across a jump in x: the flow slides along it, in steps as small as the tolerance."""
    monkeypatch.setattr("diffgeo.sampler.adaptive.TRIALS", 200)
    with pytest.raises(DiffgeoError, match="200 trials 1 of 2 samples have not reached sigma=0.1"):
        run(
            RK45(1e-6, 1e-6),
            lambda x, sigma: torch.where(x > 0, -1.0, torch.where(x < 0, 1.0, 0.0)),
            torch.tensor([[1.0], [0.0]]),
            torch.tensor([2.0, 0.1]),
        )


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_of_no_samples_has_arrived(name):
    """Restart asks a step what noise it leaves with one row for each draw; a step that does not
    cross t_min makes none."""
    assert run(MAKERS[name](1e-3), GAUSS.denoise, GAUSS.x[:0]).shape == (0, 3)
    restart = Restart(MAKERS[name](1e-3), t_min=0.1, t_max=1.0)
    assert restart.added_noise(2.0, 0.5) == 0
    # D = 0: x shrinks like sigma
    assert restart.added_noise(0.5, 0.1) == pytest.approx(math.sqrt(1 - 0.1**2) * 0.1, rel=1e-2)


@pytest.mark.parametrize("wrong", [{"rtol": -1e-3}, {"atol": 0}, {"h_init": 0}, {"order": 4}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(UsageError, match="sampler."):
        DPMAdaptive(**wrong)


def test_adaptive_samplers_say_so():
    assert (
        RK45.adaptive
        and DPMAdaptive.adaptive
        and RK45().order == 5
        and [DPMAdaptive(order=p).order for p in (2, 3)] == [2, 3]
    )
