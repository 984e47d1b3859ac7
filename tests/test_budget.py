"""The error budget against the closed form on Gaussians, its identities and bounds, and the laws of
its exact process."""

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import kstest
from torch.testing import assert_close

from diffgeo.core import Run
from diffgeo.data import Circle, Images, Points, Segment
from diffgeo.data.gaussian import Gaussian
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics import Budget, suite
from diffgeo.metrics.budget.clouds import CAUSES, ROWS, Clouds, Kept, clouds, differences
from diffgeo.metrics.budget.metric import rerun
from diffgeo.metrics.budget.parts import jackknife
from diffgeo.metrics.budget.process import Process
from diffgeo.metrics.budget.sums import coupled, sums
from diffgeo.metrics.budget.text import by_steps, percent, text
from diffgeo.metrics.suite import text as shown
from diffgeo.metrics.transport import w2
from diffgeo.sampler import RK4, RK45, DPMpp2M, Euler, EulerAncestral, EulerMaruyama, Heun
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Geometric
from diffgeo.simulation import Loop, Simulation
from diffgeo.theory import linear

ETA = 0.05
VARIANCE = torch.tensor([4.0, 0.25, 0.0]).double()
MEAN = torch.tensor([1.0, -2.0, 0.5]).double()
LAW = Gaussian(MEAN.tolist(), torch.diag(VARIANCE).tolist())
PLANE = VE(sigma_min=0.05, sigma_max=10.0, spacing=Geometric())
GRID = PLANE.grid(12)


def wrong(law, eta=ETA):
    """A 'network' whose score is (1 + eta) times the exact one."""
    exact = law.denoiser()
    return lambda x, sigma: x - (1 + eta) * (x - exact(x, sigma))


def run_of(law, sampler, sigmas=GRID, denoise=None, loop=None, n=64, seed=0):
    denoise, exact = denoise or law.denoiser(), denoise is None
    simulation = Simulation(sampler, denoise, sigmas, law.shape, seed, loop or Loop())
    drawn = simulation.draw(range(n))
    return Run(drawn.samples, seed, range(n), simulation, exact, drawn.nfe)


def process_of(run, fine):
    return Process(run.simulation, run.exact, fine)


def flowed(state, first, last, eta):
    """(centred deviation's variance, mean's offset) after the flow with (1 + eta) times the score:
    both scale like a state."""
    factor = ((VARIANCE + last**2) / (VARIANCE + first**2)) ** ((1 + eta) / 2)
    return state[0] * factor**2, state[1] * factor


def closed(sampler, added, eta):
    """(mean, deviation) of the six clouds, [6,2d], from the Gaussian flow in closed form and from
    the sampler's own recursion.

    added: (sigma, sigma') -> the noise that the exact process adds.
    """
    levels = GRID[:-1].tolist()
    first = levels[0]

    def own(state, sigmas, eta):
        end = linear.law(
            linear.tableaux(sampler, sigmas),
            linear.gain(VARIANCE, eta),
            linear.start(state[0], state[1] + MEAN),
            MEAN,
        )
        return end.variance, end.mean[0] - MEAN

    def exact(state, eta):
        for sigma, sigma_next in pairwise(levels):
            a = added(sigma, sigma_next)
            variance, mean = flowed(state, sigma, math.sqrt(sigma_next**2 - a**2), eta)
            state = variance + a**2, mean
        return state

    true = VARIANCE + first**2, torch.zeros(3).double()
    start = float(sampler.start(torch.ones(1), first)) ** 2 + 0 * VARIANCE, -MEAN
    last = [levels[-1], 0.0]
    ends = [
        (VARIANCE, 0 * MEAN),
        own(exact(true, 0.0), last, 0.0),
        own(exact(start, 0.0), last, 0.0),
        own(true, GRID, 0.0),
        own(exact(true, eta), last, eta),
        own(start, GRID, eta),
    ]
    return torch.stack([torch.cat([mean, variance.sqrt()]) for variance, mean in ends])


def ancestral(sigma, sigma_next):
    return sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)


def maruyama(sigma, sigma_next):
    """The noise of a step of Euler-Maruyama in the OU time t = log(1 + sigma^2), in x = e^(t/2)
    x_t, at most the ancestral one."""
    h = math.log1p(sigma**2) - math.log1p(sigma_next**2)
    return min(math.sqrt(h * (1 + sigma_next**2)), ancestral(sigma, sigma_next))


def none(sigma, sigma_next):
    return 0.0


@pytest.mark.parametrize(
    "sampler, added",
    [
        (Euler(), none),
        (Heun(), none),
        (DPMpp2M(), none),
        (EulerAncestral(), ancestral),
        (EulerMaruyama(), maruyama),
    ],
    ids=lambda v: type(v).__name__,
)
def test_gaussian_budget_is_the_closed_form(sampler, added):
    """Every part and every size within 4 standard errors, or a hundred-thousandth for the fine
    flow's own error."""
    values = Budget(n=800, steps=[], fine=48)(run_of(LAW, sampler, denoise=wrong(LAW)), LAW)
    rows = dict(zip(ROWS, differences(closed(sampler, added, ETA)), strict=True))
    total = rows["total"]
    assert values.get("budget/by_moments", 0) == (added is not none)
    for name, v in rows.items():
        for key, expected in ((name, v.norm()), (f"{name}_part", v @ total / total.norm())):
            assert (
                abs(values[f"budget/{key}"] - expected) < 4 * values[f"budget/{key}_se"] + 1e-5
            ), key
        on = torch.tensor([1.0, 1.0, 0.0] * 2).double()
        assert (
            abs(values[f"budget/{name}_normal_share"] - (v * (1 - on)) @ total / (total @ total))
            < 4 * values[f"budget/{name}_normal_share_se"] + 1e-5
        )
    # the bands can tell a wrong number from a right one
    assert values["budget/score"] > 10 * values["budget/score_se"]
    assert values["budget/discretization"] > 8 * values["budget/discretization_se"]


def test_paths_of_a_flow_on_a_gaussian_couple_optimally():
    run = run_of(LAW, Heun(), denoise=wrong(LAW))
    values, paths = (Budget(n=400, steps=[], by=by)(run, LAW) for by in ("w2", "paths"))
    for name in (*CAUSES, "total"):
        assert_close(
            values[f"budget/{name}_at_least"], values[f"budget/{name}"], rtol=1e-6, atol=1e-9
        )
        assert_close(paths[f"budget/{name}"], values[f"budget/{name}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [Heun(), EulerAncestral()], ids=lambda v: type(v).__name__)
def test_parts_add_up_and_bounds_hold_on_a_circle(sampler):
    law = Circle()
    found = {}
    run = run_of(law, sampler, denoise=wrong(law, 0.1))
    for by in ("w2", "paths", "moments"):
        values = found[by] = Budget(n=160, steps=[], by=by, fine=16)(run, law)
        get = lambda row, what="", values=values: values[f"budget/{row}{what}"]
        assert (
            sum(get(row, "_part") for row in ROWS[:-1])
            == pytest.approx(get("total"), rel=1e-12)
            == get("total", "_part")
        )
        assert sum(get(row, "_distance") for row in ROWS[:-1]) == pytest.approx(
            get("total", "_distance"), rel=1e-9
        )
        for row in ROWS:
            assert get(row, "_normal_share") + get(row, "_tangential_share") == pytest.approx(
                get(row, "_share"), rel=1e-9, abs=1e-15
            )
            assert get(row, "_share") * get("total") == pytest.approx(
                get(row, "_part"), rel=1e-12, abs=1e-15
            )
    made, _ = clouds(process_of(run, 16), law, range(160), Kept())
    pairs = (
        (made.fine, made.truth),
        *((end, made.fine) for end in made[2:5]),
        (made.run, made.truth),
    )
    for row, (a, b) in zip((*CAUSES, "total"), pairs, strict=True):
        key = f"budget/{row}"
        assert found["w2"][key] == pytest.approx(w2(a.numpy(), b.numpy()), rel=1e-9, abs=1e-15)
        assert found["paths"][key] == pytest.approx(
            float((a - b).square().sum(1).mean().sqrt()), rel=1e-9, abs=1e-15
        )
        assert found["paths"][f"{key}_w2"] == pytest.approx(found["w2"][key], rel=1e-12)
        assert found["paths"][f"{key}_w2_se"] == pytest.approx(
            found["w2"][f"{key}_se"], rel=1e-9, abs=1e-15
        )
        assert (
            found["w2"][f"{key}_at_least"]
            <= found["w2"][key] * (1 + 1e-12)
            <= found["paths"][key] * (1 + 1e-9)
        )
    alone = [found["w2"][f"budget/{row}"] for row in CAUSES]
    assert found["paths"]["budget/interaction_w2"] == pytest.approx(
        found["w2"]["budget/total"] - sum(alone), rel=1e-9
    )
    # the bounds are no identities here
    assert found["w2"]["budget/total"] > 1.001 * found["w2"]["budget/total_at_least"]
    assert (found["paths"]["budget/total"] > 1.001 * found["w2"]["budget/total"]) == isinstance(
        sampler, EulerAncestral
    )


def test_a_jump_to_another_branch_is_no_error_of_the_law():
    """Two samples that change places, here a tenth of all: paths count the distance between the
    segment's ends, W2 nothing."""
    law = Segment([0.0, 0.0], [2.0, 0.0])
    g = torch.Generator().manual_seed(0)
    truth = law.sample(160, g)
    swapped = torch.cat([truth[:16].flip(0), truth[16:]])
    made = Clouds(truth, truth, truth, truth, swapped, swapped)
    paths, matched = (jackknife(sums(one, law, 8), False) for one in (made, coupled(made)))
    assert paths["score"] == paths["total"] > 0.1 and matched["score"] == matched["total"] == 0
    off = swapped + torch.tensor([0.0, 0.01], dtype=torch.float64)
    values = jackknife(sums(coupled(made._replace(net=off, run=off)), law, 8), False)
    assert values["score"] == pytest.approx(0.01, rel=1e-9) and values[
        "score_normal_share"
    ] == pytest.approx(1, rel=1e-9)


def test_exact_model_has_no_score_error_and_its_own_grid_no_discretization():
    values = Budget(n=64, steps=[])(run_of(LAW, Heun()), LAW)
    assert all(v == 0 for key, v in values.items() if key.startswith("budget/score"))
    assert values["budget/discretization"] > 1e-3
    grid = torch.logspace(1, -1, 33, dtype=torch.float64)
    values = Budget(n=64, steps=[], fine=32)(run_of(LAW, RK4(), grid, wrong(LAW)), LAW)
    assert values["budget/discretization"] < 1e-10 < 1e-2 < values["budget/score"]
    assert abs(values["budget/discretization_part"]) < 1e-10


def test_exact_start_and_flow_sample_by_sample():
    """y = m + (v + S^2)^(1/2) z; the flow with (1 + eta) times the score; the truth m + v^(1/2) z.
    The start's Gaussian is isotropic at 1000 std, which leaves |v - std^2|/(2e6 std^2) = .9e-6 of a
    deviation; RK4 leaves 4e-6."""
    process = process_of(run_of(LAW, Heun(), denoise=wrong(LAW)), 64)
    made, _ = clouds(process, LAW, range(5), Kept())
    z = process.simulation.start(range(5)).unit
    y = process.true_start(LAW.denoiser(), z, LAW)
    assert_close(y - MEAN, (VARIANCE + 100).sqrt() * z, rtol=6e-6, atol=0)
    flat = 0.05**2
    variance, _ = flowed((VARIANCE + 100, 0 * MEAN), 10.0, 0.05, ETA)
    assert_close(
        made.net - MEAN,
        (1 - (1 + ETA) * flat / (VARIANCE + flat)) * variance.sqrt() * z,
        rtol=1e-5,
        atol=1e-9,
    )
    assert_close(made.truth - MEAN, VARIANCE.sqrt() * z, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize(
    "sampler",
    [Heun(), pytest.param(EulerAncestral(), marks=pytest.mark.slow)],
    ids=lambda v: type(v).__name__,
)
def test_truth_has_the_law_whatever_the_noise(sampler):
    """Uniform on a segment, by Kolmogorov-Smirnov; atoms at their weights, by 4 standard errors."""
    n = 600
    law = Segment([0.0, 0.0], [2.0, 0.0])
    made, drew = clouds(
        process_of(run_of(law, sampler, denoise=wrong(law, 1.0)), 12), law, range(n), Kept()
    )
    assert drew == (sampler != Heun())
    assert (
        kstest(made.truth[:, 0].numpy() / 2, "uniform").pvalue > 1e-3
        and float(made.truth[:, 1].abs().max()) < 1e-6
    )
    assert kstest(made.net[:, 0].numpy() / 2, "uniform").pvalue < 1e-3  # 600 samples can tell
    law = Points([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], [0.2, 0.3, 0.5])
    made, _ = clouds(process_of(run_of(law, sampler), 12), law, range(n), Kept())
    share = (torch.cdist(made.truth, law.atoms) < 1e-3).double().mean(0)
    assert_close(share, law.weights, rtol=0, atol=4 * 0.5 / math.sqrt(n))


def test_run_is_the_run_with_its_loop():
    """The sixth cloud is what `sample` draws, options of the loop included; without them it says
    that it is another."""
    loop = Loop(clip=0.9, lower_order_final=True)
    law = Circle()
    sampler = EulerAncestral()
    run = run_of(law, sampler, denoise=wrong(law), loop=loop)
    values = Budget(n=64, steps=[], fine=16)(run, law)
    assert values["budget/rerun"] == 0 and "are others" not in text(values)
    values = Budget(n=64, steps=[], fine=16)(
        run._replace(simulation=replace(run.simulation, loop=Loop())), law
    )
    assert values["budget/rerun"] > 0.01 and "the run's samples are others" in text(values)


def test_standard_errors_are_those_of_independent_groups():
    """Of a plain mean, the jackknife is sd/sqrt(G) to the last digit; of a total it predicts the
    spread over 16 seeds, by chi-squared."""
    law = Circle()
    made, _ = clouds(
        process_of(run_of(law, Euler(), denoise=wrong(law)), 16), law, range(160), Kept()
    )
    held = sums(made, law, 8)
    values = jackknife(held, False)
    group = held.distance[:, 5] - held.distance[:, 0]
    assert values["total_distance_se"] == pytest.approx(float(group.std() / math.sqrt(8)), rel=1e-9)
    many = [
        Budget(n=64, groups=16, steps=[], fine=8)(
            run_of(LAW, Euler(), GRID[-4:], wrong(LAW), seed=s), LAW
        )
        for s in range(16)
    ]
    for key in ("total", "discretization", "score_share"):
        spread = torch.tensor([v[f"budget/{key}"] for v in many]).std()
        told = torch.tensor([v[f"budget/{key}_se"] for v in many]).square().mean().sqrt()
        assert 0.5 < spread / told < 1.7, key


def test_other_grids_are_their_own_runs():
    run = run_of(LAW, Heun(), denoise=wrong(LAW))
    values = Budget(n=160, steps=[6, 24], schedule=PLANE, fine=32)(run, LAW)
    parts = by_steps(values)
    assert list(parts) == [6, 12, 24] and parts[12]["score"] == (
        values["budget/score_part"],
        values["budget/score_part_se"],
    )
    alone = Budget(n=160, steps=[], fine=32)(run_of(LAW, Heun(), PLANE.grid(6), wrong(LAW)), LAW)
    assert all(
        values[f"budget/6/{row}_part"] == pytest.approx(alone[f"budget/{row}_part"], rel=1e-12)
        for row in ROWS
    )
    # second order: a sixteenth
    assert abs(parts[24]["discretization"][0]) < abs(parts[6]["discretization"][0]) / 8
    assert list(by_steps(Budget(n=16, schedule=PLANE, fine=8)(run, LAW))) == [3, 6, 12, 24, 48]
    assert list(by_steps(Budget(n=16, fine=8)(run, LAW))) == [12]
    # as schedules of stages do
    rounds = SimpleNamespace(grid=lambda k: PLANE.grid(12 * math.ceil(k / 12)))
    assert list(by_steps(Budget(n=16, schedule=rounds, fine=8)(run, LAW))) == [12, 24, 48]


def test_an_adaptive_sampler_has_its_own_steps():
    sigmas = torch.tensor([10.0, 0.05, 0.0], dtype=torch.float64)
    schedule = PLANE
    run = run_of(LAW, RK45(), sigmas, wrong(LAW))
    values = Budget(n=16, fine=16, schedule=schedule)(run, LAW)
    assert by_steps(values) == {} and "at the sampler's own steps" in text(values)
    assert values["budget/discretization"] < 1e-2 * values["budget/score"]
    with pytest.raises(UsageError, match="an adaptive sampler chooses its own steps"):
        Budget(n=16, fine=16, steps=[5], schedule=schedule)(run, LAW)


def test_images_are_compared_as_bytes():
    """The samples of images are bytes: the same images are no others, by any scale."""
    data = Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    images = torch.linspace(-1, 0.9, 48).view(3, 1, 4, 4)
    assert rerun(images, data.quantize(images), data) == 0
    # sqrt(16 .1^2)
    assert rerun(images, data.quantize(images + 0.1), data) == pytest.approx(0.4, rel=0.1)


def test_small_images_have_no_axes():
    """Of few enough pixels for moments, were they points."""
    pixels = torch.randint(0, 256, (20, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    law = Images(pixels.to(torch.uint8))
    run = run_of(law, Heun(), denoise=wrong(law))
    run = run._replace(samples=law.quantize(run.samples))
    values = Budget(n=64, steps=[], fine=8)(run, law)
    assert values["budget/by_paths"] == 1 and not any("at_least" in key for key in values)
    parts = sum(values[f"budget/{row}_part"] for row in ROWS[:-1])
    assert parts == pytest.approx(values["budget/total"], rel=1e-12)


def test_tables():
    values = Budget(n=160, steps=[6], schedule=PLANE)(run_of(LAW, Heun(), denoise=wrong(LAW)), LAW)
    lines = text(values).splitlines()
    score = " ".join(next(line for line in lines if line.startswith("score")).split())
    shown_part = f"{values['budget/score_part']:.3g} +- {values['budget/score_part_se']:.1g}"
    assert score.startswith(
        f"score {shown_part} "
        f"{percent(values['budget/score_share'], values['budget/score_share_se'])} "
    )
    assert percent(-1e-9, 1e-9) == "0.0 %" and percent(0.5, 0.02) == "50.0 +- 2 %"
    assert (
        lines[-3].split() == ["steps", *ROWS]
        and lines[-2].split()[0] == "6"
        and lines[-1].split()[0] == "12"
    )
    metrics = suite(budget=Budget(n=160, steps=[]))
    assert shown(metrics, values) == text(values)
    assert shown(metrics, values | {"a/b": 1.0}).startswith(
        "metric  value\na/b         1\n\nerror budget"
    )
    assert shown(suite(), {"a/b": 1.0}) == "metric  value\na/b         1"
    assert Budget()(Run(torch.zeros(5, 3)), LAW) == {}


def test_refusals():
    for options, match in (
        ({"n": 10}, "multiple of groups"),
        ({"groups": 1}, "2 groups"),
        ({"by": "laws"}, "auto, paths, w2, moments"),
        ({"steps": [0]}, "whole numbers"),
        ({"steps": [5]}, "metrics.budget.schedule"),
        ({"fine": 4}, "fine=8"),
    ):
        with pytest.raises(UsageError, match=match):
            Budget(**options)
    with pytest.raises(UsageError, match="no exact denoiser"):
        Budget().prepare(SimpleNamespace(shape=(2,)), 10)
    with pytest.raises(UsageError, match="8 samples a dimension"):
        Budget(n=16, by="moments").way(LAW, 16, False)
    images = Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(UsageError, match="images are not"):
        Budget(by="w2").prepare(images, 64)
    run = run_of(LAW, Heun())
    diverged = run._replace(
        simulation=replace(run.simulation, denoise=lambda x, s: x * math.nan), exact=False
    )
    with pytest.raises(DiffgeoError, match="`net` of 12 steps is not finite"):
        Budget(n=16, fine=8, steps=[])(diverged, LAW)
