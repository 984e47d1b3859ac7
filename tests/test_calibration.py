"""Calibration: the numbers of samplers whose calibration is known."""

import math

import pytest
import torch
from scipy.special import gammaincc, ndtr

from diffgeo.core import generator
from diffgeo.data.gaussian import Gaussian, Mixture
from diffgeo.data.images import Images
from diffgeo.data.images_blurred import BlurredImages
from diffgeo.errors import UsageError
from diffgeo.inverse import algorithms, operators
from diffgeo.inverse.restoration import Restoration
from diffgeo.metrics.calibration import (
    bins_of,
    coverage,
    covered,
    crps,
    energy_score,
    histogram,
    ranks,
    scores,
)
from diffgeo.sampler import DDPM
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

f64 = torch.float64


def problems(p: int, count: int, d: int, ratio: float = 1.0, seed: int = 0):
    """Truths of N(m, I_d) and draws of N(m, ratio I_d), m of each problem."""
    m = torch.randn(p, d, generator=generator(seed, 1), dtype=f64)
    truth = m + torch.randn(p, d, generator=generator(seed, 2), dtype=f64)
    z = torch.randn(p, count, d, generator=generator(seed, 3), dtype=f64)
    return m[:, None] + math.sqrt(ratio) * z, truth


@pytest.mark.parametrize("count", [4, 7, 19, 100])
@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_a_uniform_rank_is_covered_with_exactly_the_nominal_probability(count, mass):
    rank = torch.arange(count + 1, dtype=f64)
    assert covered(rank, count, mass).mean().item() == pytest.approx(mass, abs=1e-14)


def test_nineteen_draws_cover_ninety_percent_between_their_ends():
    """Of 20 places the two outermost are out, whole."""
    rank = torch.arange(20, dtype=f64)
    assert covered(rank, 19, 0.9).tolist() == pytest.approx([0] + 18 * [1] + [0], abs=1e-15)


def test_a_calibrated_sampler_passes():
    draws, truth = problems(4000, 19, 2)
    for mass in (0.5, 0.9):
        found = coverage(draws, truth, mass)
        assert abs(found.value - mass) < 4 * found.error and found.error < 0.008
    assert 1e-3 < histogram(draws, truth).p <= 1


def test_half_the_variance_covers_three_quarters_of_ninety_percent():
    """N(m, 1/2) for N(m, 1): 2 Phi(1.645 sqrt(1/2)) - 1 = 75.5 %, as many draws make it; and the
    ranks are heaped at both ends."""
    expected = 2 * ndtr(1.6448536 * math.sqrt(0.5)) - 1
    assert expected == pytest.approx(0.755, abs=5e-4)
    draws, truth = problems(1500, 399, 2, ratio=0.5)
    found = coverage(draws, truth, 0.9)
    assert abs(found.value - expected) < 4 * found.error + 1e-3
    ranked = histogram(draws, truth)
    assert ranked.p < 1e-20
    assert ranked.counts[0] > 2 * ranked.expected and ranked.counts[-1] > 2 * ranked.expected


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_the_crps_of_a_gaussian_is_its_closed_form(ratio):
    """X ~ N(m, q), x0 ~ N(m, 1): E|X - x0| - E|X - X'|/2 = sqrt(2 (1 + q)/pi) - sqrt(q/pi); at
    q = 1 it is s/sqrt(pi). Whatever the number of draws is."""
    expected = math.sqrt(2 * (1 + ratio) / math.pi) - math.sqrt(ratio / math.pi)
    if ratio == 1:
        assert expected == pytest.approx(1 / math.sqrt(math.pi), abs=1e-12)
    for count in (2, 20):
        found = crps(*problems(6000, count, 3, ratio))
        assert abs(found.value - expected) < 4 * found.error and found.error < 0.01


def test_scores_are_those_of_the_definition():
    """Against the double sums, term by term."""
    draws, truth = problems(3, 5, 2)
    one = two = 0.0
    for cloud, own in zip(draws, truth, strict=True):
        apart = [(a - b) for i, a in enumerate(cloud) for j, b in enumerate(cloud) if i != j]
        away = [(a - own) for a in cloud]
        one += sum(v.abs().mean().item() for v in away) / 5
        one -= sum(v.abs().mean().item() for v in apart) / 40
        two += sum(v.norm().item() for v in away) / 5 - sum(v.norm().item() for v in apart) / 40
    assert crps(draws, truth).value == pytest.approx(one / 3, abs=1e-13)
    assert energy_score(draws, truth).value == pytest.approx(two / 3, abs=1e-13)


def test_the_posterior_has_the_smallest_scores():
    right, wide, narrow = (problems(3000, 20, 3, ratio) for ratio in (1.0, 4.0, 0.25))
    for score in (crps, energy_score):
        best = score(*right)
        for other in (wide, narrow):
            worse = score(*other)
            assert worse.value > best.value + 4 * (best.error + worse.error)


def test_ranks_among_equal_draws_are_a_matter_of_chance():
    """A law of one point: the rank is uniform on 0 .. L, and no histogram calls it wrong."""
    draws = torch.zeros(4000, 3, dtype=f64)
    rank = ranks(draws, torch.zeros(4000, dtype=f64))
    counts = torch.bincount(rank.long(), minlength=4)
    assert (counts - 1000).abs().max() < 4 * math.sqrt(1000 * 0.75)
    assert ranks(draws[:1], torch.tensor([1.0], dtype=f64)).item() == 3


def test_bins_divide_the_ranks_and_expect_enough():
    assert bins_of(19, 1000) == 20
    assert bins_of(99, 60) == 10  # 12 would hold five each, and 100 has no such part
    assert bins_of(6, 1000) == 7
    assert bins_of(19, 8) == 1
    found = histogram(*problems(100, 6, 1))
    assert found.counts.sum() == 100 and found.expected == pytest.approx(100 / 7)


def test_chi_squared_is_its_definition_and_p_an_incomplete_gamma_function():
    found = histogram(*problems(200, 9, 2, ratio=0.6))
    expected = sum((count - 20) ** 2 / 20 for count in found.counts.tolist())
    assert found.chi2 == pytest.approx(expected, abs=1e-12)
    # of 9 degrees of freedom
    assert found.p == pytest.approx(gammaincc(4.5, expected / 2), rel=1e-9)


def test_what_cannot_be_calibrated_is_refused():
    draws, truth = problems(5, 1, 2)
    with pytest.raises(UsageError, match="draws=1: calibration takes several draws"):
        scores(draws, truth)
    draws, truth = problems(1, 5, 2)
    with pytest.raises(UsageError, match="1 problems and 1 truths"):
        scores(draws, truth)
    few = scores(*problems(4, 5, 2))
    assert few["rank_p"] is None and few["rank_bins"] == 1


# restorations


def restored(law, operator, algorithm, sigma_n, problems, draws, steps):
    """(draws [P,L,*D], truths [P,*D]) of problems whose truths are drawn from the law."""
    truths = law.sample(problems, generator(0, *b"truth")).double()
    y = operator(truths)
    y = y + sigma_n * torch.randn(y.shape, generator=generator(0, *b"noise"), dtype=f64)
    simulation = Simulation(DDPM(), law.denoiser(), VE().grid(steps), law.shape, seed=5)
    restoration = Restoration(
        simulation, algorithm, operator, sigma_n, y.__getitem__, problems, law, draws, batch=2000
    )
    return torch.cat([part.draws for part in restoration.parts(range(problems))]), truths


def gaussian():
    law = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    return law, operators.matrix(shape=(2,), entries=[[1.0, 0.5]]), 0.4


def mixture():
    law = Mixture(
        [[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]],
        [[[1.0, 0.6], [0.6, 0.5]], [[0.3, -0.1], [-0.1, 0.2]], [[0.25, 0.5], [0.5, 1.0]]],
        [0.5, 0.3, 0.2],
    )
    return law, operators.matrix(shape=(2,), entries=[[1.0, 0.5]]), 0.4


def blurred_images():
    """Sixty pictures of 4 x 4, noise of .3 on each: a mixture of isotropic Gaussians."""
    pixels = torch.randint(256, (60, 1, 4, 4), generator=generator(7), dtype=torch.uint8)
    law = BlurredImages(Images(pixels), 0.3)
    return law, operators.pool(shape=(1, 4, 4), factor=2), 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem, problems, steps",
    [(gaussian, 600, 200), (mixture, 600, 200), (blurred_images, 80, 60)],
)
def test_the_exact_posterior_is_calibrated_under_a_sampler(problem, problems, steps):
    law, operator, sigma_n = problem()
    draws, truth = restored(law, operator, algorithms.exact(), sigma_n, problems, 39, steps)
    found = scores(draws, truth)
    for mass in (50, 90):
        assert abs(found[f"coverage_{mass}"] - mass / 100) < 4 * found[f"coverage_{mass}_se"]
    assert found["rank_p"] > 1e-3


@pytest.mark.slow
def test_diffpir_at_zeta_one_covers_three_quarters_of_a_nominal_ninety_percent():
    """Many steps at zeta = 1 have half of the posterior's variance in every direction, so the
    interval of 90 % covers 2 Phi(1.645 sqrt(1/2)) - 1 = 75.5 % (spec section 4)."""
    law, operator, sigma_n = gaussian()
    draws, truth = restored(law, operator, algorithms.diffpir(zeta=1.0), sigma_n, 1000, 99, 300)
    found = scores(draws, truth)
    off = abs(found["coverage_90"] - 0.755)
    assert off < 4 * found["coverage_90_se"] and found["coverage_90_se"] < 0.012
    assert found["rank_p"] < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm", [algorithms.diffpir(zeta=1.0), algorithms.ddrm()], ids=["diffpir", "ddrm"]
)
def test_over_confident_algorithms_are_seen_on_a_mixture_and_on_images_too(algorithm):
    for problem, problems in ((mixture, 600), (blurred_images, 150)):
        law, operator, sigma_n = problem()
        draws, truth = restored(law, operator, algorithm, sigma_n, problems, 19, 60)
        found = scores(draws, truth)
        assert found["coverage_90"] + 4 * found["coverage_90_se"] < 0.9
