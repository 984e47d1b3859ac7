"""`diffgeo trajectory`: its grid, its files, what it says and what it refuses; paths as metrics;
and the tables of spec sections 4 and 5 within their sampling error (slow)."""

import csv
import json
import math
import time

import numpy as np
import pytest
import torch
from configs import composed

from diffgeo.analytic.images import ImageDenoiser
from diffgeo.config.build import build, grid_of
from diffgeo.config.line import prepare
from diffgeo.core import Run
from diffgeo.data import Circle, Gaussian, Mixture, Points, image_set
from diffgeo.data.reference import gaussian
from diffgeo.geometry.charts import CHARTS
from diffgeo.geometry.measure import measure, numbers_of
from diffgeo.geometry.observations import observations
from diffgeo.metrics.trajectory import Hallucination, Paths, area, between, flags
from diffgeo.sampler import Euler, Heun
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation import Simulation

G20 = VE(to_zero=False).grid(20)
NUMBERS = ("deviation", "deviation_sigma", "chord", "kappa", "arc_over_chord", "turning")
TWO = ("data=points2", "data.points=[[1,0],[-1,0]]")
POINTS8 = Points(
    [[-2, 0], [-1.2, 1.6], [-1.2, -1.6], [0, 2], [0, -2], [1.2, 1.6], [1.2, -1.6], [2, 0]]
)


# the grid


@pytest.mark.parametrize("data", ["cifar10"])
def test_the_grid_is_the_published_one_whatever_the_law_would_choose(data):
    _, sigmas = grid_of(composed("trajectory", f"data={data}").sampler)
    torch.testing.assert_close(sigmas, G20, rtol=1e-14, atol=0)


def test_a_typed_grid_comes_before_both():
    line = prepare("trajectory", ["data=cifar10", "sampler.schedule=karras", "sampler.steps=7"])
    _, sigmas = grid_of(composed("trajectory", *line).sampler)
    torch.testing.assert_close(sigmas, VE().grid(7), rtol=1e-14, atol=0)
    assert float(sigmas[-1]) == 0


# the files


def test_one_path_digit_by_digit(inside, tmp_path):
    """noise=FILE gives the path of spec section 3; one path has no deviation, and the tables say
    nothing where there is nothing; no nan is written."""
    np.save(tmp_path / "start.npy", np.array([[48.0, 64.0]]) / 80)
    done = inside(
        "trajectory", *TWO, "noise=start.npy", "keep=true", "figures=false", "hydra.run.dir=one",
        "against=gaussian",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "one/metrics.json").read_text())
    keys = set()
    for chart in CHARTS:
        for path in ("sampling", "denoising"):
            keys |= {f"trajectory/{chart}/{path}/{number}" for number in NUMBERS}
    assert set(values) == keys
    assert values["trajectory/ve/sampling/deviation"] == pytest.approx(0.71493476, abs=6e-9)
    assert values["trajectory/ve/sampling/deviation_sigma"] == pytest.approx(3.8811, abs=6e-5)
    assert values["trajectory/vp/sampling/kappa"] == pytest.approx(0.12270134, abs=6e-9)
    assert values["trajectory/flow/denoising/chord"] == pytest.approx(0.99250014, abs=6e-9)
    assert values["trajectory/ve/denoising/deviation_sigma"] is None  # of a straight path

    paths = np.load(tmp_path / "one/paths.npy")
    assert paths.shape == (1, 21, 2) and paths[0, 0].tolist() == [48.0, 64.0]
    assert paths[0, -1].tolist() == pytest.approx((0.9991960313, 0.0016), abs=6e-11)

    with (tmp_path / "one/trajectory.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["series", "chart", "sigma", "mean", "sd", "n"]
    assert {row["sd"] for row in table} == {""} and {row["n"] for row in table} == {"1"}
    distance = [row for row in table if row["series"] == "x/distance" and row["chart"] == "ve"]
    for row, state in zip(distance, paths[0], strict=True):
        # at full precision
        assert float(row["mean"]) == pytest.approx(np.linalg.norm(state - paths[0, -1]), rel=1e-14)
    text = (tmp_path / "one/trajectory.json").read_text()
    assert "NaN" not in text and json.loads(text)["paths"]["ve/sampling"]["spread"] is None

    lines = done.stdout.splitlines()
    assert sum(line.startswith("|") for line in lines) <= 20
    said = [line for line in lines if line.startswith("Observation")]
    assert [line.split(":")[0] for line in said] == [
        "Observation 1 (chart ve)",
        "Observation 2 (chart ve)",
        "Observation 3 (chart ve)",
        "Observation 4 (every chart)",
        "Observation 5 (chart ve)",
    ]
    title = next(line for line in lines if "denoiser of" in line)
    for word in ("exact denoiser of points2", "Euler", "G20", "no step to 0", "n = 1", "chart ve"):
        assert word in title
    assert any(line.startswith("beside gaussian") for line in lines)


@pytest.mark.slow
def test_pictures_are_drawn_and_the_same_line_gives_the_same_bytes(inside, tmp_path):
    """With references, in another chart, by a method that draws noise, which is said."""
    line = (
        "trajectory", "data=mixture", "model=gaussian", "against=exact,identity", "n=8", "chart=vp",
        "sampler=euler_ancestral", "sampler.steps=6",
    )  # fmt: skip
    first = inside(*line, "hydra.run.dir=a")
    again = inside(*line, "hydra.run.dir=b", "batch=3", "figures=false")
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "which are not the flow's" in first.stdout
    assert "D(x) is nearest to" in first.stdout
    drawn = {path.stem for path in (tmp_path / "a/figures").glob("*.png")}
    assert drawn >= {"deviation", "magnitude", "distances", "cosine", "charts", "projection"}
    assert drawn >= {"four_series", "nearest"}
    a = json.loads((tmp_path / "a/metrics.json").read_text())
    b = json.loads((tmp_path / "b/metrics.json").read_text())
    assert a == pytest.approx(b, rel=1e-12)


REFUSED = ((("data=points2", "against=exact"), "against=exact is the model itself"),)
ALSO_REFUSED = (
    (("data=points2", "sampler=rk45"), "chooses its own levels"),
    (("data=digits", "keep=true", "n=2000000000"), "bytes, and the disk has"),
    (("data=points2", "against=best"), "write some of exact, gaussian"),
    (("data=points2", "chart=ou"), "write one of ve, vp, flow"),
    (("data=points2", "sampler.steps=2"), "write sampler.steps=3 or more"),
    (("data=points2", "window=3"), "a cubic needs 4 levels"),
    (("data=points2", "against=gaussian_classes"), "needs a law with classes"),
)


@pytest.mark.parametrize("words, said", REFUSED)
def test_what_is_refused_is_refused_in_a_line_and_nothing_is_written(inside, tmp_path, words, said):
    done = inside("trajectory", *words)
    assert done.returncode == 2 and said in done.line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words, said", ALSO_REFUSED)
def test_what_else_is_refused(inside, tmp_path, words, said):
    test_what_is_refused_is_refused_in_a_line_and_nothing_is_written(inside, tmp_path, words, said)


def test_one_image_has_no_denoising_path():
    """Nor nan, nor a verdict on how straight it is."""
    pixels = torch.randint(256, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    law = ImageDenoiser(pixels.to(torch.uint8))
    geometry = measure(Simulation(Euler(), law, G20, (1, 4, 4)), range(2))
    values = numbers_of(geometry)
    assert values["trajectory/ve/denoising/kappa"] is None
    assert values["trajectory/ve/denoising/chord"] == 0
    assert observations(geometry, "ve")[0].holds is None and geometry.atoms == 1


# metrics


def run_of(denoise, law, sampler=Euler(), sigmas=G20, n=40):
    simulation = Simulation(sampler, denoise, sigmas, tuple(law.shape))
    drawn = simulation.draw(range(n))
    return Run(drawn.samples, 0, range(n), simulation, True, drawn.nfe)


def test_the_metric_says_what_the_command_says():
    law = POINTS8
    run = run_of(law.denoiser(), law)
    found = Paths(n=30)(run, law)
    expected = numbers_of(measure(run.simulation, range(30)))
    assert found == {key: value for key, value in expected.items() if value is not None}
    assert found["trajectory/ve/sampling/kappa"] > 1e-3
    assert Paths()(Run(run.samples), law) == {} == Hallucination()(Run(run.samples), law)
    suite = build(composed(None, "+metrics=trajectory").metrics)
    assert suite(run, law).keys() >= found.keys()


def test_the_area_is_the_chance_of_a_larger_score():
    g = torch.Generator().manual_seed(1)
    positive = torch.randint(6, (31,), generator=g).double() + 1
    negative = torch.randint(6, (57,), generator=g).double()
    pairs = positive[:, None] - negative
    expected = float(((pairs > 0).double() + 0.5 * (pairs == 0)).mean())
    auc, error = area(positive, negative)
    assert auc == pytest.approx(expected, rel=1e-12)
    assert 0.02 < error < 0.08
    # of two normal laws one deviation apart the area is Phi(1/sqrt 2)
    clouds = torch.randn(2, 4000, generator=g, dtype=torch.float64)
    auc, error = area(clouds[0] + 1, clouds[1])
    assert auc == pytest.approx(0.5 * math.erfc(-0.5), abs=4 * error) and error < 0.01


def test_the_flag_is_the_spread_of_the_late_estimates():
    law = POINTS8
    run = run_of(law.denoiser(), law, n=7)
    late = run.simulation.trajectory(range(7)).denoised[13:]  # 7 of 20 steps
    expected = late.var(0, correction=0).sum(1).sqrt()
    found = flags(run.simulation, range(7))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_the_flag_finds_samples_between_the_modes():
    """A denoiser that knows nothing below a level, D(x; max(sigma, 1/2)), leaves a few of points8's
    samples between its modes, still on their way in the last third of a grid that is even in log
    sigma. The exact one leaves none, and none is flagged."""
    law = POINTS8
    exact = law.denoiser()
    sigmas = VE(sigma_min=0.01, sigma_max=200, spacing=Geometric()).grid(18)
    blunt = run_of(lambda x, s, **_: exact(x, max(float(s), 0.5)), law, Heun(), sigmas, n=4000)
    found = Hallucination(n=4000)(blunt, law)
    assert 0.005 < found["hallucination/between"] < 0.03
    assert found["hallucination/auc"] - 4 * found["hallucination/auc_se"] > 0.5
    assert found["hallucination/auc"] == pytest.approx(0.81, abs=4 * 0.04)
    sharp = Hallucination(n=500)(run_of(exact, law, Heun(), sigmas, n=500), law)
    assert sharp["hallucination/between"] == 0 and "hallucination/auc" not in sharp
    assert sharp["hallucination/flagged"] < 0.01
    off = torch.tensor([[2.0, 0.0], [1.7, 0.0], [1.6, 0.0]], dtype=torch.float64)
    # a quarter of the distance 1.265 of the nearest two is .316
    assert between(off, law.atoms).tolist() == [False, False, True]


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
