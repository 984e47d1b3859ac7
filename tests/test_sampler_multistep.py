"""Multistep deterministic samplers: orders on exact flows, which methods are one another, and how
they start and end."""

import dataclasses
import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import (
    DEIS,
    IPNDM,
    LMS,
    PNDM,
    DPMpp2M,
    DPMpp3M,
    Euler,
    GradientEstimation,
    IPNDMv,
    UniPC,
    steps,
)
from diffgeo.schedule import OU, VE, VP
from diffgeo.schedule.spacing import Power
from diffgeo.theory.orders import correlated_gaussian, slope, unit_circle

KARRAS = VE(sigma_min=0.02, sigma_max=20, to_zero=False)
LINEAR = VE(sigma_min=1.0, sigma_max=20, spacing=Power(1), to_zero=False)
SAME = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
ENDS = 64, 640


def name(value):
    return str(value).replace(str(VP()), "VP()") if dataclasses.is_dataclass(value) else None


class Uneven:
    """Steps in log sigma that alternate between h and 2h: no refinement makes neighbours alike."""

    def grid(self, n):
        lengths = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(n // 2)
        return 20 * torch.exp(
            -math.log(1000) * torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
        )


@pytest.fixture(scope="module")
def gauss():
    return correlated_gaussian()


def run(sampler, sigmas, problem, **options):
    for step in steps(sampler, problem.denoise, problem.x, sigmas, None, **options):
        x = step.x
    return x


def measured(sampler, schedule, problem):
    return slope(ENDS, [problem.error(sampler, schedule.grid(n)) for n in ENDS])


# orders

NUMERIC = [
    *(LMS(p) for p in (1, 2, 3, 4)),
    *(IPNDM(p) for p in (2, 3, 4)),
    *(DEIS(p) for p in (2, 3, 4)),
    DPMpp3M(),
    *(UniPC(p, v) for p in (1, 2) for v in ("bh1", "bh2")),
    UniPC(3),
]


@pytest.mark.parametrize("sampler", NUMERIC, ids=name)
@pytest.mark.parametrize("problem", [correlated_gaussian, unit_circle])
def test_declared_order_from_exact_history(sampler, problem):
    assert sampler.order - 0.2 < measured(sampler, KARRAS, problem()) < sampler.order + 0.2


@pytest.mark.parametrize(
    "sampler, order",
    [
        (LMS(3), 3),
        (LMS(4), 4),
        (DEIS(3), 3),
        (UniPC(2), 3),
        (UniPC(3), 4),
        (IPNDM(2), 1),
        (IPNDM(4), 1),
    ],
    ids=name,
)
def test_on_an_uneven_grid_only_true_variable_step_rules_keep_their_order(sampler, order, gauss):
    assert order - 0.2 < measured(sampler, Uneven(), gauss) < order + 0.2


@pytest.mark.parametrize(
    "sampler, order",
    [(LMS(4), 2), (DPMpp3M(), 2), (UniPC(3), 3), (PNDM(), 3), (PNDM(chart=VE()), 4)],
    ids=name,
)
def test_the_order_that_the_start_leaves(sampler, order, gauss):
    """On equal steps from sigma = 1, where eps moves. Euler's first step leaves O(h^2); UniPC
    corrects it to O(h^3); the Runge-Kutta start of PNDM leaves O(h^3) in the time of VP, and next
    to nothing where half the time is half of sigma."""
    problem = replace(gauss, x=gauss.x / 20, first=1.0, last=0.5)
    grid = VE(sigma_min=0.5, sigma_max=1, spacing=Power(1), to_zero=False).grid
    errors = [float((run(sampler, grid(n), problem) - problem.end).norm()) for n in ENDS]
    assert order - 0.1 < slope(ENDS, errors) < order + 0.1


def test_legacy_ipndm_v_fails_its_order(gauss):
    assert (
        measured(IPNDMv(4, "legacy"), KARRAS, gauss)
        < 2.2
        < 3.8
        < measured(IPNDMv(4), KARRAS, gauss)
    )
    assert (
        1.8
        < measured(IPNDMv(3, "legacy"), Uneven(), gauss)
        < 2.2
        < 2.8
        < measured(IPNDMv(3), Uneven(), gauss)
    )
    # does not converge: the weights do not add up to 1
    assert gauss.error(IPNDMv(4, "legacy"), Uneven().grid(640)) > 0.1


def test_dpmpp_3m_as_published_is_of_order_two(gauss):
    assert DPMpp3M("legacy").order == 2 and 1.8 < measured(DPMpp3M("legacy"), KARRAS, gauss) < 2.2


# equivalences


@dataclass(frozen=True)
class Blind(DPMpp3M):
    memory = 0


@pytest.mark.parametrize(
    "one, other",
    [
        (Blind(), Euler()),
        (LMS(1), Euler()),
        (IPNDM(1), Euler()),
        (DEIS(1), Euler()),
        (UniPC(1, corrector=False), Euler()),
        (GradientEstimation(1.5), IPNDM(2)),
        (LMS(4), IPNDMv(4)),
        (LMS(4), DEIS(4, "rho")),
        (LMS(2), IPNDMv(2, "legacy")),
        (UniPC(2, "bh2", corrector=False), DPMpp2M()),
        (UniPC(3, "bh2", corrector=False), DPMpp3M()),
        (LMS(3), DEIS(3, "t", VE())),
    ],
    ids=name,
)
@pytest.mark.parametrize("schedule", [VE(), OU(t_max=6, to_zero=False)], ids=["karras to 0", "ou"])
def test_two_names_of_one_method(one, other, schedule, gauss):
    sigmas = schedule.grid(12)
    SAME(run(one, sigmas, gauss), run(other, sigmas, gauss))


def test_on_equal_steps_ipndm_is_lms(gauss):
    sigmas = LINEAR.grid(20)
    SAME(run(IPNDM(4), sigmas, gauss), run(LMS(4), sigmas, gauss))
    assert not torch.allclose(
        run(IPNDM(4), VE().grid(20), gauss), run(LMS(4), VE().grid(20), gauss), rtol=1e-3
    )


@pytest.mark.parametrize("variant, B", [("bh1", lambda h: h), ("bh2", lambda h: -math.expm1(-h))])
def test_unipc_1_as_published(variant, B, gauss):
    """x = (s'/s) x_c - (e^-h - 1) D at the corrected x_c; there, x_c' = the same + (B(h)/2) (D' -
    D) with D' = D(x). One call a level."""
    sigmas = VE().grid(8).tolist()
    counted = Counted(gauss.denoise)
    ours = list(
        steps(UniPC(1, variant), counted, gauss.x, torch.tensor(sigmas, dtype=torch.float64), None)
    )
    x = corrected = gauss.x
    D = None
    for k, (s, s_next) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        new = gauss.denoise(x, s)
        corrected = corrected if D is None else x + B(math.log(sigmas[k - 1] / s)) / 2 * (new - D)
        D = new
        x = new + s_next / s * (corrected - new)
        SAME(ours[k].x, x)
        SAME(ours[k].corrected, corrected)
    assert counted.nfe == 8 and ours[-1].sigma == 0 and torch.equal(ours[-1].x, ours[-1].denoised)


@pytest.mark.parametrize(
    "sampler, extra",
    [(LMS(4), 0), (DEIS(3), 0), (DPMpp3M(), 0), (UniPC(3), 0), (PNDM(), 9)],
    ids=name,
)
def test_evaluations_of_a_run(sampler, extra, gauss):
    counted = Counted(gauss.denoise)
    list(steps(sampler, counted, gauss.x, VE().grid(18), None))
    assert counted.nfe == 18 + extra


def test_a_starting_step_of_pndm_is_runge_kutta_in_the_time_of_its_chart(gauss):
    """One step: with half the time half of sigma it is Runge and Kutta's rule, whose defect falls
    as h^5; with VP's time as h^3."""
    for chart, expected in ((VE(), 5), (VP(), 3)):
        defects = []
        for h in (0.4, 0.2):
            problem = replace(gauss, first=4.0, last=4.0 - h)
            defects.append(
                float(
                    (
                        run(
                            PNDM(chart=chart),
                            torch.tensor([4.0, 4.0 - h], dtype=torch.float64),
                            problem,
                        )
                        - problem.end
                    ).norm()
                )
            )
        assert math.log2(defects[0] / defects[1]) == pytest.approx(expected, abs=0.25)


def test_pndm_has_no_runge_kutta_step_into_zero(gauss):
    """Two steps, the second into 0: Adams-Bashforth's of two points, from the state that Runge and
    Kutta's left."""
    sigmas = VE(sigma_max=2, sigma_min=0.3).grid(2)
    counted = Counted(gauss.denoise)
    first, last = steps(PNDM(), counted, gauss.x, sigmas, None)
    before, now = ((x - gauss.denoise(x, s)) / s for x, s in ((gauss.x, 2.0), (first.x, 0.3)))
    SAME(last.x, first.x - 0.3 * (1.5 * now - 0.5 * before))
    assert counted.nfe == 5


@pytest.mark.parametrize("sampler", [DPMpp2M(), DPMpp3M(), UniPC(3), DEIS(3, "log_rho")], ids=name)
def test_methods_in_log_sigma_end_in_the_denoised_point(sampler, gauss):
    *_, last = steps(sampler, gauss.denoise, gauss.x, VE().grid(9), None)
    assert last.sigma == 0
    SAME(last.x, last.denoised)


@pytest.mark.parametrize("sampler", [GradientEstimation(2.0), IPNDM(2)], ids=name)
def test_clipping_the_denoiser_clips_the_history(sampler, gauss):
    """By hand with D cut to [-1, 1] wherever it is used, in the eps remembered too."""
    sigmas = VE().grid(10)
    clipped = replace(gauss, denoise=lambda x, sigma: gauss.denoise(x, sigma).clamp(-1, 1))
    gamma = getattr(sampler, "gamma", 1.5)
    x = gauss.x
    past = None
    for s, s_next in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        eps = (x - gauss.denoise(x, s).clamp(-1, 1)) / s
        x = x + (s_next - s) * (eps if past is None else gamma * eps + (1 - gamma) * past)
        past = eps
    SAME(run(sampler, sigmas, clipped), x)
    assert not torch.allclose(run(sampler, sigmas, gauss), x, atol=1e-3)


@pytest.mark.parametrize(
    "sampler", [LMS(4), IPNDMv(4, "legacy"), DEIS(), PNDM(), DPMpp3M(), UniPC()], ids=name
)
def test_a_sample_does_not_depend_on_its_batch(sampler, gauss):
    sigmas = VE().grid(10)
    alone = run(sampler, sigmas, replace(gauss, x=gauss.x[2:3]))
    torch.testing.assert_close(run(sampler, sigmas, gauss)[2:3], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "build, says",
    [
        (lambda: LMS(5), "points=5"),
        (lambda: IPNDM(0), "points=0"),
        (lambda: UniPC(4), "points=4"),
        (lambda: UniPC(2, "bh3"), "bh1 or bh2"),
        (lambda: IPNDMv(4, "old"), "exact or legacy"),
        (lambda: DPMpp3M("old"), "exact or legacy"),
        (lambda: DEIS(3, "s"), "t, rho, log_rho"),
    ],
)
def test_refusals(build, says):
    with pytest.raises(UsageError, match=says):
        build()
