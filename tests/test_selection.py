"""Winners and the best gamma: the truth they are measured against, what competes, and the theory of
gamma* against scalar recursions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from diffgeo.commands.theory import gamma as theory_gamma
from diffgeo.commands.theory import winners as theory_winners
from diffgeo.config.named import names, sampler
from diffgeo.core import Fitted
from diffgeo.data import Circle, Gaussian, Mixture, normal
from diffgeo.sampler import IPNDM, DPMSolver3, Euler, Heun
from diffgeo.simulation import Simulation
from diffgeo.theory.gamma import best_gamma, coefficient, gamma_errors, gaussian_coefficient
from diffgeo.theory.selection import (
    GROUPS,
    PROBE,
    Entry,
    Truth,
    affordable,
    candidates,
    probe,
    ranking,
    regrets,
    schedules,
    wins,
)

METHODS = {"euler": Euler(), "heun": Heun(), "ipndm": IPNDM()}
FLAT = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.05]])


def test_the_truth_is_the_flow_of_a_gaussian_and_its_doubt_bounds_its_error():
    truth = Truth(FLAT, points=16)
    variance = torch.tensor([4.0, 0.05], dtype=torch.float64)
    exact = truth.x * torch.sqrt((variance + truth.low**2) / (variance + truth.high**2))
    error = float(truth.rms(truth.end - exact))
    assert error < 1e-5 and error < truth.doubt < 50 * error
    torch.testing.assert_close(truth.limit, variance / (variance + truth.low**2) * truth.end)


def test_rms_is_in_deviations_of_the_law_over_all_points_or_by_group():
    truth = Truth(normal(3), points=8)
    difference = torch.zeros(8, 3, dtype=torch.float64)
    difference[2:4] = torch.tensor([3.0, 0.0, 4.0])
    assert float(truth.rms(difference)) == pytest.approx(math.sqrt(2 * 25 / 8))
    assert truth.rms(difference, 4).tolist() == pytest.approx([0, 5, 0, 0])


def test_all_schedules_run_between_the_same_levels():
    for name, path in schedules(30.0, 0.05).items():
        for n in (1, 4, 9):
            sigma = path.grid(n).tolist()
            assert len(sigma) == n + 1 and all(a > b for a, b in pairwise(sigma)), name
            assert sigma[0] == pytest.approx(30, rel=1e-9)
            if n > 1:
                assert sigma[-1 - path.to_zero] == pytest.approx(0.05, rel=1e-9), name
        assert (path.grid(4)[-1] == 0) == (name not in ("logsnr", "time_uniform"))


def test_candidates_draw_no_noise_and_are_no_twins():
    samplers = {
        name: sampler(name, 10)
        for name in (
            "ddim",
            "dpm_solver_2",
            "euler",
            "ipndm_v",
            "lms",
            "midpoint",
            "restart",
            "rk45",
        )
    }
    # restart kicks at .05 alone
    assert list(candidates(samplers)) == ["ddim", "dpm_solver_2", "ipndm_v"]


@pytest.mark.slow
def test_what_competes_is_all_of_conf_that_is_deterministic():
    """Every sampler of conf that draws no noise in given steps, but for twins of others."""
    competing = set(theory_winners.samplers())
    ends = {}
    for name in names("sampler"):
        method = sampler(name)
        flat = lambda x, sigma: x / (1 + sigma**2)
        if not method.adaptive and not isinstance(method, Fitted):
            if Simulation(method, flat, PROBE.grid(12), (1,)).deterministic:
                ends[name] = probe(method)
    assert competing <= set(ends) and {"ddim", "heun", "unipc", "rk4"} <= competing
    for name in set(ends) - competing:
        twins = [other for other in competing if torch.allclose(ends[name], ends[other], rtol=1e-9)]
        assert twins, f"{name} is left out, and is no twin"
    # they draw noise, or are adaptive
    assert {"restart", "ddpm", "sa_solver", "a_ddim", "rk45"} <= set(names("sampler"))
    for name in ("ipndm", "unipc", "pndm"):  # one object serves every number of steps
        assert sampler(name, 5) == theory_winners.samplers()[name]


@pytest.mark.parametrize(
    "method, budget, to_zero, steps",
    [
        (Euler(), 5, True, 5),
        (Heun(), 5, True, 3),
        (Heun(), 5, False, 2),
        (Heun(), 8, True, 4),
        (DPMSolver3(), 2, False, 0),
        (DPMSolver3(), 10, True, 4),
        (DPMSolver3(), 10, False, 3),
    ],
)
def test_steps_within_a_budget_are_counted(method, budget, to_zero, steps):
    assert affordable(method, budget, to_zero) == steps


def test_a_ranking_holds_every_pair_with_the_error_of_its_run_the_best_first():
    truth = Truth(FLAT, points=32)
    entries = ranking(truth, METHODS, [8])[8]
    assert len(entries) == 3 * len(schedules()) and [e.error for e in entries] == sorted(
        e.error for e in entries
    )
    found = next(e for e in entries if (e.sampler, e.schedule) == ("euler", "karras"))
    variance = np.array([4.0, 0.05])
    levels = schedules()["karras"].grid(8).tolist()
    factor = np.prod([1 + (b - a) * a / (variance + a**2) for a, b in pairwise(levels)], axis=0)
    exact = (
        np.sqrt((variance + truth.low**2) / (variance + truth.high**2))
        * variance
        / (variance + truth.low**2)
    )
    square = (((factor - exact) * truth.x.numpy()) ** 2).sum(1) / truth.law.std**2
    assert found.steps == 8 and found.error == pytest.approx(math.sqrt(square.mean()), rel=1e-5)
    # of 32 points, the lower of the two in the middle
    assert found.median == pytest.approx(np.sort(np.sqrt(square))[15], rel=1e-5)
    assert found.groups == pytest.approx(np.sqrt(square.reshape(GROUPS, -1).mean(1)), rel=1e-5)


def test_regrets_and_wins_by_hand():
    def entry(name, error, *groups):
        return Entry(error, name, "s", 5, error, groups or (error,) * 4)

    a = [entry("A", 0.1, 0.1, 0.3, 0.1, 0.1), entry("B", 0.2, 0.2, 0.2, 0.2, 0.05)]
    b = [entry("B", 1e-9), entry("A", 0.009), entry("C", 0.01)]
    (first, *rest) = regrets([a, b])
    assert first[1:] == ("B", "s") and first[0] == pytest.approx(math.sqrt(2))
    assert rest == [(pytest.approx(3), "A", "s")]  # 9 times .001, not of 1e-9; C lacks a law
    assert wins(a) == 2 and wins(b) == 4


def ratio(variance, high, low, n, gamma, history=False):
    """x_N over the exact end, less 1, of GE(gamma) on N(0, variance) from x_0 = 1: the scalar
    recursion."""
    s = high * (low / high) ** (np.arange(-1, n + 1) / n)
    spread = np.sqrt(variance + s**2)
    x = 1.0
    past = s[0] / (spread[0] * spread[1]) if history else None
    for a, b in pairwise(s[1:]):
        eps = a * x / (variance + a**2)
        x = x + (b - a) * (eps if past is None else gamma * eps + (1 - gamma) * past)
        past = eps
    return x * spread[1] / spread[-1] - 1


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(
    "variance, high, low",
    [(1.0, 40.0, 0.01), (9.0, 40.0, 0.01), (1.0, 2.0, 0.01), (1.0, 1.0, 0.2), (1.0, 0.5, 0.01)],
)
def test_the_best_gamma_on_a_gaussian_has_the_derived_coefficient(variance, high, low, history):
    from scipy.optimize import brentq

    def measured(n):
        best = brentq(
            lambda gamma: ratio(variance, high, low, n, gamma, history), 1.3, 1.7, xtol=1e-13
        )
        return 0.5 + (best - 1.5) * n / math.log(high / low)

    extrapolated = 2 * measured(800) - measured(400)  # its own error is O(h)
    assert extrapolated == pytest.approx(
        gaussian_coefficient(variance, high, low, history), abs=2e-3
    )


@pytest.mark.parametrize("variance", [0.3, 1.0, 9.0])
def test_gamma_with_an_eighth_of_the_step_is_of_order_three_on_every_gaussian(variance):
    def slope(gamma):
        n = np.array([100, 200, 400])
        h = math.log(4e6) / n
        return -np.polyfit(
            np.log(n),
            np.log(
                [
                    abs(ratio(variance, 2000.0, 0.0005, k, gamma(w)))
                    for k, w in zip(n, h, strict=True)
                ]
            ),
            1,
        )[0]

    assert slope(lambda h: 1.5 + h / 8) == pytest.approx(3, abs=0.15)
    assert slope(lambda h: 1 + math.exp(-h) / 2) == pytest.approx(2, abs=0.15)  # AB2
    assert slope(lambda h: 2.0) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("history", [False, True])
def test_the_quadrature_is_the_closed_form_on_a_gaussian(history):
    truth = Truth(normal(2), 2.0, 0.01, points=8)
    assert coefficient(truth, history) == pytest.approx(
        gaussian_coefficient(1.0, 2.0, 0.01, history), abs=1e-3
    )


@pytest.mark.parametrize(
    "law",
    [Circle(), Mixture([[1.0, 0.0], [-1.0, 0.5]], [[[0.2, 0.0], [0.0, 0.2]]] * 2)],
    ids=["circle", "mixture"],
)
def test_the_quadrature_foretells_the_measured_gamma_of_other_laws(law):
    truth = Truth(law, 40.0, 0.01, points=32)
    g = best_gamma(truth, 150)
    assert g.best == pytest.approx(1.5 + (coefficient(truth) - 0.5) * g.h, abs=0.015 * g.h)
    assert g.error < min(g.error_half, g.error_eighth) < g.error_ab2 < g.error_two


def test_errors_of_many_gammas_in_one_batch_are_those_of_one_each():
    truth = Truth(normal(2), 2.0, 0.01, points=8)
    gammas = [1.0, 1.4, 2.0]
    expected = [
        float(truth.rms(truth.end * ratio(1.0, 2.0, 0.01, 7, gamma, history)))
        for history in (False, True)
        for gamma in gammas
    ]
    found = [e for history in (False, True) for e in gamma_errors(truth, 7, gammas, history)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_command_winners(inside, tmp_path, monkeypatch):
    monkeypatch.setattr(theory_winners, "samplers", lambda: METHODS)
    done = inside("theory", "winners", "laws=gaussian,circle", "budgets=5", "out=W")
    assert done.returncode == 0, done.stderr
    truth = Truth(theory_winners.law("gaussian"), points=theory_winners.POINTS)
    best = ranking(truth, METHODS, [5])[5][0]
    line = next(
        row
        for row in (tmp_path / "W" / "table.md").read_text().splitlines()
        if row.startswith("| gaussian")
    )
    assert [cell.strip() for cell in line.split("|")[2:7]] == [
        "5",
        best.sampler,
        best.schedule,
        str(best.steps),
        f"{best.error:.2g}",
    ]
    assert len((tmp_path / "W" / "table.csv").read_text().splitlines()) == 1 + 2 * 3 * 7
    assert (tmp_path / "W" / "winners.png").stat().st_size > 10_000
    # every run ends on the circle: nothing to rank
    assert "| circle " in done.stdout and " pairs" in done.stdout


@pytest.mark.parametrize(
    "words, expected",
    [
        (
            ["winners", "nfe=5"],
            "theory winners has no option nfe; write laws=..., budgets=..., seed=..., out=...",
        ),
        (["winners", "budgets=0"], "budgets=0: write a whole number"),
        (["winners", "laws=cube"], "there is no law cube; `diffgeo help data` lists the"),
        (["gamma", "steps=ten"], "steps=ten: write a whole number"),
        (["gamma", "circle"], "theory gamma has no option circle"),
    ],
)
def test_one_line_on_a_wrong_option(inside, words, expected):
    done = inside("theory", *words)
    assert done.returncode == 2 and expected in done.line


def test_the_command_gamma(inside, tmp_path, monkeypatch):
    monkeypatch.setattr(theory_gamma, "RADII", (0.1,))
    monkeypatch.setattr(theory_gamma, "RADII_STEPS", 60)
    done = inside("theory", "gamma", "laws=normal", "steps=10,20", "out=G")
    assert done.returncode == 0, done.stderr
    from scipy.optimize import brentq

    rows = [line.split(",") for line in (tmp_path / "G" / "table.csv").read_text().splitlines()[1:]]
    for row, n in zip(rows, (10, 20), strict=True):
        exact = [
            brentq(lambda g, n=n, h=history: ratio(1.0, 40.0, 0.01, n, g, h), 1.4, 1.8)
            for history in (False, True)
        ]
        assert [float(v) for v in row[2:4]] == pytest.approx(exact, abs=2e-4)
    radius = (tmp_path / "G" / "radii.csv").read_text().splitlines()[1].split(",")
    # measured and by quadrature
    assert float(radius[1]) == pytest.approx(float(radius[2]), abs=0.02)
    assert (tmp_path / "G" / "gamma.png").stat().st_size > 10_000
