"""The tables of spec sections 4 and 5 within their sampling error."""

import math
import time

import numpy as np
import pytest
import torch

from diffgeo.data import Circle, Gaussian, Mixture, Points, image_set
from diffgeo.data.reference import gaussian
from diffgeo.geometry.measure import measure, numbers_of
from diffgeo.geometry.observations import observations
from diffgeo.sampler import Euler
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

G20 = VE(to_zero=False).grid(20)


# spec section 4

MIX3 = Mixture([[2, 0], [-1, 1.5], [-1, -1.5]], [[[0.09, 0], [0, 0.09]]] * 3, [0.5, 0.3, 0.2])
# kappa of x, of r, of x in vp; shares d_x, d_r; verdict 3, shares x, r
TABLE = {
    "isotropic": (Gaussian([0, 0], [[1, 0], [0, 1]]), (0, 0, 0), (1, 1), True, (1, 1)),
    "diag": (Gaussian([0, 0], [[4, 0], [0, 0.25]]), (0.0043, 0.091, 0.053), (1, 1), True, (1, 1)),
    "two points": (Points([[1, 0], [-1, 0]]), (0.0059, 0, 0.11), (0.91, 1), False, (0.40, 1)),
    "circle": (Circle(1.0), (0, 0, 0), (0.36, 1), False, (0.34, 1)),
    "mix3": (MIX3, (0.0061, 0.079, 0.14), (0.85, 0.74), False, (0.45, 0.25)),
}
KEYS = ("ve/sampling", "ve/denoising", "vp/sampling")


def half_a_digit(value):
    """Half of the last of the two digits that the table prints."""
    return 0.5 * 10 ** (math.floor(math.log10(value)) - 1) if value else 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_the_observations_on_exact_laws(name):
    """4 000 paths, within 4 standard errors of the difference of two such runs; those of kappa from
    eight parts of the run."""
    law, kappas, approach, third, sizes = TABLE[name]
    simulation = Simulation(Euler(), law.denoiser(), G20, (2,))
    geometry = measure(simulation, range(4000))
    values = numbers_of(geometry)
    parts = []
    for k in range(8):
        part = numbers_of(measure(simulation, range(500 * k, 500 * k + 500)))
        parts.append([part[f"trajectory/{key}/kappa"] for key in KEYS])
    errors = np.std(parts, axis=0, ddof=1) / math.sqrt(8)
    for key, printed, error in zip(KEYS, kappas, errors, strict=True):
        room = 4 * math.sqrt(2) * error + half_a_digit(printed)
        assert values[f"trajectory/{key}/kappa"] == pytest.approx(printed, abs=room)
    _, second_, third_, *_ = observations(geometry, "ve")
    assert second_.holds and third_.holds is third
    for printed, share in zip(
        (*approach, *sizes), (*second_.shares.values(), *third_.shares.values()), strict=True
    ):
        room = 4 * math.sqrt(2 * printed * (1 - printed) / 4000) + 0.005
        assert share == pytest.approx(printed, abs=room)


@pytest.mark.slow
def test_the_observations_on_a_cloud():
    """256 points of N(0, I) in R^64: another cloud than the specification's, so a twentieth of each
    ratio; Observation 3 fails for most of its paths, and its turn is above the last level."""
    points = torch.randn(256, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    law = Points(points.tolist())
    geometry = measure(Simulation(Euler(), law.denoiser(), G20, (64,)), range(600))
    values = numbers_of(geometry)
    for key, printed in zip(KEYS, (0.011, 0.21, 0.13), strict=True):
        assert values[f"trajectory/{key}/kappa"] == pytest.approx(printed, rel=0.06)
    _, second, third, *_ = observations(geometry, "ve")
    assert second.holds and not third.holds and 0.1 < third.shares["x"] < 0.35


# spec section 5: values of 64 paths, flip off, and the deviation over the paths where it is printed


def within(printed, mean, sd, n=64):
    """Within 4 standard errors of the difference of two runs of n paths."""
    assert mean == pytest.approx(printed, abs=4 * math.sqrt(2 / n) * sd + half_a_digit(printed))


def at(geometry, series, sigma, chart="all"):
    """(mean, deviation) at the level nearest to sigma."""
    k = int((geometry.sigma[:-1] / sigma).log().abs().argmin())
    spread = geometry.spread(series, chart)
    return float(spread.mean[k]), float(spread.sd[k])


SETS = {
    "cifar10": {
        "x": (16.85, 4432.9), "r": (8.29, 22.38), "kappa": (0.00380, 0.370, 0.1159, 0.0566),
        "arc": 1.00018, "turning": (0.125, 3.85), "r norm": (5.77, 9.53, 15.8, 24.75),
        "eps": (55.43, 55.58), "cosine": (0.99910, 5.8), "components": (0.934, 0.9975, 0.9996),
        "shares": (1, 0.89, 0.30, 0.80), "ends": 64,
        "entropy": {80: 10.76, 8.59: 7.21, 5.84: 4.79, 3.88: 2.11, 2.52: 0.47, 0.97: 0},
        "settled": {80: 0.094, 8.6: 0.39, 5.8: 0.61, 3.9: 0.91, 2.5: 1},
    },
    "mnist": {
        "x": (11.39, 2244.0), "r": (4.40, 13.71), "kappa": (0.00508, 0.321, 0.2015, 0.0781),
        "arc": 1.00044, "turning": (0.268, 4.00), "r norm": (22.70, 22.77, 23.19, 26.96),
        "eps": (28.07, 28.36), "cosine": (0.99683, 3.9), "components": (0.956, 0.9971, 0.9996),
        "shares": (1, 1, 0.23, 0.69), "ends": 64, "entropy": {}, "settled": {},
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_paths_of_images(real, name):
    printed = SETS[name]
    law = image_set(name=name, root=str(real), flip=False)
    simulation = Simulation(Euler(), law.denoiser(), G20, tuple(law.shape))
    torch.set_num_threads(1)
    started = time.process_time()
    geometry = measure(simulation, range(64))
    assert time.process_time() - started < 60
    values = numbers_of(geometry)
    for path, chart in (("x", "ve"), ("r", "all")):
        spread = geometry.spread(f"{path}/deviation", chart)
        k = int(spread.mean.argmax())
        within(printed[path][0], float(spread.mean[k]), float(spread.sd[k]))
        chord = geometry.spread(f"{path}/chord", chart)
        within(printed[path][1], float(chord.mean), float(chord.sd))
    for key, kappa in zip((*KEYS, "flow/sampling"), printed["kappa"], strict=True):
        chart, path = key.split("/")
        sd = kappa_deviation(geometry, chart, "x" if path == "sampling" else "r")
        within(kappa, values[f"trajectory/{key}/kappa"], sd)
    assert values["trajectory/ve/sampling/arc_over_chord"] == pytest.approx(
        printed["arc"], abs=3e-5
    )
    for path, chart, turning in (("x", "ve", 0), ("r", "all", 1)):
        spread = geometry.spread(f"{path}/turning", chart)
        within(printed["turning"][turning], float(spread.mean), float(spread.sd))
    for sigma, norm in zip((80, 24.4, 8.6, 0.0063), printed["r norm"], strict=True):
        within(norm, *at(geometry, "r/norm", sigma))
    for sigma, norm in zip((80, 0.0063), printed["eps"], strict=True):
        within(norm, *at(geometry, "eps/norm", sigma))
    cosine = geometry.spread("cosine")
    k = int(cosine.mean.argmin())
    assert float(geometry.sigma[k]) == pytest.approx(printed["cosine"][1], rel=0.5)
    within(printed["cosine"][0], float(cosine.mean[k]), float(cosine.sd[k]))
    for component, share in zip(("1", "1-2", "1-3"), printed["components"], strict=True):
        spread = geometry.spread(f"x/component {component}", "ve")
        within(share, float(spread.mean), float(spread.sd))
    _, second, third, _, fifth = observations(geometry, "ve")
    shares = (*second.shares.values(), *third.shares.values())
    for share, expected in zip(shares, printed["shares"], strict=True):
        within(expected, share, math.sqrt(expected * (1 - expected)))
    assert second.holds and fifth.holds and geometry.atoms == printed["ends"]
    for sigma, entropy in printed["entropy"].items():
        within(entropy, *at(geometry, "entropy", sigma))
    for sigma, share in printed["settled"].items():
        within(share, at(geometry, "settled", sigma)[0], math.sqrt(share * (1 - share)))
    if name == "cifar10":  # the jump is within 10 % at step 10 of 20, the state at 17
        assert fifth.sigma == pytest.approx(2.515, abs=1e-3) and "step 17 of 20" in fifth.why


def kappa_deviation(geometry, chart, path):
    """A bound on the deviation of one path's share of kappa: those of its deviation and of its
    chord, added."""
    own = "all" if path == "r" else chart
    deviation = geometry.spread(f"{path}/deviation", own)
    chord = geometry.spread(f"{path}/chord", own)
    k = int(deviation.mean.argmax())
    relative = float(deviation.sd[k] / deviation.mean[k]) + float(chord.sd / chord.mean)
    return relative * float(deviation.mean[k] / chord.mean)


@pytest.mark.slow
def test_a_gaussian_in_the_networks_place(real):
    """The four series of CIFAR-10's mean and covariance against the exact denoiser, as printed."""
    law = image_set(name="cifar10", root=str(real), flip=False)
    model = gaussian(law)
    simulation = Simulation(Euler(), model, G20, tuple(law.shape))
    geometry = measure(simulation, range(64), {"exact": law.denoiser()})
    for sigma, distance in ((12.4, 0.65), (5.8, 1.9), (3.9, 3.5), (2.5, 6.4), (1.6, 10.0)):
        within(distance, *at(geometry, "exact/states", sigma))
    for sigma, distance in ((80, 0.09), (8.6, 3.4), (5.8, 6.5), (2.5, 14.4), (0.0063, 0.32)):
        within(distance, *at(geometry, "exact/at_star", sigma))
    last = geometry.spread("exact/states")
    within(21.2, float(last.mean[-1]), float(last.sd[-1]))
    values = numbers_of(geometry)
    spread = geometry.spread("x/deviation", "ve")
    k = int(spread.mean.argmax())
    within(14.45, float(spread.mean[k]), float(spread.sd[k]))
    assert float(geometry.sigma[k]) == pytest.approx(12.38, abs=0.01)
    for key, kappa in (("ve/sampling", 0.00326), ("ve/denoising", 0.2835)):
        chart, path = key.split("/")
        sd = kappa_deviation(geometry, chart, "x" if path == "sampling" else "r")
        within(kappa, values[f"trajectory/{key}/kappa"], sd)
    observation = observations(geometry, "ve")[3]
    assert observation.holds and observation.sigma == pytest.approx(2.515, abs=1e-3)
