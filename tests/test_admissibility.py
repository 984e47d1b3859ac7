"""The distance-function theory: certificates tight on both sides, the inequality that owes no
assumption, the energy's gradient."""

import math

import pytest
import torch
from simulations import draw

from diffgeo.data import Ambient, Circle, Curve, Points, Square
from diffgeo.data.dino import dino, roll
from diffgeo.errors import UsageError
from diffgeo.sampler import Euler, GradientEstimation, Heun
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation import Loop, Simulation
from diffgeo.theory.admissibility import Measured, denoiser_errors, measure
from diffgeo.theory.certificate import (
    beta_star,
    betas,
    bounds,
    limits,
    nu_min,
    reachable,
    steps_needed,
)
from diffgeo.theory.energy import Energy, energy_of, estimates
from diffgeo.theory.verdict import Verdict

GRID = VE(sigma_min=0.01, sigma_max=40, spacing=Geometric())
STEPS = (5, 10, 20, 50)
TABLE = {
    (0.05, 2): (0.7214, 0.5725, 0.4052, 0.2159),
    (0.1, 2): (0.5642, 0.4011, 0.2541, 0.1210),
    (0.1, 1.5): (0.4379, 0.2844, 0.1671, 0.0747),
    (0.2, 2): (0.3929, 0.2508, 0.1455, 0.0644),
}
TEN = {
    "ddim": (999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0),
    "offset": (853, 767, 682, 597, 511, 426, 341, 255, 170, 85, 0),
    "edm": (930, 868, 794, 705, 591, 441, 252, 93, 22, 2, 0),
    "log-linear": (853, 765, 665, 549, 415, 271, 149, 73, 33, 14, 0),
}
CERTIFICATES = {
    0.02: {
        "ddim": (3.50, 1.20),
        "offset": (2.61, 1.14),
        "edm": (1.38, 1.36),
        "log-linear": (1.35, 1.21),
    },
    0.05: {
        "ddim": (math.inf, 1.59),
        "offset": (math.inf, 1.40),
        "edm": (2.31, 2.20),
        "log-linear": (2.18, 1.63),
    },
    0.09: {
        "ddim": (math.inf, 2.35),
        "offset": (math.inf, 1.86),
        "edm": (4.86, 4.46),
        "log-linear": (4.48, 2.47),
    },
}


def simulated(sampler, law, sigmas, loop=Loop()):
    return Simulation(sampler, law.denoiser(), sigmas, law.shape, loop=loop)


def measure_of(sampler, law, sigmas, n, loop=Loop(), **options):
    return measure(simulated(sampler, law, sigmas, loop), law, range(n), **options)


def estimates_of(sampler, law, sigmas, n, loop=Loop()):
    return estimates(simulated(sampler, law, sigmas, loop), law, range(n))


def points(n=200, d=2, seed=0, scale=2.0):
    return scale * torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def geometric(beta, steps):
    return [40 * (1 - beta) ** k for k in range(steps + 1)]


@pytest.mark.parametrize("eta, nu", TABLE)
def test_beta_star_as_tabled_and_tight_on_both_sides(eta, nu):
    """Table of distance.md, A3; admissible at beta*, not at 1.001 beta*."""
    for steps, tabled in zip(STEPS, TABLE[eta, nu], strict=True):
        beta = beta_star(eta, nu, steps)
        assert abs(beta - tabled) < 5.1e-5
        assert nu_min(geometric(beta, steps), eta) == pytest.approx(nu, rel=1e-10)
        assert nu_min(geometric(1.001 * beta, steps), eta) > nu * (1 + 1e-4)


def test_reachable_ratios_and_their_limits():
    for (eta, nu), ten, limit in zip(
        TABLE, (2.0e-4, 5.9e-3, 3.5e-2, 5.6e-2), (9.5e-7, 9.8e-4, 1.7e-2, 3.1e-2), strict=True
    ):
        assert reachable(eta, nu, 10) == pytest.approx(ten, rel=0.02)
        assert limits(eta, nu)[0] == pytest.approx(limit, rel=0.03) == nu ** (-1 / eta)
        n = 1_000_000
        assert reachable(eta, nu, n) == pytest.approx(limits(eta, nu)[0], rel=1e-3)
        assert (1 + beta_star(eta, nu, n) * (eta - 1)) ** n == pytest.approx(
            limits(eta, nu)[1], rel=1e-3
        )


def test_steps_needed_is_the_least():
    n = steps_needed(1e-2, 0.1, 2)
    assert reachable(0.1, 2, n) <= 1e-2 < reachable(0.1, 2, n - 1)
    assert math.isinf(steps_needed(1e-4, 0.1, 2))  # below the limit 2^-10


@pytest.mark.parametrize("eta", CERTIFICATES)
def test_certificates_of_the_published_schedules(eta):
    # float32, as published; float64 moves 3.50 to 3.505
    abar = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    for name, times in TEN.items():
        sigmas = ((1 - abar) / abar).sqrt()[list(times)].tolist()
        assert (nu_min(sigmas, eta), nu_min(sigmas[:-1], eta)) == pytest.approx(
            CERTIFICATES[eta][name], abs=0.0051
        )
        assert betas(sigmas)[-1] == pytest.approx(
            {"ddim": 0.970, "offset": 0.966, "edm": 0.473, "log-linear": 0.833}[name], abs=6e-4
        )


def test_certificate_against_its_definition():
    """The products written out for every t on an uneven grid, with an eta for each step."""
    sigmas = [10.0, 7.0, 6.5, 2.0, 1.1]
    eta = [0.1, 0.02, 0.2, 0.15]
    beta = [1 - b / a for a, b in zip(sigmas, sigmas[1:], strict=False)]
    worst = 0.0
    for t in range(1, 5):
        up, same, low = (
            math.prod(f(b, e) for b, e in zip(beta[:t], eta[:t], strict=True))
            for f in (
                lambda b, e: 1 + b * (e - 1),
                lambda b, e: 1 - b,
                lambda b, e: 1 - b * (1 + e),
            )
        )
        worst = max(worst, up / same, same / low)
        assert (bounds(sigmas, eta)[0][t], bounds(sigmas, eta)[1][t]) == pytest.approx((low, up))
    assert nu_min(sigmas, eta) == pytest.approx(worst)
    assert math.isinf(nu_min([1.0, 0.0], 0.1)) and nu_min(sigmas, 0.0) == pytest.approx(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: betas([1.0, 2.0]),
        lambda: nu_min([2.0, 1.0], -0.1),
        lambda: bounds([2.0, 1.0], [0.1, 0.1]),
        lambda: beta_star(0.1, 1.0, 5),
        lambda: limits(0.0, 2.0),
    ],
)
def test_certificates_refuse_nonsense(call):
    with pytest.raises(UsageError, match="write|needs"):
        call()


@pytest.mark.parametrize(
    "law",
    [dino(), roll(), Points([[0.0, 0], [1, 1], [2, -1]], [1, 2, 5])],
    ids=["dino", "roll", "weighted"],
)
def test_the_energy_s_gradient_is_the_noise(law):
    """grad E = x - D by autograd against the exact denoiser of the same cloud."""
    x = points().requires_grad_()
    for sigma in (0.05, 0.5, 5.0):
        (slope,) = torch.autograd.grad(energy_of(law)(x, sigma).sum(), x)
        assert (slope - (x - law.denoiser()(x, sigma)).detach()).abs().max() < 1e-9


def test_the_energy_brackets_the_squared_distance():
    law = dino()
    x = points()
    square = law.distance(x) ** 2
    counted = Energy(law.points, torch.ones(len(law.points)))
    for sigma in (0.01, 0.3, 3.0):
        mean = 2 * energy_of(law)(x, sigma)
        total = 2 * counted(x, sigma)
        gap = 2 * sigma**2 * math.log(142)
        assert (total <= square + 1e-12).all() and (square <= mean + 1e-12).all()
        assert (
            torch.allclose(mean - total, torch.full_like(mean, gap))
            and (mean <= square + gap + 1e-12).all()
        )
    assert counted.distance(x, 100.0).max() == 0  # negative: clipped
    assert (energy_of(law).distance(x, 1e-3) - law.distance(x)).abs().max() < 5e-3


@pytest.mark.parametrize("steps", [10, 20, 50])
@pytest.mark.parametrize("law", [roll(), Ambient(Circle(), 16)], ids=["roll", "circle in R^16"])
def test_no_violation_of_the_step_inequality(law, steps):
    measured = measure_of(Euler(), law, GRID.grid(steps), 2000)
    assert measured.ddim and int(measured.violations.sum()) == 0
    assert measured.eta.shape == (steps, 2000) and measured.distance.shape == (steps + 1, 2000)


def test_no_violation_in_ten_thousand_trajectories_on_the_curve_where_the_assumption_holds():
    law = Ambient(Curve(), 64)
    verdict = Verdict(
        measure_of(
            Euler(), law, VE(sigma_min=0.01, sigma_max=200, spacing=Geometric()).grid(20), 10_000
        )
    )
    measured = verdict.measured
    assert int(measured.violations.sum()) == 0 and measured.eta.shape[1] == 10_000
    assert (
        verdict.met
        and str(verdict).startswith("assumption met on each of 10000 runs (so, 95 % sure, on all ")
        and "but 0.0003 of others" in str(verdict)
        and verdict.eta < 1
        and verdict.nu < 2
    )
    lower, upper = (
        torch.tensor(b, dtype=torch.float64)[:, None]
        for b in bounds(verdict.sigmas, verdict.eta_by_level[:-1])
    )
    fall = (measured.distance / measured.distance[0])[:-1]
    # the theorem, on every run and level
    assert (lower * (1 - 1e-9) <= fall).all() and (fall <= upper * (1 + 1e-9)).all()
    assert verdict.nu_min_by_level <= verdict.nu_min


def test_the_inequality_can_be_violated():
    """By Heun, whose steps are not DDIM's, and by a projection that is not the nearest point."""
    law = roll()
    heun = measure_of(Heun(), law, GRID.grid(10), 500)
    assert not heun.ddim and int(heun.violations.sum()) > 0

    class Wrong(Circle):
        def project(self, x):
            near = super().project(x)
            return torch.where(x.norm(dim=1, keepdim=True) > 3, -near, near)

    wrong = Wrong()
    assert int(measure_of(Euler(), wrong, GRID.grid(20), 200).violations.sum()) > 0


def test_eta_nu_and_norm_at_the_same_point():
    """Against one step written out; the legacy pairing takes D here and everything else after the
    update."""
    law = roll()
    sigmas = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    m, old = (
        measure_of(Euler(), law, sigmas, 50, legacy_offset=offset) for offset in (False, True)
    )
    x = draw(Euler(), law.denoiser(), sigmas[:2], law.shape, 50).samples  # the state at sigma = 1
    after = draw(Euler(), law.denoiser(), sigmas, law.shape, 50).samples
    p = law.project(x)
    d = law.denoiser()(x, 1.0)
    assert torch.allclose(m.eta[1], (d - p).norm(dim=1) / (x - p).norm(dim=1))
    assert torch.allclose(m.ratio[1], math.sqrt(2) / law.distance(x)) and (m.nu >= 1).all()
    assert torch.allclose(m.norm[1], (x - d).norm(dim=1) / math.sqrt(2)) and torch.allclose(
        m.distance[2], law.distance(after)
    )
    assert torch.allclose(old.eta[1], (d - law.project(after)).norm(dim=1) / law.distance(after))
    assert torch.allclose(old.ratio[1], math.sqrt(2) / law.distance(after))


def test_runs_do_not_depend_on_the_batch():
    law = roll()
    one, many = (measure_of(Euler(), law, GRID.grid(8), 300, batch=b) for b in (300, 70))
    assert torch.allclose(one.eta, many.eta, rtol=1e-9, atol=1e-12) and torch.equal(
        one.violations, many.violations
    )


def test_the_roll_in_the_plane_does_not_meet_the_assumption():
    """distance.md, A4: the median eta peaks at 2.4-2.5 at sigma about .5-.65, the median nu at
    5.5-6."""
    law = roll()
    verdict = Verdict(measure_of(Euler(), law, GRID.grid(51)[:-1], 2000))
    eta = verdict.measured.eta.median(1).values
    nu = verdict.measured.nu.median(1).values
    assert (
        2.38 < float(eta.max()) < 2.52
        and 0.5 <= float(verdict.sigmas[int(eta.argmax())]) <= 0.65
        and 5.45 < float(nu.max()) < 6.05
    )
    assert (
        not verdict.met
        and str(verdict).startswith("assumption not met: eta >= 1 at")
        and verdict.fails
    )


def test_below_the_reach_eta_vanishes():
    """Atoms 2 apart: at sigma = .1 their posterior is one atom to exp(-200), and D is the
    projection."""
    law = Points([[-1.0, 0], [1, 0]])
    m = measure_of(Euler(), law, torch.tensor([0.2, 0.1, 0.05], dtype=torch.float64), 500)
    at_rest = law.denoiser()(torch.tensor([[0.9, 0.1]], dtype=torch.float64), 0.05) - torch.tensor(
        [[1.0, 0]], dtype=torch.float64
    )
    assert at_rest.abs().max() < 1e-15 and m.eta[0].median() <= 1 + 1e-9
    circle = Ambient(Circle(), 64)
    eta = measure_of(Euler(), circle, GRID.grid(40), 200).eta.median(1).values
    assert eta[-1] < 2e-3 and eta[-1] < eta[-10] / 5 and eta.max() < 1


def test_a_grid_too_steep_is_told_from_a_failed_assumption():
    sigma = torch.tensor([10.0, 1.0, 0.01], dtype=torch.float64)
    ones = torch.ones(2, 3, dtype=torch.float64)

    def verdict(eta, nu=1.0):
        return Verdict(
            Measured(sigma, torch.ones(3, 3), eta * ones, nu * ones, ones, torch.zeros(2), True)
        )

    assert (
        str(verdict(0.2)).startswith("grid not admissible")
        and not verdict(0.2).met
        and verdict(0.005).met
    )
    assert str(verdict(1.0)).startswith("assumption not met: eta >= 1 at 2 of 2 levels")
    assert verdict(0.005).leaves == []
    left = Verdict(
        Measured(
            sigma,
            torch.ones(3, 3),
            0.005 * ones,
            torch.stack([ones[0], 50 * ones[0]]),
            ones,
            torch.zeros(2),
            False,
        )
    )
    assert left.leaves == [1.0] and "band" in str(left) and not left.met


def test_denoiser_errors_of_a_denoiser_that_knows_nothing():
    """D = x predicts no noise at all: the error is |eps|/sqrt(n), a chi variable; D = x0's own mean
    at sigma -> inf approaches 0."""
    law = Ambient(Circle(), 64)
    nothing = denoiser_errors(lambda x, sigma: x, law, torch.tensor([3.0, 0.1]), 2000)
    assert nothing.square().mean(1).tolist() == pytest.approx([1, 1], abs=0.02)
    assert denoiser_errors(law.denoiser(), law, torch.tensor([100.0]), 200).max() < 0.02


def test_estimators_side_by_side():
    law = Ambient(Circle(), 64)
    guess = estimates_of(Euler(), law, GRID.grid(30), 64)
    relative = {name: (value / guess["exact"]).median(1).values for name, value in guess.items()}
    assert (relative["smoothed"] >= 1 - 1e-3).all() and (relative["smoothed"] < 1.5).all()
    assert (relative["sigma |eps|"] - 1).abs().max() < 0.05 and (
        relative["sqrt(n) sigma"] - 1
    ).abs().max() < 0.1


@pytest.mark.parametrize("options", [{"afs": 1.0}, {"clip": 0.4}, {"lower_order_final": True}])
def test_estimators_along_the_trajectories_that_were_measured(options):
    """With the loop's options too: the same distances, and |x - D| = sigma |eps| of the same D."""
    law = Circle()
    loop = Loop(**options)
    grid = GRID.grid(8)
    found = measure_of(GradientEstimation(), law, grid, 20, loop=loop)
    guess = estimates_of(GradientEstimation(), law, grid, 20, loop=loop)
    torch.testing.assert_close(guess["exact"], found.distance[:-1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        guess["sigma |eps|"], found.norm * grid[:-1, None] * math.sqrt(2), rtol=1e-12, atol=1e-12
    )
    plain = measure_of(GradientEstimation(), law, grid, 20)
    assert not torch.allclose(plain.distance, found.distance, rtol=1e-3)


@pytest.mark.parametrize("law, message", [(Square(), "fills R"), (object(), "write|nearest")])
def test_a_law_without_a_distance_is_refused(law, message):
    with pytest.raises((UsageError), match=message):
        measure(Simulation(Euler(), None, GRID.grid(3), (2,)), law, range(5))
