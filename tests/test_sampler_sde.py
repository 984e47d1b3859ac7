"""Stochastic samplers on Gaussians, whose law after a run is known exactly (theory.orders), and on
atoms; what every one of them owes.

The reverse SDE with noise eta started at one point of the level sigma has on an eigendirection of
variance v the exact mean f (x - m) + m, f = ((v + sigma'^2)/(v + sigma^2))^((1+eta)/2), and the
variance (v + sigma'^2) - f^2 (v + sigma^2).
"""

import math
from functools import partial

import pytest
import torch
from gaussian_runs import KARRAS, LAM, LOG, SAME, denoise, run

from diffgeo.core import Past
from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DDPM,
    AnalyticVariance,
    DPMpp2M,
    DPMpp2MSDE,
    DPMpp3M,
    DPMpp3MSDE,
    DPMppSDE,
    EDMChurn,
    Euler,
    EulerAncestral,
    GradientEstimation,
    Heun,
    SASolver,
    steps,
)
from diffgeo.schedule import OU, VE
from diffgeo.schedule.spacing import Exponential
from diffgeo.simulation.noise import Streams
from diffgeo.theory.orders import (
    correlated_gaussian,
    gaussian,
    impulse_response,
    slope,
    unit_circle,
    weak_errors,
)

TABLE = tuple(10 ** (k / 8) for k in range(-24, 25))
EXACT_V = tuple(float((LAM * s**2 / (LAM + s**2)).mean()) for s in TABLE)
COUNTS = (64, 128, 256)


# orders

WEAK = [
    EulerAncestral(),
    EulerAncestral(eta=0.5),
    DPMppSDE(order=1, eta=0.5),
    DPMppSDE(),
    DPMppSDE(eta=0.5, r=0.3),
    DPMpp2MSDE(),
    DPMpp2MSDE(eta=0.5, solver="heun"),
    DPMpp3MSDE(),
    DPMpp3MSDE(weights="legacy"),
    SASolver(),
    SASolver(predictor=2, corrector=0),
    SASolver(predictor=1, corrector=2),
    SASolver(predictor=3, corrector=1),
    SASolver(predictor=3, corrector=0, tau=0.7),
    AnalyticVariance(0, TABLE, EXACT_V),
    AnalyticVariance(1, TABLE, EXACT_V),
]


@pytest.mark.parametrize("sampler", WEAK, ids=repr)
def test_weak_order_of_the_variance(sampler):
    errors = [weak_errors(sampler, LOG.grid(n))[1] for n in COUNTS]
    assert sampler.order - 0.2 < slope(COUNTS, errors) < sampler.order + 0.3


@pytest.mark.parametrize("keep", [{}, {"s_min": 0.05, "s_max": 1.0}], ids=["all", "some"])
def test_churn_keeps_the_order_of_heun(keep):
    errors = [weak_errors(EDMChurn(s_churn=20, **keep), KARRAS.grid(n))[1] for n in COUNTS]
    assert 1.8 < slope(COUNTS, errors) < 2.2


def point_errors(sampler, eta, sigmas):
    """Errors of mean and variance from one point of the first level, both relative to the deviation
    and variance at the last."""
    zero = torch.zeros_like(LAM)
    first = LAM + sigmas[0] ** 2
    last = LAM + sigmas[-1] ** 2
    _, response = impulse_response(sampler, gaussian(LAM), sigmas, zero, torch.sqrt(first))
    f = (last / first) ** ((1 + eta) / 2)
    mean = (response[0] - f * torch.sqrt(first)) / torch.sqrt(last)
    return float(mean.norm()), float(
        (response[1:].square().sum(0) / last - (1 - f**2 * first / last)).norm()
    )


@pytest.mark.parametrize(
    "sampler, eta",
    [
        (EulerAncestral(), 1),
        (EulerAncestral(eta=0.5), 0.25),
        (DPMppSDE(order=1, eta=0.5), 0.5),
        (DPMppSDE(), 1),
        (DPMppSDE(eta=0.5, r=0.3), 0.5),
        (DPMpp2MSDE(), 1),
        (DPMpp2MSDE(eta=0.5, solver="heun"), 0.5),
        (DPMpp3MSDE(), 1),
        (DPMpp3MSDE(weights="legacy"), 1),
        (SASolver(), 1),
        (SASolver(predictor=1, corrector=2, tau=0.6), 0.36),
    ],
    ids=repr,
)
def test_weak_order_of_the_transition_from_a_point(sampler, eta):
    """The law that a run makes of one point: a wrong split between drift and noise that keeps the
    marginal laws would show here."""
    short = VE(sigma_min=0.5, sigma_max=5, spacing=Exponential(), to_zero=False)
    for errors in zip(*(point_errors(sampler, eta, short.grid(n)) for n in COUNTS), strict=True):
        # the mean of DDPM is exact
        assert max(errors) < 1e-14 or slope(COUNTS, errors) > sampler.order - 0.2


@pytest.mark.parametrize(
    "sampler",
    [
        DPMppSDE(eta=0),
        DPMpp2MSDE(eta=0, solver="heun"),
        DPMpp3MSDE(eta=0),
        SASolver(tau=0, predictor=2, corrector=0),
        SASolver(tau=0, predictor=3, corrector=0),
        SASolver(tau=0, predictor=1, corrector=2),
        SASolver(tau=0, predictor=2, corrector=1),
        SASolver(tau=0),
    ],
    ids=repr,
)
def test_order_on_the_flow_without_noise(sampler):
    for problem in (correlated_gaussian(), unit_circle()):
        assert (
            slope(COUNTS, [problem.error(sampler, KARRAS.grid(n)) for n in COUNTS])
            > sampler.order - 0.2
        )


# equivalences


@pytest.mark.parametrize(
    "sigmas", [LOG.grid(25), VE().grid(25), KARRAS.grid(7)], ids=["log", "to 0", "few"]
)
@pytest.mark.parametrize(
    "one, other",
    [
        (EulerAncestral(), DDPM()),
        (EulerAncestral(), GradientEstimation(gamma=1, mu=0.5)),
        (EulerAncestral(eta=0), Euler()),
        (EDMChurn(n=25, s_churn=0), Heun()),
        (EDMChurn(n=25, s_min=100, s_max=200), Heun()),
        (DPMppSDE(order=1), DDPM()),
        (DPMppSDE(order=1, eta=0), Euler()),
        (DPMpp2MSDE(eta=0), DPMpp2M()),
        (SASolver(predictor=1, corrector=0), DDPM()),
        (
            SASolver(predictor=2, corrector=0, tau=math.sqrt(0.3)),
            DPMpp2MSDE(eta=0.3, solver="heun"),
        ),
        (SASolver(predictor=3, corrector=0, tau=math.sqrt(0.3)), DPMpp3MSDE(eta=0.3)),
        (SASolver(tau_min=100), SASolver(tau=0)),
        (AnalyticVariance(0, TABLE, (0.0,) * len(TABLE)), Euler()),
        (AnalyticVariance(1, TABLE, (0.0,) * len(TABLE)), DDPM()),
    ],
    ids=repr,
)
def test_equivalent_methods(one, other, sigmas):
    SAME(run(one, sigmas), run(other, sigmas))


@pytest.mark.parametrize("weights", ["exact", "legacy"])
def test_3m_without_noise_is_3m(weights):
    """From the same two earlier steps: without them the published starts differ (midpoint there,
    the exact secant here)."""
    problem = correlated_gaussian()
    levels = KARRAS.grid(12)
    past = [Past(s, problem.x * s, problem.denoise(problem.x * s, s)) for s in levels[:2].tolist()]
    runs = [
        [
            step.x
            for step in steps(
                sampler(weights=weights), problem.denoise, problem.x, levels[2:], None, past
            )
        ]
        for sampler in (partial(DPMpp3MSDE, eta=0), DPMpp3M)
    ]
    SAME(*map(torch.stack, runs))


# what every stochastic method owes

ALL = [
    EulerAncestral(),
    EulerAncestral(eta=0.5),
    EulerAncestral(eta=0),
    EDMChurn(n=40),
    EDMChurn(n=40, s_noise=1.1),
    DPMppSDE(),
    DPMppSDE(order=1, eta=0.5),
    DPMppSDE(eta=0.5, s_noise=0.9),
    DPMpp2MSDE(),
    DPMpp2MSDE(eta=0),
    DPMpp3MSDE(eta=0.3, s_noise=0.9),
    SASolver(),
    SASolver(tau_min=0.05, tau_max=1),
    AnalyticVariance(0, TABLE, EXACT_V),
    AnalyticVariance(1, TABLE, EXACT_V),
]


@pytest.mark.parametrize("sampler", ALL, ids=repr)
@pytest.mark.parametrize(
    "schedule", [OU(), LOG, OU(t_min=0.1, to_zero=False)], ids=["ou", "log", "stops above 0"]
)
def test_terminal_noise_is_what_the_last_step_leaves(sampler, schedule):
    """Against the last step alone on a single point: the root of the sum of the squares of its
    draws' coefficients."""
    sigmas = schedule.grid(40)
    point = torch.zeros(1, dtype=torch.float64)
    _, response = impulse_response(sampler, gaussian(point), sigmas[-2:], point, point)
    assert sampler.terminal_noise(sigmas) == pytest.approx(
        float(response.square().sum().sqrt()), rel=1e-9, abs=1e-16
    )


@pytest.mark.parametrize("sampler", [s for s in ALL if getattr(s, "s_noise", 1) == 1], ids=repr)
def test_atoms_get_their_weights(sampler):
    """-1 with weight .3 and 2 with weight .7; the run ends on them, up to the noise of the last
    step and the bias of 100 steps."""
    atoms = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    logw = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    D = lambda x, sigma: (torch.softmax(logw - (x - atoms) ** 2 / (2 * sigma**2), -1) @ atoms)[
        :, None
    ]
    g = torch.Generator().manual_seed(1)
    sigmas = OU().grid(100)
    noise = lambda: torch.randn(5_000, 1, generator=g, dtype=torch.float64)
    if hasattr(sampler, "fit"):  # as the commands do
        sampler = sampler.fit(D, Biased())
    for step in steps(sampler, D, sampler.start(noise(), float(sigmas[0])), sigmas, noise):
        x = step.x
    right = x[:, 0] > 0.5
    assert abs(float(right.double().mean()) - 0.7) < 4 * math.sqrt(0.21 / 5_000) + 0.004
    assert float((x[:, 0] - torch.where(right, 2.0, -1.0)).square().mean().sqrt()) < 1e-3


class Biased:
    shape = (1,)

    def sample(self, n, generator):
        return torch.where(
            torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.7, 2.0, -1.0
        )


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_a_sample_does_not_depend_on_its_batch(sampler):
    sigmas = VE().grid(12)
    both = []
    for keys in (torch.arange(6), torch.tensor([4])):
        noise = Streams(keys, (4,))
        *_, last = steps(sampler, denoise, sampler.start(noise(), float(sigmas[0])), sigmas, noise)
        both.append(last.x)
    SAME(both[0][4:5], both[1])


@pytest.mark.parametrize(
    "sampler, evaluations",
    [
        (EulerAncestral(), 18),
        (EDMChurn(n=18), 35),
        (DPMppSDE(order=1), 18),
        (DPMppSDE(), 35),
        (DPMpp2MSDE(), 18),
        (DPMpp3MSDE(), 18),
        (SASolver(), 18),
        (AnalyticVariance(0, TABLE, EXACT_V), 18),
    ],
    ids=repr,
)
def test_evaluations_on_18_karras_steps_and_the_end_at_d(sampler, evaluations):
    counted = Counted(denoise)
    noise = Streams(torch.arange(5), (4,))
    *_, last = steps(sampler, counted, sampler.start(noise(), 80.0), VE().grid(18), noise)
    assert counted.nfe == evaluations and torch.equal(last.x, last.denoised)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: EulerAncestral(eta=-1), "eta="),
        (lambda: EDMChurn(n=0), "n=0"),
        (lambda: EDMChurn(n=9, s_churn=-1), "s_churn="),
        (lambda: EDMChurn(n=9, s_min=2, s_max=1), "s_min="),
        (lambda: DPMppSDE(eta=-1), "eta="),
        (lambda: DPMppSDE(order=3), "order="),
        (lambda: DPMppSDE(r=1), "r=1"),
        (lambda: DPMpp2MSDE(solver="euler"), "midpoint or heun"),
        (lambda: DPMpp3MSDE(weights="old"), "exact or legacy"),
        (lambda: SASolver(predictor=4), "predictor="),
        (lambda: SASolver(corrector=-1), "corrector="),
        (lambda: SASolver(tau=-1), "tau="),
        (lambda: SASolver(tau_min=2, tau_max=1), "tau_min="),
        (lambda: AnalyticVariance(0, (), (1.0,)), "one variance for each"),
        (lambda: AnalyticVariance(0, (1.0, 1.0), (1, 1)), "increasing"),
        (lambda: AnalyticVariance(0, (1.0,), (-1.0,)), "0 or more"),
        (lambda: AnalyticVariance(n=0), "n=0"),
        (lambda: run(AnalyticVariance(), LOG.grid(3)), "fit"),
    ],
)
def test_what_cannot_be_met_is_said_in_one_line(make, word):
    with pytest.raises(UsageError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)
