"""Steps that look at a measurement: each against its formula written down otherwise."""

import math

import pytest
import torch
from inverse_cases import FOUR, G4, LINE, ONE, f64, measured

from diffgeo.analytic.measurement import Measurement
from diffgeo.config import named
from diffgeo.core import generator
from diffgeo.data import Mixture
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.inverse import algorithms, operators, steps
from diffgeo.inverse.condition import Measured
from diffgeo.sampler import DDPM, Euler
from diffgeo.schedule import VE, VP
from diffgeo.simulation import Simulation
from diffgeo.theory import affine
from diffgeo.theory.distances import bures

A = FOUR.operator.entries
SIGMA, NEXT = 1.3, 0.8


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=f64)


class Given:
    """Draws that are known beforehand."""

    def __init__(self, *draws: torch.Tensor):
        self.left = list(draws)

    def __call__(self) -> torch.Tensor:
        return self.left.pop(0)


def take(guide, x, noise, measurement=FOUR, sigma=SIGMA, sigma_next=NEXT) -> torch.Tensor:
    """x' of one step, every draw of which is used."""
    drawn = Given(*noise)
    sampler = guide.told(measurement)
    moved = sampler.step(G4.denoiser(), x, sigma, sigma_next, [], drawn).x
    assert not drawn.left
    return moved


X = G4.mean + SIGMA * draw(1, 3, 4)
W = [draw(seed, 3, 4) for seed in (2, 3, 4)]
D = G4.denoiser()(X, SIGMA)
EACH = Measurement(FOUR.operator, draw(5, 3, 2), 0.3)  # a y a row


def ddpm(x=X, noise=W[0]) -> torch.Tensor:
    r2 = (NEXT / SIGMA) ** 2
    denoised = G4.denoiser()(x, SIGMA)
    return denoised + r2 * (x - denoised) + NEXT * math.sqrt(1 - r2) * noise


def pull(y, z) -> torch.Tensor:
    """A'(y - A z)."""
    return (y - z @ A.mT) @ A


def test_diffpir():
    v = SIGMA**2
    prox = torch.linalg.inv(A.mT @ A + 0.25 * 0.09 / v * torch.eye(4, dtype=f64))
    clean = (EACH.y @ A + 0.25 * 0.09 / v * D) @ prox  # of the normal equations
    kept = math.sqrt(0.7) * (X - clean) / SIGMA
    expected = clean + NEXT * (kept + math.sqrt(0.3) * W[0])
    found = take(steps.DiffPIR(0.3, 0.25), X, W[:1], EACH)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    last = take(steps.DiffPIR(0.3, 0.25), X, [], EACH, sigma_next=0.0)
    torch.testing.assert_close(last, D)  # no prox in the step to 0


def test_dps_is_the_published_step_in_its_own_chart():
    """DDPM in x_t = x/sqrt(1+v) and autograd of |y - A x0(x_t)| there, of each sample."""
    scale, scale_next = (1 + SIGMA**2) ** -0.5, (1 + NEXT**2) ** -0.5
    x_t = (scale * X).requires_grad_()
    clean = G4.denoiser()(x_t / scale, SIGMA)
    norm = (EACH.y - clean @ A.mT).norm(dim=1)
    (slope,) = torch.autograd.grad(norm.sum(), x_t)
    expected = (scale_next * ddpm() - 0.4 * slope) / scale_next
    found = take(steps.DPS(0.4), X, W[:1], EACH)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-10)


def test_mcg_is_dps_and_then_the_data():
    moved = take(steps.DPS(0.4), X, W[:1], EACH)
    noised = EACH.y + NEXT * W[1][:, :2]
    expected = moved + (noised - moved @ A.mT) @ torch.linalg.pinv(A).mT
    found = take(steps.DPS(0.4, projected=True), X, W[:2], EACH)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_dps_of_a_residual_of_nothing_stands():
    """The norm has no gradient at 0; the step is DDPM's."""
    exact = Measurement(FOUR.operator, D @ A.mT, 0.3)
    torch.testing.assert_close(take(steps.DPS(1.0), X, W[:1], exact), ddpm())


def test_dps_yt():
    """Explicit; implicit by the normal equations; and equal where b is small."""
    z = ddpm()
    noised = EACH.y + NEXT * W[1][:, :2]
    b = 0.35 * (1 - (1 + NEXT**2) / (1 + SIGMA**2)) / (2 * 0.09)
    found = take(steps.MeasuredPath(2.0, implicit=False, damping=0.35), X, W[:2], EACH)
    torch.testing.assert_close(found, z + b * pull(noised, z), rtol=1e-10, atol=1e-10)
    inverse = torch.linalg.inv(A.mT @ A + torch.eye(4, dtype=f64) / b)
    found = take(steps.MeasuredPath(2.0, damping=0.35), X, W[:2], EACH)
    torch.testing.assert_close(found, (noised @ A + z / b) @ inverse, rtol=1e-10, atol=1e-10)


def test_dps_yt_explicit_diverges_and_says_so():
    """The published s = .05: b |A|^2 = 8 and more for steps of beta = .02."""
    precise = Measurement(FOUR.operator, FOUR.y, 0.005)
    simulation = Simulation(
        DDPM(),
        G4.denoiser(),
        VE().grid(300),
        (4,),
        condition=Measured(precise, algorithms.dps_yt(implicit=False), G4),
    )
    with pytest.raises(DiffgeoError, match="diverged: .* implicit step .* more steps"):
        simulation.draw(range(2))


def test_replacement():
    z = ddpm()
    back = torch.linalg.pinv(A)
    noised = EACH.y + NEXT * W[1][:, :2]
    expected = z + (noised - z @ A.mT) @ back.mT
    found = take(steps.Replacement(), X, W[:2], EACH)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    last = take(steps.Replacement(), X, [], EACH, sigma_next=0.0)
    torch.testing.assert_close(last @ A.mT, EACH.y, rtol=1e-10, atol=1e-10)


def test_repaint_goes_back_and_down_again():
    kept = measured([[1, 0, 0, 0], [0, 0, 1, 0]], [1.0, -2.0], 0.0)
    once = take(steps.Replacement(), X, W[:2], kept)
    up = once + math.sqrt(SIGMA**2 - NEXT**2) * W[2]
    again = take(steps.Replacement(), up, [W[1], W[0]], kept)
    found = take(steps.Replacement(2), X, [*W, W[1], W[0]], kept)
    torch.testing.assert_close(found, again, rtol=1e-12, atol=1e-12)


# four coordinates, three of them measured with singular values on both sides of s/sigma'
AXES = measured([[0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0.2, 0]], [0.4, -1.0, 0.3], 0.3)


def ddrm_by_component(eta: float, eta_b: float, s: float) -> torch.Tensor:
    """The three cases of the specification, one coordinate after the other."""
    found = torch.empty_like(X)
    for coordinate, gain, y in ((0, 2.0, -1.0), (1, 1.0, 0.4), (2, 0.2, 0.3), (3, 0.0, 0.0)):
        d, eps = D[:, coordinate], W[0][:, coordinate]
        kept = math.sqrt(1 - eta**2)
        if gain == 0:
            e = (X[:, coordinate] - d) / SIGMA
            found[:, coordinate] = d + kept * NEXT * e + eta * NEXT * eps
        elif NEXT * gain >= s:
            spread = math.sqrt(NEXT**2 - (eta_b * s / gain) ** 2)
            found[:, coordinate] = (1 - eta_b) * d + eta_b * y / gain + spread * eps
        else:
            moved = d + kept * NEXT * gain / s * (y / gain - d)
            found[:, coordinate] = moved + eta * NEXT * eps
    return found


@pytest.mark.parametrize("s", [0.3, 0.0])
def test_ddrm_by_component(s):
    axes = Measurement(AXES.operator, AXES.y, s)
    found = take(steps.DDRM(0.7, 0.9), X, W[:1], axes)
    torch.testing.assert_close(found, ddrm_by_component(0.7, 0.9, s), rtol=1e-10, atol=1e-10)
    last = take(steps.DDRM(0.7, 1.0), X, [], axes, sigma_next=0.0)
    expected = D.clone()
    if s == 0:
        expected[:, :3] = torch.tensor([-0.5, 0.4, 1.5], dtype=f64)
    torch.testing.assert_close(last, expected, rtol=1e-10, atol=1e-10)


def test_ddrm_starts_from_what_is_heard():
    """y_ + sqrt(v - s^2/S^2) eps where sigma S >= s, sigma eps elsewhere."""
    sampler = steps.DDRM().told(AXES)
    x = sampler.start(W[0], 1.0)
    expected = W[0].clone()
    for coordinate, gain, y in ((0, 2.0, -1.0), (1, 1.0, 0.4)):
        left = math.sqrt(1 - (0.3 / gain) ** 2)
        expected[:, coordinate] = y / gain + left * W[0][:, coordinate]
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(steps.DDRM(informed=False).told(AXES).start(W[0], 2.0), 2 * W[0])


def test_ddnm_plus_is_ddrm_where_there_is_noise():
    found = take(steps.DDNMPlus(0.7), X, W[:1], AXES)
    torch.testing.assert_close(found, ddrm_by_component(0.7, 1.0, 0.3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("corrected", [False, True], ids=["published", "corrected"])
def test_ddnm_without_noise(corrected):
    exact = Measurement(FOUR.operator, EACH.y, 0.0)
    clean = D + (EACH.y - D @ A.mT) @ torch.linalg.pinv(A).mT
    old = (X - (clean if corrected else D)) / SIGMA
    expected = clean + NEXT * (math.sqrt(1 - 0.7**2) * old + 0.7 * W[0])
    found = take(steps.DDNMPlus(0.7, corrected), X, W[:1], exact)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_daps_draws_from_what_x_and_y_say():
    """Mean V (x^/v + A'y/s^2) and covariance V of x0, read off the step to 0."""
    sampler = steps.DAPS().told(FOUR)
    step = affine.probe(sampler, G4.denoiser(), (4,), SIGMA, 0.0)
    v = torch.linalg.inv(torch.eye(4, dtype=f64) / SIGMA**2 + A.mT @ A / 0.09)
    torch.testing.assert_close(step.noise @ step.noise.mT, v, rtol=1e-10, atol=1e-10)
    estimate = G4.denoiser()(X[:1], SIGMA)[0]
    mean = v @ (estimate / SIGMA**2 + A.mT @ FOUR.y / 0.09)
    found = step.matrix @ X[0] + step.shift
    torch.testing.assert_close(found, mean, rtol=1e-10, atol=1e-10)


def test_daps_by_langevin():
    """N(0, 1), x0 given x^ and y of precision P = 1/v + 1/s^2: the unadjusted chain has the mean of
    the exact draw and variance 1/(P (1 - hP/2)), here 1/(P (1 - size/2))."""
    precision = 1 / SIGMA**2 + 1 / 0.25
    exact = affine.probe(steps.DAPS().told(ONE), LINE.denoiser(), (1,), SIGMA, 0.0)
    chain = steps.DAPS(langevin=120, size=0.3).told(ONE)
    found = affine.probe(chain, LINE.denoiser(), (1,), SIGMA, 0.0)
    torch.testing.assert_close(found.matrix, exact.matrix, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.shift, exact.shift, rtol=1e-9, atol=1e-12)
    variance = float(found.noise.square().sum())
    assert variance == pytest.approx(1 / (precision * 0.85), rel=1e-9)


# every algorithm with its own step, and some rules, on a law that is no Gaussian
M2 = Mixture(
    [[0, 0], [2, 1], [-1, 2]],
    [[[1, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.25, 0.5], [0.5, 1]]],
)
PART = measured([[1, 0]], [1.2], 0.4)
ALL = (
    "exact",
    "mmps",
    "pigdm",
    "jfps",
    "prox",
    "ddnm",
    "diffpir",
    "dps",
    "mcg",
    "dps_yt",
    "projection",
    "repaint",
    "ddrm",
    "ddnm_plus",
    "daps",
)


@pytest.mark.parametrize("name", ALL)
def test_a_sample_does_not_depend_on_its_batch(name):
    """Bytes: sample 5 alone and among 8, each image with a y of its own, two draws of each."""
    several = Measurement(PART.operator, draw(6, 4, 1), 0.4)
    condition = Measured(several, named.algorithm(name), M2, draws=2)
    simulation = Simulation(Euler(), M2.denoiser(), VE().grid(3), (2,), seed=3, condition=condition)
    together = simulation.draw(range(8)).samples
    alone = simulation.draw(range(5, 6)).samples
    assert torch.equal(together[5:6], alone)
    assert torch.equal(simulation.draw(range(8)).samples, together)


def test_what_a_step_cannot_take():
    tall = measured([[1, 0], [0, 1], [1, 1]], [1.0, 2.0, 3.0], 0.1)
    for guide in (steps.Replacement(), steps.DPS(0.3, projected=True)):
        with pytest.raises(UsageError, match="more rows than columns, 3 > 2"):
            guide.told(tall)
    with pytest.raises(UsageError, match="repaint is for inpainting"):
        steps.Replacement(2).told(Measurement(FOUR.operator, FOUR.y, 0.0))
    box = operators.inpaint_box(shape=(1, 4, 4), size=2)
    steps.Replacement(2).told(Measurement(box, torch.zeros(box.measured, dtype=f64), 0.0))
    with pytest.raises(UsageError, match="sigma_n=0"):
        steps.MeasuredPath().told(Measurement(FOUR.operator, FOUR.y, 0.0))
    with pytest.raises(UsageError, match="sigma_n=0"):
        steps.DAPS(langevin=5).told(Measurement(FOUR.operator, FOUR.y, 0.0))
    wrong = (
        lambda: steps.DiffPIR(1.1),
        lambda: steps.DiffPIR(0.3, 0.0),
        lambda: steps.Renoise(-0.1),
        lambda: steps.DPS(-1.0),
        lambda: steps.MeasuredPath(0.0),
        lambda: steps.MeasuredPath(1.0, damping=0.0),
        lambda: steps.Replacement(0),
        lambda: steps.DDRM(eta=1.2),
        lambda: steps.DDNMPlus(eta=-0.1),
        lambda: steps.DAPS(flow=-1),
        lambda: steps.DAPS(size=1.5),
        lambda: steps.DAPS(curvature=0.0),
    )
    for make in wrong:
        with pytest.raises(UsageError, match="algorithm\\.[a-z_]+="):
            make()


@pytest.mark.slow
@pytest.mark.parametrize(("zeta", "far", "left"), [(0.3, 0.327, 1.87), (1.0, 1.07, 6.2)])
def test_what_dps_leaves_is_set_by_zeta(zeta, far, left):
    """G4, 1000 steps of DDPM in VP, 4000 samples: W2 to +-.03, and the residual in units of s,
    which zeta sets and s does not."""
    simulation = Simulation(
        DDPM(),
        G4.denoiser(),
        VP().grid(1000),
        (4,),
        condition=Measured(FOUR, algorithms.dps(zeta), G4),
    )
    samples = simulation.draw(range(4000)).samples
    posterior = G4.given(FOUR.operator, FOUR.y, FOUR.sigma_n)
    found = bures(samples.mean(0), torch.cov(samples.mT), posterior.mean, posterior.covariance)
    assert found == pytest.approx(far, abs=0.03)
    residual = (samples @ A.mT - FOUR.y).square().mean().sqrt() / 0.3
    assert float(residual) == pytest.approx(left, rel=0.02)


def test_published_presets_are_converted():
    """Their noise level is in [0,1] with sigma in [-1,1]: lambda 1 is 1/4 here."""
    for name, plain in (
        ("diffpir_published", algorithms.diffpir(0.1, 0.25)),
        ("dps_published", algorithms.dps(0.5)),
        ("dps_yt_published", algorithms.dps_yt(0.25, False, 0.35)),
        ("daps_published", algorithms.daps(5, True, 100)),
    ):
        assert named.algorithm(name) == plain
    # rho at the published s = .05 of [0,1], sigma 1: lambda .05^2, with the noise that it adds here
    assert 0.25 * (2 * 0.05) ** 2 == pytest.approx(0.05**2)
