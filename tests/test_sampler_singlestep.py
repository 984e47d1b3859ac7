"""Single-step samplers: measured orders, the published algorithms written a second time in the
papers' chart, exactness on polynomials."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from diffgeo.denoiser import Counted
from diffgeo.errors import UsageError
from diffgeo.sampler import RK4, DPMpp2S, DPMSolver2, DPMSolver3, Euler, Heun, steps
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.theory.orders import correlated_gaussian, slope, unit_circle

LOG = VE(sigma_min=0.02, sigma_max=20, spacing=Geometric(), to_zero=False)
KARRAS = VE(sigma_min=0.02, sigma_max=20, to_zero=False)
GAUSS = correlated_gaussian()
CIRCLE = unit_circle()
SAMPLERS = [DPMSolver2(), DPMSolver2(r=0.3), DPMSolver3(), DPMpp2S(), DPMpp2S(r=0.8), RK4()]
TO_ROUNDING = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def run(sampler, denoise, x, sigmas):
    for step in steps(sampler, denoise, x, torch.as_tensor(sigmas, dtype=torch.float64), None):
        x = step.x
    return x


@pytest.mark.parametrize("schedule", [LOG, KARRAS], ids=["log", "karras"])
@pytest.mark.parametrize("problem", [GAUSS, CIRCLE], ids=["gauss", "circle"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_declared_order_is_measured(sampler, problem, schedule):
    counts = (64, 96, 192)
    assert (
        sampler.order - 0.2
        < slope(counts, [problem.error(sampler, schedule.grid(n)) for n in counts])
        < sampler.order + 0.2
    )


def uneven(n):
    """Steps in log sigma that alternate between h and 2h."""
    lengths = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(n // 2)
    return 20 * torch.exp(
        -math.log(1000) * torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_single_steps_keep_their_order_on_an_uneven_grid(sampler):
    counts = (64, 96, 192)
    assert slope(counts, [GAUSS.error(sampler, uneven(n)) for n in counts]) > sampler.order - 0.2


# The published updates, in the variance-preserving chart: x_t = a x, a = 1/sqrt(1+sigma^2), s = a
# sigma, lambda = log(a/s).


def vp(lam):
    return 1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam))


def noise_model(x_t, lam):
    a, s = vp(lam)
    return (x_t - a * CIRCLE.denoise(x_t / a, s / a)) / s


def published_2(x, now, end, r=0.5):
    """DPM-Solver-2 (Lu et al. 2022), with a general r_1."""
    h, (a, _), (a_end, s_end), (a_r, s_r) = end - now, vp(now), vp(end), vp(now + r * (end - now))
    eps = noise_model(x, now)
    u = a_r / a * x - s_r * math.expm1(r * h) * eps
    return (
        a_end / a * x
        - s_end * math.expm1(h) * eps
        - s_end / (2 * r) * math.expm1(h) * (noise_model(u, now + r * h) - eps)
    )


def published_3(x, now, end, r1=1 / 3, r2=2 / 3):
    """DPM-Solver-3 (Lu et al. 2022, Algorithm 2)."""
    h, (a, _), (a_end, s_end) = end - now, vp(now), vp(end)
    (a1, s1), (a2, s2) = vp(now + r1 * h), vp(now + r2 * h)
    eps = noise_model(x, now)
    d1 = noise_model(a1 / a * x - s1 * math.expm1(r1 * h) * eps, now + r1 * h) - eps
    u2 = (
        a2 / a * x
        - s2 * math.expm1(r2 * h) * eps
        - s2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
    )
    d2 = noise_model(u2, now + r2 * h) - eps
    return a_end / a * x - s_end * math.expm1(h) * eps - s_end / r2 * (math.expm1(h) / h - 1) * d2


def published_2s(x, now, end, r=0.5):
    """DPM-Solver++(2S) (Lu et al. 2022, DPM-Solver++, Algorithm 1)."""
    data_model = lambda x_t, lam: (x_t - vp(lam)[1] * noise_model(x_t, lam)) / vp(lam)[0]
    h, (_, s), (a_end, s_end), (a_r, s_r) = end - now, vp(now), vp(end), vp(now + r * (end - now))
    d = data_model(x, now)
    d_r = data_model(s_r / s * x - a_r * math.expm1(-r * h) * d, now + r * h)
    return s_end / s * x - a_end * math.expm1(-h) * ((1 - 1 / (2 * r)) * d + 1 / (2 * r) * d_r)


PUBLISHED = [
    (DPMSolver2(), published_2),
    (DPMSolver2(0.3), partial(published_2, r=0.3)),
    (DPMSolver3(), published_3),
    (DPMpp2S(), published_2s),
    (DPMpp2S(0.8), partial(published_2s, r=0.8)),
]


@pytest.mark.parametrize("sampler, published", PUBLISHED)
def test_as_published(sampler, published):
    sigmas = KARRAS.grid(12).tolist()
    x_t = CIRCLE.x * vp(-math.log(sigmas[0]))[0]
    for s, s_next in pairwise(sigmas):
        x_t = published(x_t, -math.log(s), -math.log(s_next))
    TO_ROUNDING(run(sampler, CIRCLE.denoise, CIRCLE.x, sigmas), x_t / vp(-math.log(sigmas[-1]))[0])


def test_rk4_from_its_tableau():
    A = np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]])
    x = CIRCLE.x
    sigmas = KARRAS.grid(10).tolist()
    for s, s_next in pairwise(sigmas):
        k = torch.zeros(4, *x.shape, dtype=torch.float64)
        h = s_next - s
        for i in range(4):
            y = x + h * torch.einsum("j,jbd->bd", torch.from_numpy(A[i]), k)
            level = s + h * A[i].sum()
            k[i] = (y - CIRCLE.denoise(y, level)) / level
        x = x + h * (k[0] + 2 * k[1] + 2 * k[2] + k[3]) / 6
    TO_ROUNDING(run(RK4(), CIRCLE.denoise, CIRCLE.x, sigmas), x)


def test_dpm_solver_2_is_midpoint_at_one_half_and_heun_at_one():
    sigmas = VE().grid(15)
    TO_ROUNDING(
        run(DPMSolver2(r=1), GAUSS.denoise, GAUSS.x, sigmas),
        run(Heun(), GAUSS.denoise, GAUSS.x, sigmas),
    )
    x = GAUSS.x
    levels = sigmas[:-1].tolist()
    for s, s_next in pairwise(levels):
        m = math.sqrt(s * s_next)
        y = x + (m - s) * (x - GAUSS.denoise(x, s)) / s
        x = x + (s_next - s) * (y - GAUSS.denoise(y, m)) / m
    TO_ROUNDING(run(DPMSolver2(r=0.5), GAUSS.denoise, GAUSS.x, levels), x)


def test_exact_where_the_slope_is_a_polynomial():
    """eps = p(sigma) alone: RK4 is Simpson's rule, exact for cubics in sigma; DPM-Solver-3
    integrates a + b log sigma exactly."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    cubic = np.polynomial.Polynomial([0.3, -1, 0.5, 2])
    rise = cubic.integ()(0.7) - cubic.integ()(2.0)
    TO_ROUNDING(run(RK4(), lambda y, s: y - s * cubic(s), x, [2.0, 0.7]), x + rise)
    primitive = lambda s: 0.4 * s + 1.5 * (s * math.log(s) - s)
    logarithmic = lambda y, s: y - s * (0.4 + 1.5 * math.log(s))
    TO_ROUNDING(run(DPMSolver3(), logarithmic, x, [2.0, 0.7]), x + primitive(0.7) - primitive(2.0))


@pytest.mark.parametrize(
    "sampler, evaluations", [(DPMSolver2(), 35), (DPMSolver3(), 52), (DPMpp2S(), 35), (RK4(), 69)]
)
def test_evaluations_and_the_euler_step_into_zero(sampler, evaluations):
    counted = Counted(GAUSS.denoise)
    *_, last = steps(sampler, counted, GAUSS.x, VE().grid(18), None)
    assert counted.nfe == evaluations and last.sigma == 0 and torch.equal(last.x, last.denoised)
    TO_ROUNDING(
        run(sampler, GAUSS.denoise, GAUSS.x, [2.0, 0.0]),
        run(Euler(), GAUSS.denoise, GAUSS.x, [2.0, 0.0]),
    )


@pytest.mark.parametrize("r", [0.0, -0.5, 1.1])
@pytest.mark.parametrize("sampler", [DPMSolver2, DPMpp2S])
def test_r_outside_its_range_is_refused(sampler, r):
    with pytest.raises(UsageError, match="write 0 < r <= 1"):
        sampler(r=r)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind, sampler", [("dpmsolver", DPMSolver2()), ("dpmsolver++", DPMpp2S())])
def test_diffusers_singlestep_scheduler(kind, sampler):
    """Its second-order step spans two levels of its grid; on geometric levels that is r = 1/2. Its
    tables are float32."""
    scheduler = pytest.importorskip("diffusers").DPMSolverSinglestepScheduler(
        algorithm_type=kind,
        solver_order=2,
        use_exponential_sigmas=True,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(24)
    sigmas = scheduler.sigmas.double()
    scale = torch.rsqrt(1 + scheduler.sigmas.double() ** 2)
    x_t = CIRCLE.x / 20 * sigmas[0] * scale[0]
    ours = run(sampler, CIRCLE.denoise, x_t / scale[0], sigmas[:23:2])
    scheduler.set_begin_index(0)
    for k in range(22):
        x = x_t / scale[k]
        eps = (x - CIRCLE.denoise(x, float(sigmas[k]))) / sigmas[k]
        x_t = scheduler.step(eps, scheduler.timesteps[k], x_t).prev_sample.double()
    torch.testing.assert_close(ours, x_t / scale[22], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_k_dpm_2_down_to_zero():
    scheduler = pytest.importorskip("diffusers").KDPM2DiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    levels = torch.cat([scheduler.sigmas[::2], scheduler.sigmas[-1:]]).double().unique().flip(0)
    x = start = CIRCLE.x / 20 * levels[0]
    scheduler.set_begin_index(0)
    for k, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[k] if k % 2 == 0 else scheduler.sigmas_interpol[k])
        x = scheduler.step((x - CIRCLE.denoise(x, sigma)) / sigma, t, x).prev_sample.double()
    assert len(levels) == 13 and levels[-1] == 0
    torch.testing.assert_close(
        run(DPMSolver2(), CIRCLE.denoise, start, levels), x, rtol=1e-4, atol=1e-5
    )
