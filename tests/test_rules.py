"""Rules for D^: each against its dense formula, what each is exact for, and what it costs."""

import pytest
import torch
from inverse_cases import FOUR, G4, f64, measured

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import generator
from diffgeo.data import Gaussian, Mixture
from diffgeo.denoiser import Clipped, Counted, counting
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.inverse import rules
from diffgeo.inverse.gradients import solve_covariance
from diffgeo.inverse.jacobian import covariance_product, tangent

M2 = Mixture(
    [[0, 0], [2, 1], [-1, 2]],
    [[[1, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.25, 0.5], [0.5, 1]]],
    [0.5, 0.3, 0.2],
)
TWO = measured([[1, 0.5]], [1.2], 0.4)  # of M2
ROUND = Gaussian([0.5, -1, 0, 2], (0.7**2 * torch.eye(4, dtype=f64)).tolist())
SIGMA = torch.tensor([0.05, 0.6, 1.5, 30.0], dtype=f64)  # one a row


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=f64)


def rows(sigma_n: float = 0.3) -> tuple[torch.Tensor, Measurement]:
    """Four states at the levels SIGMA, each with a measurement of its own."""
    x = G4.mean + SIGMA[:, None] * draw(1, 4, 4)
    return x, Measurement(FOUR.operator, draw(2, 4, 2), sigma_n)


def opaque(law):
    """The exact denoiser as a network is one: differentiable, of unknown covariance."""
    exact = law.denoiser()
    return lambda x, sigma, **cond: exact(x, sigma)


def gains(rule: str, v: float, s2: float) -> torch.Tensor:
    """G [4,2] of a rule on G4, in the letters of the specification."""
    a = FOUR.operator.entries
    one = torch.eye(2, dtype=f64)
    cov = G4.covariance @ torch.linalg.inv(G4.covariance + v * torch.eye(4, dtype=f64)) * v
    t = 0.7
    r2 = v * t**2 / (v + t**2)
    if rule == "mmps":
        return cov @ a.mT @ torch.linalg.inv(a @ cov @ a.mT + s2 * one)
    if rule == "pigdm":
        return cov @ a.mT @ torch.linalg.inv(r2 * a @ a.mT + s2 * one)
    if rule == "jfps":
        return r2 * a.mT @ torch.linalg.inv(r2 * a @ a.mT + s2 * one)
    if rule == "prox":
        return v * a.mT @ torch.linalg.inv(v * a @ a.mT + 0.4 * s2 * one)
    if rule == "likelihood":
        return 0.5 * cov @ a.mT / s2
    return torch.linalg.pinv(a)


RULES = {
    "mmps": rules.MMPS(),
    "pigdm": rules.PiGDM(0.7),
    "jfps": rules.JFPS(0.7),
    "prox": rules.Prox(0.4),
    "likelihood": rules.Likelihood(0.5),
    "ddnm": rules.NullSpace(),
}


@pytest.mark.parametrize(
    ("name", "sigma_n"), [(name, 0.3) for name in RULES] + [("ddnm", 0.0), ("prox", 0.0)]
)
def test_a_rule_is_its_dense_formula(name, sigma_n):
    x, measurement = rows(sigma_n)
    found = RULES[name].around(G4.denoiser(), measurement, G4)(x, SIGMA)
    denoised = G4.denoiser()(x, SIGMA)
    residual = measurement.y - denoised @ FOUR.operator.entries.mT
    for row in range(4):
        gain = gains(name, float(SIGMA[row]) ** 2, sigma_n**2)
        expected = denoised[row] + gain @ residual[row]
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_autograd_is_the_closed_form(name):
    x, measurement = rows()
    closed = RULES[name].around(G4.denoiser(), measurement, G4)(x, SIGMA)
    by_autograd = RULES[name].around(opaque(G4), measurement, G4)(x, SIGMA)
    torch.testing.assert_close(by_autograd, closed, rtol=1e-9, atol=1e-10)


def test_moment_matching_is_exact_on_a_gaussian():
    """The specification's D_y at x = (1,0,-1,1), sigma 1.5."""
    x = torch.tensor([[1, 0, -1, 1]], dtype=f64)
    expected = [[1.3811498421, -0.5383398271, 0.0696053863, 1.9238594791]]
    for rule in (rules.MMPS(), rules.Exact()):
        found = rule.around(G4.denoiser(), FOUR, G4)(x, 1.5)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=f64), rtol=0, atol=5.1e-11)


@pytest.mark.parametrize("rule", [rules.PiGDM(0.7), rules.JFPS(0.7)], ids=["pigdm", "jfps"])
def test_exact_on_a_round_prior(rule):
    """D_y of N(m, t^2 I), and of no other Gaussian."""
    x, measurement = rows()
    exact = rules.Exact().around(ROUND.denoiser(), measurement, ROUND)(x, SIGMA)
    found = rule.around(ROUND.denoiser(), measurement, ROUND)(x, SIGMA)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)
    other = rules.Exact().around(G4.denoiser(), measurement, G4)(x, SIGMA)
    assert float((rule.around(G4.denoiser(), measurement, G4)(x, SIGMA) - other).norm()) > 0.1


def test_the_prox_is_exact_to_second_order_in_v():
    """Half of sigma is a 16th of the error, at lambda = 1; at another lambda a 4th."""
    x = torch.tensor([[0.7, -0.3]], dtype=f64)
    exact = rules.Exact().around(M2.denoiser(), TWO, M2)

    def off(lam: float, sigma: float) -> float:
        found = rules.Prox(lam).around(M2.denoiser(), TWO, M2)(x, sigma)
        return float((found - exact(x, sigma)).norm())

    assert off(1.0, 0.02) / off(1.0, 0.01) == pytest.approx(16, rel=0.02)
    assert off(0.5, 0.02) / off(0.5, 0.01) == pytest.approx(4, rel=0.02)


class Modulus:
    """An operator that is not linear: the squares of two sums."""

    shape = (2,)
    measured = (2,)

    def __call__(self, x0):
        return torch.stack([x0[:, 0] ** 2, x0[:, 0] * x0[:, 1]], 1)


def test_the_likelihood_form_is_a_gradient_of_any_operator():
    """D + zeta v grad_x log N(y; A(D(x)), s^2 I), by autograd through all of it."""
    measurement = Measurement(Modulus(), torch.tensor([0.5, -1.0], dtype=f64), 0.4)
    x = draw(3, 5, 2).requires_grad_()
    denoised = M2.denoiser()(x, 0.8)
    log = -(measurement.y - Modulus()(denoised)).square().sum() / (2 * 0.4**2)
    (slope,) = torch.autograd.grad(log, x)
    expected = denoised + 0.3 * 0.8**2 * slope
    found = rules.Likelihood(0.3).around(M2.denoiser(), measurement, M2)(x.detach(), 0.8)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-10)


def test_conjugate_gradients_solve_each_row_for_itself():
    root = draw(4, 6, 6)
    matrix = root @ root.mT + 0.01 * torch.eye(6, dtype=f64)
    right = draw(5, 8, 6)
    right[3] = 0
    found = solve_covariance(lambda u: (u[:, None] * matrix).sum(2), right)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right.mT).mT, rtol=1e-8, atol=0)
    for row in range(8):
        alone = solve_covariance(lambda u: (u[:, None] * matrix).sum(2), right[row : row + 1])
        assert torch.equal(alone[0], found[row])


def test_jacobian_products_count_as_evaluations():
    """One more a product, in closed form and by autograd; the exact rule counts as D does."""
    x, measurement = rows()
    for denoise in (G4.denoiser(), opaque(G4)):
        for rule, cost in ((rules.PiGDM(), 2), (rules.Prox(), 1), (rules.Exact(), 1)):
            counted = counting(denoise)
            rule.around(counted, measurement, G4)(x, SIGMA)
            assert (counted.nfe, counted.rows) == (cost, 4 * cost)
        counted = counting(denoise)
        rules.MMPS(2).around(counted, measurement, G4)(x, SIGMA)
        assert counted.nfe == 1 + 2 + 1


def test_a_wrapper_hides_a_covariance_and_autograd_finds_it():
    """Of D clipped where it is not clipped."""
    x, v = draw(6, 3, 2), draw(7, 3, 2)
    clipped = Clipped(counting(M2.denoiser()), 1e3)
    found = covariance_product(clipped, x, 0.8, v)
    torch.testing.assert_close(found, M2.denoiser().covariance_product(x, 0.8, v))


def test_what_a_rule_cannot_take():
    x, measurement = rows()
    bent = Measurement(Modulus(), torch.zeros(2, dtype=f64), 0.4)
    for rule in (rules.MMPS(), rules.PiGDM(), rules.JFPS(), rules.Prox(), rules.NullSpace()):
        with pytest.raises(UsageError, match="linear operators"):
            rule.around(M2.denoiser(), bent, M2)
    with pytest.raises(UsageError, match="sigma_n=0"):
        rules.Likelihood().around(G4.denoiser(), rows(0.0)[1], G4)
    for wrong in (
        lambda: rules.Prox(0.0),
        lambda: rules.PiGDM(-1.0),
        lambda: rules.JFPS(0.0),
        lambda: rules.Likelihood(-0.1),
        lambda: rules.MMPS(0),
    ):
        with pytest.raises(UsageError, match="algorithm\\."):
            wrong()
    with pytest.raises(UsageError, match="3 rows of a batch of 4 measurements"):
        rules.Prox().around(G4.denoiser(), measurement, G4)(x[:3], 1.0)
    with pytest.raises(UsageError, match="no derivative"):
        tangent(Counted(lambda x, sigma: torch.zeros_like(x)), x, 1.0)


def test_an_unstable_rule_says_so():
    x, measurement = rows()
    rule = rules.Likelihood(1e200).around(G4.denoiser(), measurement, G4)
    with pytest.raises(DiffgeoError, match="diverged: .* implicit step .* more steps"):
        rule(1e200 * x, SIGMA)
