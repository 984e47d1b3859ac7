"""The formulas of spec section 2 that paths obey, and models beside references."""

import math
from dataclasses import replace

import pytest
import torch

from diffgeo.data import Mixture, Points
from diffgeo.geometry.measure import measure
from diffgeo.geometry.projection import derivatives, frenet, laid_on, project
from diffgeo.geometry.record import record
from diffgeo.geometry.series import arrival
from diffgeo.sampler import Euler, EulerAncestral, Heun, UniPC
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.simulation.flow import flow

G20 = VE(to_zero=False).grid(20)  # 80 to .002 with rho 7, no step to 0


MIX3 = Mixture(
    [[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]],
    [[[0.09, 0.0], [0.0, 0.09]]] * 3,
    [0.5, 0.3, 0.2],
)
TWO = Points([[1.0, 0.0], [-1.0, 0.0]])
START = (48.0, 64.0)


def unit(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(variance=1.0):
    return lambda x, sigma: x * (variance / (variance + sigma**2))


# formulas of spec section 2


def test_the_denoising_path_bends_the_sampling_path():
    """F1: d2x/dsigma2 = -(1/sigma) dD/dsigma along the path, by central differences on mix3."""
    denoise = MIX3.denoiser()
    x = torch.tensor([START], dtype=torch.float64)
    high = 80.0
    for sigma in (10.0, 3.0, 1.0, 0.4):
        x = flow(denoise, x, high, sigma, 40)
        high = sigma
        h = 1e-3 * sigma
        above = flow(denoise, x, sigma, sigma + h, 1)
        below = flow(denoise, x, sigma, sigma - h, 1)
        second = (above - 2 * x + below) / h**2
        turn = (denoise(above, sigma + h) - denoise(below, sigma - h)) / (2 * h)
        torch.testing.assert_close(second, -turn / sigma, rtol=2e-5, atol=2e-6)
        assert float(turn.norm()) > 1e-2  # of something


def test_a_step_is_mean_shift_and_never_lowers_the_likelihood():
    """F2: D - x is the mean-shift vector of bandwidth sigma, and a step g of it, 0 < g < 2, raises
    log p_h by at least g (2 - g)/(2 h^2) |D - x|^2."""
    generator = torch.Generator().manual_seed(5)
    atoms = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    denoise = Points(atoms.tolist()).denoiser()
    for h in (0.3, 1.0, 3.0):
        x = 2 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
        g = 2 * torch.rand(200, 1, generator=generator, dtype=torch.float64)

        def log_density(at, h=h):
            return torch.logsumexp(-torch.cdist(at, atoms).square() / (2 * h * h), 1)

        kernel = torch.exp(-torch.cdist(x, atoms).square() / (2 * h * h))
        shift = (kernel @ atoms) / kernel.sum(1, keepdim=True) - x
        torch.testing.assert_close(denoise(x, h) - x, shift, rtol=1e-9, atol=1e-12)
        gain = log_density(x + g * shift) - log_density(x)
        owed = (g * (2 - g))[:, 0] / (2 * h * h) * shift.square().sum(1)
        assert float((gain - owed).min()) > -2e-12
        # of a learned r, a jump: |r - D*| <= |D* - x| suffices, and the bound says by how much
        r = denoise(x, h) + 0.5 * shift.flip(1)
        lost = (r - denoise(x, h)).square().sum(1)
        owed = (shift.square().sum(1) - lost) / (2 * h * h)
        assert float((log_density(r) - log_density(x) - owed).min()) > -2e-12


def test_curvature_and_torsion_of_the_closed_gaussian_flow():
    """F5: N(0, diag(4, 1, .25)) from (38.4, 48, 51.2) at 80, as printed; and by cubic fits."""
    variance = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    start = torch.tensor([38.4, 48.0, 51.2], dtype=torch.float64) / (variance + 80**2).sqrt()
    printed = {
        2.0: (0.083981416, -0.229030620),
        1.0: (0.260120536, -0.735028813),
        0.5: (0.555254755, -0.839920491),
    }
    for sigma, expected in printed.items():
        root = (variance + sigma**2).sqrt()
        first = start * sigma / root
        second = start * variance / root**3
        third = -3 * start * variance * sigma / root**5
        curvature, torsion = frenet(first, second, third)
        assert (float(curvature), float(torsion)) == pytest.approx(expected, abs=6e-10)

    levels = torch.linspace(3.0, 0.2, 281, dtype=torch.float64)
    path = (start * (variance + levels[:, None] ** 2).sqrt())[:, None]
    fitted = frenet(*derivatives(path, levels, 5))
    for sigma, expected in printed.items():
        k = int((levels - sigma).abs().argmin())
        found = (float(fitted[0][k, 0]), float(fitted[1][k, 0]))
        assert found == pytest.approx(expected, rel=1e-3)


def test_a_cubic_is_fitted_exactly_and_a_helix_bends_and_twists_evenly():
    """Curvature a/(a^2 + b^2) and torsion b/(a^2 + b^2) of (a cos t, a sin t, b t), to one side at
    the ends too; uneven levels."""
    t = torch.linspace(0, 2, 161, dtype=torch.float64) ** 1.3
    a, b = 2.0, 0.7
    helix = torch.stack([a * t.cos(), a * t.sin(), b * t], 1)[:, None]
    curvature, torsion = frenet(*derivatives(helix, t, 9))
    bend_ = torch.full_like(curvature, a / (a**2 + b**2))
    twist = torch.full_like(torsion, b / (a**2 + b**2))
    torch.testing.assert_close(curvature[4:-4], bend_[4:-4], rtol=1e-3, atol=0)
    torch.testing.assert_close(torsion[4:-4], twist[4:-4], rtol=5e-3, atol=0)
    torch.testing.assert_close(curvature, bend_, rtol=5e-3, atol=0)  # to one side
    cubic = torch.stack([1 + t, 2 * t**2, t**3 - t], 1)[:, None]
    first, second, third = derivatives(cubic, t, 5)
    torch.testing.assert_close(first[:, 0, 2], 3 * t**2 - 1, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(second[:, 0, 1], torch.full_like(t, 4.0), rtol=1e-4, atol=1e-4)
    assert third[:, 0, 2].tolist() == pytest.approx([6.0] * len(t), rel=1e-2)


def test_a_projection_keeps_what_lies_in_three_dimensions():
    """A helix turned into R^9: distances of its points, and so curvature, are kept; laid on itself,
    reflected or turned, it is itself."""
    t = torch.linspace(0, 2, 60, dtype=torch.float64)
    helix = torch.stack([t.cos(), t.sin(), 0.5 * t], 1)
    frame = torch.linalg.qr(unit(9, 9, seed=4)).Q[:, :3]
    wide = (helix @ frame.mT + unit(9, seed=6))[:, None]
    flat = project(wide)[:, 0]
    torch.testing.assert_close(
        torch.cdist(flat, flat), torch.cdist(helix, helix), atol=1e-7, rtol=0
    )
    assert flat[-1].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert float(flat[0, 1:].norm()) == pytest.approx(0, abs=1e-12)  # both ends lie on the chord
    turn = torch.linalg.qr(unit(3, 3, seed=8)).Q  # of determinant +-1
    for other in (flat @ turn, flat * torch.tensor([1.0, -1.0, 1.0])):
        laid = laid_on(other[:, None], flat)[:, 0]
        torch.testing.assert_close(laid, flat, atol=1e-12, rtol=0)


def test_the_noise_lies_on_a_thin_shell():
    """F7: E|z| = sqrt 2 Gamma((d+1)/2)/Gamma(d/2); of one point at 0 eps is the noise itself."""
    mean, variance = 7.968812222, 0.498032  # d = 64
    sigmas = torch.tensor([80.0, 1.0, 0.1], dtype=torch.float64)
    simulation = Simulation(Euler(), lambda x, sigma: torch.zeros_like(x), sigmas, (64,))
    norm = measure(simulation, range(400)).spread("eps/norm")
    assert float(norm.mean[0]) == pytest.approx(mean, abs=4 * math.sqrt(variance / 400))
    assert float(norm.sd[0] ** 2) == pytest.approx(variance, rel=4 * math.sqrt(2 / 400))


# models beside references


def test_four_series_of_two_isotropic_gaussians():
    """D = v x/(v + s^2) of two variances from one noise: every factor is known, and so is every
    distance."""
    model, other = gaussian(1.0), gaussian(4.0)
    simulation = Simulation(Euler(), model, G20, (3,))
    recorded = record(simulation, range(5), {"other": other})
    start = simulation.start(range(5)).x
    size = start.norm(dim=1)
    a = torch.ones(21, dtype=torch.float64)
    b = torch.ones(21, dtype=torch.float64)
    for k, (high, low) in enumerate(zip(G20[:-1], G20[1:], strict=True)):
        a[k + 1] = a[k] * (1 + high * low) / (1 + high**2)
        b[k + 1] = b[k] * (4 + high * low) / (4 + high**2)
    gain = 1 / (1 + G20[:-1] ** 2)
    theirs = 4 / (4 + G20[:-1] ** 2)
    beside = recorded.beside["other"]
    for found, expected in (
        (beside.states, (a - b).abs()),
        (beside.estimates, (gain * a[:-1] - theirs * b[:-1]).abs()),
        (beside.at_x, (gain - theirs).abs() * a[:-1]),
        (beside.at_star, (gain - theirs).abs() * b[:-1]),
    ):
        torch.testing.assert_close(found, expected[:, None] * size, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampler", [Euler(), Heun(), UniPC(), EulerAncestral()], ids=str)
def test_recording_beside_references_changes_no_path(sampler):
    """The stacked run gives the model's own paths and each reference's own, bit for bit, whatever
    the sampler is; the posterior's numbers are those of the states on the way."""
    law = Points([[-2.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    denoise = law.denoiser()
    other = MIX3.denoiser()
    simulation = Simulation(sampler, denoise, VE(to_zero=False).grid(8), (2,), seed=2)
    recorded = record(simulation, range(6), {"mix": other, "normal": gaussian()})
    alone = simulation.trajectory(range(6))
    torch.testing.assert_close(recorded.trajectory.x, alone.x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(recorded.trajectory.denoised, alone.denoised, rtol=1e-9, atol=1e-12)
    theirs = replace(simulation, denoise=other).trajectory(range(6))
    apart = (alone.x - theirs.x).norm(dim=2)
    torch.testing.assert_close(recorded.beside["mix"].states, apart, rtol=1e-9, atol=1e-12)
    sigmas = simulation.sigmas.tolist()
    for k in range(8):
        posterior = denoise.posterior(alone.x[k], sigmas[k])
        torch.testing.assert_close(recorded.weights.entropy[k], posterior.entropy)
        assert torch.equal(recorded.weights.nearest[k], posterior.nearest)


def test_one_evaluation_a_step_whatever_is_asked():
    """Posterior and references come with the evaluations that the sampler makes."""
    counted = Counting(TWO.denoiser())
    simulation = Simulation(Euler(), counted, G20, (2,))
    record(simulation, range(4), {"normal": gaussian()})
    assert counted.rows == [8] * 20  # x and x* in one call
    reference = Counting(TWO.denoiser())
    record(Simulation(Euler(), gaussian(), G20, (2,)), range(4), {"two": reference})
    assert reference.rows == [8] * 20


class Counting:
    def __init__(self, denoise):
        self.denoise = denoise
        self.rows = []

    def __call__(self, x, sigma, **cond):
        self.rows.append(len(x))
        return self.denoise(x, sigma, **cond)


def test_arrival_is_the_level_from_which_on_a_distance_stays_within_a_tenth():
    """Columns: near, far again, then near for good; near from the third level, 11 % and 10 %; near
    from the first; never near."""
    distance = torch.tensor(
        [[0.5, 2.0, 0.1, 0.5], [0.09, 0.44, 0.1, 0.4], [0.2, 0.4, 0.0, 0.3], [0.05, 0.1, 0.0, 0.2]]
    )
    size = torch.tensor([1.0, 4.0, 1.0, 1.0])
    assert arrival(distance, size).tolist() == [3, 2, 0, 4]
