"""The exact theory of sampling a Gaussian against gaussian.md's closed forms in 40 digits, moment
equations and the samplers."""

from math import inf, isnan

import mpmath as mp
import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.sampler import steps
from diffgeo.schedule import OU, VP
from diffgeo.theory import distances, gaussian, interpolation, linear
from diffgeo.theory.gaussian import SCHEMES, STARTS, Spectrum
from diffgeo.theory.gaussian_matrix import continuous_matrix

mp.mp.dps = 40
# Pierret and Galerne's beta, half of VP's default
BMIN = mp.mpf("0.05")
BMAX = mp.mpf(10)
HARD = [1e-9, 1e-6, 1e-3, 0.5, 1.0, 1e3]
MEAN = [1.0, -2.0, 0.25, 0.0, 3.0, 30.0]
CELLS = [
    (0.0, 2),
    (0.0, 11),
    (0.0, 40),
    (1e-5, 3),
    (1e-5, 25),
    (1e-4, 16),
    (1e-3, 7),
    (1e-3, 30),
    (1e-2, 5),
    (1e-2, 20),
]


def beta(t):
    return BMIN + (BMAX - BMIN) * t


def B(t):
    return BMIN * t + (BMAX - BMIN) * t**2 / 2


def variance(lam, t):
    return mp.exp(-2 * B(t)) * lam + 1 - mp.exp(-2 * B(t))


def factor(scheme, lam, s, r):
    """(A, added variance) of a step from the time s to r: section A3 of the spec."""
    h = s - r
    b = beta(s)
    q = 1 / variance(lam, s)
    # alpha^2 at s, at r
    alpha2 = mp.exp(-2 * B(s))
    beta2 = mp.exp(-2 * B(r))
    a0 = h * b * (1 - q)
    if scheme == "EM":
        return 1 + h * b * (1 - 2 * q), 2 * h * b
    if scheme == "EI":
        delta = B(s) - B(r)
        return 1 + mp.expm1(delta) * (1 - 2 * q), mp.expm1(2 * delta)
    if scheme == "Euler":
        return 1 + a0, 0
    if scheme == "Heun":
        a1 = h * beta(r) * (1 - 1 / variance(lam, r))
        return 1 + a0 / 2 + a1 * (1 + a0) / 2, 0
    if scheme == "RK4":
        m = (s + r) / 2
        f0, fm, f1 = (beta(t) * (1 - 1 / variance(lam, t)) for t in (s, m, r))
        k1 = f0
        k2 = fm * (1 + h * f0 / 2)
        k3 = fm * (1 + h * k2 / 2)
        return 1 + h / 6 * (k1 + 2 * k2 + 2 * k3 + f1 * (1 + h * k3)), 0
    if scheme == "DDIM":
        return mp.sqrt(beta2 / alpha2) * (1 - (1 - alpha2) * q) + mp.sqrt(
            (1 - beta2) * (1 - alpha2)
        ) * q, 0
    a = alpha2 / beta2
    c = 1 if scheme == "DDPM-large" else (1 - beta2) / (1 - alpha2)
    return (1 - (1 - a) * q) / mp.sqrt(a), (1 - a) * c


def moved(scheme, lam, m, s, r, x):
    """The mean of x_t after a step, x before: the scheme itself, stated in the time and chart of
    VP, on the affine score."""
    score = lambda y, t: -(y - mp.exp(-B(t)) * m) / variance(lam, t)
    f = lambda y, t: beta(t) * (y + score(y, t))
    h = s - r
    if scheme == "EM":
        return x + h * beta(s) * (x + 2 * score(x, s))
    if scheme == "EI":
        return x + mp.expm1(B(s) - B(r)) * (x + 2 * score(x, s))
    if scheme == "Euler":
        return x + h * f(x, s)
    if scheme == "Heun":
        return x + h / 2 * (f(x, s) + f(x + h * f(x, s), r))
    if scheme == "RK4":
        k1 = f(x, s)
        k2 = f(x + h / 2 * k1, s - h / 2)
        k3 = f(x + h / 2 * k2, s - h / 2)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + h * k3, r))
    alpha = mp.exp(-B(s))
    noise = 1 - mp.exp(-2 * B(s))
    clean = (x + noise * score(x, s)) / alpha
    if scheme == "DDIM":
        return mp.exp(-B(r)) * clean + mp.sqrt((1 - mp.exp(-2 * B(r))) * noise) * -score(x, s)
    a = mp.exp(2 * B(r) - 2 * B(s))  # Ho et al., eq. 7
    return (
        mp.sqrt(a) * (1 - mp.exp(-2 * B(r))) / noise * x + mp.exp(-B(r)) * (1 - a) / noise * clean
    )


def grid(points, eps):
    return [1 - (1 - mp.mpf(eps)) * k / (points - 1) for k in range(points)]


def close(found, true, spectrum):
    """The bar: 1e-10 relative, or 1e-14 of the root of the trace."""
    assert abs(found - true) <= max(1e-10 * true, 1e-14 * mp.sqrt(spectrum.trace)), (
        found,
        mp.nstr(true, 17),
        mp.nstr(found / true - 1, 3),
    )


@pytest.mark.parametrize("eps, points", CELLS)
def test_the_law_of_every_scheme_is_the_closed_recursion(eps, points):
    spectrum = Spectrum(HARD, [3, 1, 2, 5, 1, 2], MEAN)
    laws = gaussian.discrete(
        spectrum,
        VP(),
        {n: make(VP()) for n, make in SCHEMES.items()},
        gaussian.levels(VP(), points, eps),
    )
    truth = gaussian.true(spectrum, VP(), 0.0)
    times = grid(points, eps)
    for scheme in SCHEMES:
        total = dict.fromkeys(STARTS, 0)
        for lam, count, m in zip(
            map(mp.mpf, HARD), spectrum.counts.tolist(), map(mp.mpf, MEAN), strict=True
        ):
            v = {"p_T": variance(lam, 1), "N_0": mp.mpf(1)}
            x = {"p_T": mp.exp(-B(1)) * m, "N_0": mp.mpf(0)}
            for s, r in zip(times, times[1:], strict=False):
                a, added = factor(scheme, lam, s, r)
                v = {start: a**2 * v[start] + added for start in STARTS}
                x = {start: moved(scheme, lam, m, s, r, x[start]) for start in STARTS}
            for start in STARTS:
                total[start] += (
                    count * (mp.sqrt(v[start]) - mp.sqrt(lam)) ** 2 + (x[start] - m) ** 2
                )
        for start in STARTS:
            close(
                distances.w2(laws[scheme, start], truth, spectrum.counts),
                mp.sqrt(total[start]),
                spectrum,
            )


@pytest.mark.parametrize("eps", [0.0, 1e-9, 1e-5, 1e-3, 1e-2])
def test_the_exact_dynamics_are_the_closed_forms(eps):
    """Section A2, from N_0, lambda at eps:

    SDE   lambda + e^(-2(B_T-B_s)) lambda^2/lambda^T (1/lambda^T - 1)
    ODE   lambda/lambda^T
    """
    spectrum = Spectrum(HARD)
    truth = gaussian.true(spectrum, VP(), 0.0)
    decay = mp.exp(-2 * (B(1) - B(mp.mpf(eps))))
    for stochastic in (True, False):
        for start in STARTS:
            total = 0
            for lam in map(mp.mpf, HARD):
                last = variance(lam, mp.mpf(eps))
                first = variance(lam, 1)
                v = (
                    last
                    if start == "p_T"
                    else last + decay * last**2 / first * (1 / first - 1)
                    if stochastic
                    else last / first
                )
                total += (mp.sqrt(v) - mp.sqrt(lam)) ** 2
            law = gaussian.continuous(spectrum, VP(), eps, start, stochastic)
            close(distances.w2(law, truth, spectrum.counts), mp.sqrt(total), spectrum)


def test_the_stochastic_start_is_forgotten():
    """Proposition 5: W2(SDE) <= W2(ODE) from N(0, I), for every spectrum, singular ones included,
    and every eps at p_eps."""
    g = generator(5)
    for eps in (0.0, 1e-4, 1e-2, 0.3):
        spectrum = Spectrum(
            torch.cat([torch.zeros(2), 10 ** (8 * torch.rand(40, generator=g) - 5)]).double()
        )
        truth = gaussian.true(spectrum, VP(), eps)
        sde, ode = (gaussian.continuous(spectrum, VP(), eps, "N_0", s) for s in (True, False))
        assert bool(
            (
                distances.roots(sde.variance, truth.variance).abs()
                <= distances.roots(ode.variance, truth.variance).abs()
            ).all()
        )
        assert distances.w2(sde, truth, spectrum.counts) < 0.2 * distances.w2(
            ode, truth, spectrum.counts
        )


@pytest.mark.parametrize("stochastic", [True, False])
def test_matrix_laws_solve_the_moment_equations(stochastic):
    """A start that does not commute with a singular covariance: RK4 on

    dC/dt = F C + C F^T (+ 2 beta),      F = beta (I - k Sigma_t^-1)
    """
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    values = np.array([3.0, 1.0, 0.2, 0.0])
    other = np.random.default_rng(1).normal(size=(4, 4))
    sigma = (basis * values) @ basis.T
    m = np.array([1.0, -1.0, 2.0, 0.5])
    begun = other @ other.T + np.eye(4)
    # of beta = 1/2: B = t/2
    k = 2 if stochastic else 1
    chart = OU(t_max=3.0)
    inverse = lambda t: np.linalg.inv(np.exp(-t) * sigma + (1 - np.exp(-t)) * np.eye(4))

    def slope(t, c, y):
        f = 0.5 * (np.eye(4) - k * inverse(t))
        return f @ c + c @ f.T + (np.eye(4) if stochastic else 0), f @ y + 0.5 * k * inverse(
            t
        ) @ m * np.exp(-t / 2)

    # the equation has a pole at t = 0
    end = 0.01
    c = begun
    y = np.array([0.3, 0.0, -1.0, 2.0])
    times = np.exp(np.linspace(np.log(3), np.log(end), 3001))
    for t, s in zip(times, times[1:], strict=False):
        h = t - s
        k1 = slope(t, c, y)
        k2 = slope(t - h / 2, c + h / 2 * k1[0], y + h / 2 * k1[1])
        k3 = slope(t - h / 2, c + h / 2 * k2[0], y + h / 2 * k2[1])
        k4 = slope(s, c + h * k3[0], y + h * k3[1])
        c, y = (
            v + h / 6 * (a + 2 * b + 2 * d + e)
            for v, a, b, d, e in zip((c, y), k1, k2, k3, k4, strict=True)
        )
    given = [torch.from_numpy(v) for v in (sigma, begun, m, np.array([0.3, 0.0, -1.0, 2.0]))]
    mean, covariance = continuous_matrix(
        given[0], chart, end, given[1], stochastic, given[2], given[3]
    )
    np.testing.assert_allclose(covariance.numpy(), c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean.numpy(), y, rtol=0, atol=1e-12)
    # at t = 0 itself: on the support, and from p_T the data's own law
    mean, covariance = continuous_matrix(
        given[0], chart, 0.0, given[1], stochastic, given[2], given[3]
    )
    null = torch.from_numpy(basis[:, 3].copy())
    assert (
        float((null @ covariance).abs().max()) < 1e-14
        and abs(float(null @ (mean - given[2]))) < 1e-14
    )
    exact = np.exp(-3) * sigma + (1 - np.exp(-3)) * np.eye(4)
    mean, covariance = continuous_matrix(
        given[0], chart, 0.0, torch.from_numpy(exact), stochastic, given[2], given[2] * np.exp(-1.5)
    )
    torch.testing.assert_close(covariance, given[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(mean, given[2], rtol=0, atol=1e-14)


N = 200_000
FEW = Spectrum([5.0, 1.0, 0.05, 0.0], mean=[1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("scheme", [*SCHEMES])
def test_the_law_is_that_of_the_draws(scheme):
    """2e5 draws by the sampler itself with the exact denoiser, 8 steps: means and variances within
    4 standard errors."""
    chart = VP()
    levels = gaussian.levels(VP(), 9, 2e-3)
    sampler = SCHEMES[scheme](chart)
    g = generator(7, *scheme.encode())
    law = gaussian.discrete(FEW, chart, {scheme: sampler}, levels)[scheme, "N_0"]
    draw = lambda: torch.randn(N, 4, generator=g).double()
    x = (
        sampler.start(draw(), float(levels[0]))
        if scheme != "DDIM" and "DDPM" not in scheme
        else draw() * torch.hypot(torch.tensor(1.0).double(), levels[0])
    )
    denoise = lambda x, sigma: FEW.mean + FEW.values / (FEW.values + sigma**2) * (x - FEW.mean)
    for step in steps(sampler, denoise, x, levels, draw):
        x = step.x
    x = x * chart.scale(levels[-1])
    assert float(((x.mean(0) - law.mean) / (law.variance / N).sqrt()).abs().max()) < 4
    assert float(((x.var(0) / law.variance - 1) / (2 / N) ** 0.5).abs().max()) < 4


@pytest.mark.parametrize("scheme", ["EM", "EI", "Euler", "Heun", "DDPM"])
def test_an_inexact_score_enters_the_recursion(scheme):
    """Relative error 1 + e in q, bias b in the score and noise of deviation d: the closed
    recursions with F q, F b and F^2 d^2."""
    eps = 1e-3
    points = 12
    e = 0.03
    bias = 0.2
    deviation = 0.1
    spectrum = Spectrum([2.0, 0.3], mean=[1.0, 0.0])
    chart = VP()
    times = grid(points, eps)
    law = gaussian.discrete(
        spectrum,
        chart,
        {scheme: SCHEMES[scheme](chart)},
        gaussian.levels(chart, points, eps),
        ("N_0",),
        error=lambda sigma: torch.tensor([e, -e], dtype=torch.float64),
        bias=bias,
        noise=deviation,
    )[scheme, "N_0"]
    for k, (lam, m) in enumerate(((2.0, 1.0), (0.3, 0.0))):
        v = mp.mpf(1)
        x = mp.mpf(0)
        wrong = 1 + (-1) ** k * mp.mpf(e)
        for s, r in zip(times, times[1:], strict=False):
            h = s - r
            q = wrong / variance(lam, s)
            hit = lambda t, y, q, m=m: -(y - mp.exp(-B(t)) * m) * q + bias
            if scheme in ("EM", "EI", "DDPM"):
                delta = B(s) - B(r)
                a = mp.exp(-2 * delta)
                keep, f, added = {
                    "EM": (1 + h * beta(s), 2 * h * beta(s), 2 * h * beta(s)),
                    "EI": (mp.exp(delta), 2 * mp.expm1(delta), mp.expm1(2 * delta)),
                    "DDPM": (
                        1 / mp.sqrt(a),
                        (1 - a) / mp.sqrt(a),
                        (1 - a) * (1 - mp.exp(-2 * B(r))) / (1 - mp.exp(-2 * B(s))),
                    ),
                }[scheme]
                x = keep * x + f * hit(s, x, q)
                v = (keep - f * q) ** 2 * v + added + (f * deviation) ** 2
            elif scheme == "Euler":
                f = h * beta(s)
                x = (1 + f) * x + f * hit(s, x, q)
                v = (1 + f * (1 - q)) ** 2 * v + (f * deviation) ** 2
            else:  # the noise of the first evaluation passes through the second
                f = h * beta(s)
                f1 = h * beta(r)
                q1 = wrong / variance(lam, r)
                y = (1 + f) * x + f * hit(s, x, q)
                a0 = f * (1 - q)
                a1 = f1 * (1 - q1)
                x = x + (f * (x + hit(s, x, q)) + f1 * (y + hit(r, y, q1))) / 2
                v = (
                    (1 + a0 / 2 + a1 * (1 + a0) / 2) ** 2 * v
                    + (f / 2 * (1 + a1) * deviation) ** 2
                    + (f1 / 2 * deviation) ** 2
                )
        assert abs(float(law.variance[k]) / v - 1) < 1e-11 and abs(
            float(law.mean[k]) - x
        ) < 1e-11 * (1 + abs(x))


def test_first_order_law_of_a_score_error():
    """W2 of a run of many steps with the error, to one without, falls on the first-order law when
    eta and the step are small."""
    spectrum = Spectrum([20.0, 1.0, 0.1])
    eta = torch.tensor([1e-4, -2e-4, 3e-4]).double()
    chart = VP()
    for scheme, order in (("EI", 1), ("RK4", 4)):

        def cost(points, scheme=scheme):
            run = lambda e: gaussian.discrete(
                spectrum,
                chart,
                {scheme: SCHEMES[scheme](chart)},
                gaussian.levels(chart, points, 1e-3),
                ("p_T",),
                error=e,
            )[scheme, "p_T"]
            return distances.w2(run(eta), run(0.0), spectrum.counts)

        coarse = cost(201)
        fine = cost(401)
        limit = fine + (fine - coarse) / (2**order - 1)
        assert limit == pytest.approx(
            gaussian.first_order(spectrum, chart, 1e-3, eta, gaussian.stochastic(scheme)), rel=2e-3
        ), scheme
    singular = Spectrum([1.0, 0.0])  # I of lambda = 1 is B(1); the eigenvalue 0 adds nothing
    assert gaussian.first_order(singular, chart, 0.0, 0.1, False) == pytest.approx(
        0.1 * float(B(1)), rel=1e-12
    )
    assert gaussian.first_order(singular, chart, 0.0, 0.1, True) == pytest.approx(
        0.1 * float(1 - mp.exp(-2 * B(1))), rel=1e-12
    )


def test_sde_forgets_where_the_ode_accumulates():
    """The two laws cross where 1 - e^(-2I) = I: I = .7968, for this schedule lambda = 5905 (the
    spec's 5600 is rounded)."""
    laws = lambda lam: [
        gaussian.first_order(Spectrum([lam]), VP(), 0.0, 0.01, s) for s in (True, False)
    ]
    for lam in (1e-3, 221.0, 5890.0):
        assert laws(lam)[0] < laws(lam)[1]
    assert laws(5920.0)[0] > laws(5920.0)[1]


def test_singular_data_at_eps_zero(recwarn):
    """Heun and RK4 take the score at eps: their law is inf in the null directions, finite in the
    others, and nothing warns."""
    spectrum = Spectrum([0.0, 1e-9, 1.0], [7, 1, 1])
    laws = gaussian.discrete(
        spectrum,
        VP(),
        {n: make(VP()) for n, make in SCHEMES.items()},
        gaussian.levels(VP(), 20, 0.0),
    )
    truth = gaussian.true(spectrum, VP(), 0.0)
    for (scheme, start), law in laws.items():
        w2 = distances.w2(law, truth, spectrum.counts)
        assert not isnan(w2) and (w2 == inf) == (scheme in ("Heun", "RK4")), (scheme, start)
        assert bool(law.variance[1:].isfinite().all())
        if scheme in ("Heun", "RK4"):
            assert float(law.variance[0]) == inf
            assert (
                distances.kl(law, truth, spectrum.counts) == inf
                and distances.tv(law, truth, spectrum.counts) == 1
            )
    assert not len(recwarn)


def test_many_eigenvalues_are_interpolated_from_few(monkeypatch):
    """Against every eigenvalue propagated by itself: W2 to 1e-12; and a test node that is off sends
    all of them the long way."""
    values = torch.cat(
        [
            torch.logspace(-9, 3, 5000, dtype=torch.float64),
            torch.zeros(2).double(),
            torch.tensor([1e8]).double(),
        ]
    )
    spectrum = Spectrum(values[torch.randperm(len(values), generator=generator(0))])
    chart = VP()
    samplers = {n: make(chart) for n, make in SCHEMES.items()}
    levels = gaussian.levels(chart, 40, 1e-5)
    pieces = interpolation.LogPieces(spectrum.values)
    assert len(pieces.nodes) < 1200 and 1e8 in pieces.nodes and 0.0 in pieces.nodes
    rational = lambda v: v / (v + 1e-4) * torch.rsqrt(v + 3)
    assert pieces.good(rational(pieces.nodes))
    torch.testing.assert_close(
        pieces(rational(pieces.nodes)), rational(spectrum.values), rtol=1e-13, atol=0
    )
    few = gaussian.discrete(spectrum, chart, samplers, levels)
    truth = gaussian.true(spectrum, chart, 0.0)
    monkeypatch.setattr(interpolation.LogPieces, "good", lambda self, f: False)
    monkeypatch.setattr(linear, "BLOCK", 1500)
    for key, law in gaussian.discrete(spectrum, chart, samplers, levels).items():
        torch.testing.assert_close(
            few[key].variance, law.variance, rtol=1e-9, atol=1e-12 * float(truth.variance.max())
        )
        assert distances.w2(few[key], truth, spectrum.counts) == pytest.approx(
            distances.w2(law, truth, spectrum.counts), rel=1e-12
        ), key
    monkeypatch.undo()
    assert not pieces.good(torch.sin(300 * torch.log(pieces.nodes.clamp(min=1e-9))))


def test_the_grid():
    """t_k = (T - eps) k/(points - 1), the last level pinned; the issue's bad inputs are refused in
    one line."""
    chart = VP()
    levels = gaussian.levels(chart, 50, 1e-3)
    np.testing.assert_allclose(chart.t(levels), 1 - (1 - 1e-3) * np.arange(50) / 49, rtol=1e-13)
    assert (
        levels[-1] == chart.sigma(torch.tensor(1e-3, dtype=torch.float64))
        and float(gaussian.levels(chart, 50, 0.0)[-1]) == 0
    )
    assert torch.equal(levels, gaussian.levels(chart, eps=1e-3, steps=49))
    for options in (
        {"points": 1},
        {"points": 50, "eps": 1.0},
        {"points": 50, "eps": -1e-3},
        {"points": 5, "steps": 4},
        {},
        {"steps": 0},
    ):
        with pytest.raises(UsageError):
            gaussian.levels(chart, **options)
    for values in ([1.0, -1e-9], [float("nan")], [float("inf")], [], [[1.0]]):
        with pytest.raises(UsageError):
            Spectrum(values)
    for options in ({"counts": [-1.0]}, {"counts": [1.0, 2.0]}, {"mean": [float("nan")]}):
        with pytest.raises(UsageError):
            Spectrum([1.0], **options)
    with pytest.raises(UsageError, match="p_T"):
        gaussian.continuous(Spectrum([1.0]), chart, 0.0, "N0", True)
    assert Spectrum([1.0, 2.0], [3, 4]).trace == 11 and Spectrum([1.0, 2.0], [3, 4]).d == 7
