"""Floors, their cache, the last step's noise, the table, and bad input."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from simulations import made_by
from test_metrics_cloud import Line, Points

from diffgeo.config import named
from diffgeo.config.build import build
from diffgeo.core import Run, generator
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics import (
    Atoms,
    Distance,
    Measure,
    Suite,
    Tangential,
    Transport,
    reference,
    suite,
    table,
)
from diffgeo.metrics.floor import draws, pairs_of, reach
from diffgeo.metrics.suite import text, within_floor
from diffgeo.sampler import Euler

f64 = torch.float64
CONF = Path(__file__).parent.parent / "conf/metrics"
SUITES = sorted(CONF.glob("*.yaml"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "floors"


class EndsWithNoise(Euler):
    """A sampler whose last step adds noise of standard deviation sqrt(1 - e^{-t}) at the last
    positive time t."""

    def terminal_noise(self, sigmas):
        return math.sqrt(-math.expm1(-math.log1p(float(sigmas[-2]) ** 2)))


def test_floor_of_chi2():
    """chi2 of true samples is chi-squared with k-1 = 2 degrees of freedom: mean 2, variance 4; 4
    standard errors over 4000 pairs."""
    floor, sd = reference(Atoms(), Points(), 300, pairs=4000)["atoms/chi2"]
    assert abs(floor - 2) < 4 * 2 / math.sqrt(4000) and sd == pytest.approx(2, rel=0.15)
    share, spread = reference(Atoms(), Points(), 300, pairs=400)["atoms/w_2"]
    assert share == pytest.approx(0.3, abs=4 * spread / 20) and spread == pytest.approx(
        math.sqrt(0.3 * 0.7 / 300), rel=0.15
    )


def test_floor_is_mean_and_spread_of_independent_pairs():
    metric = Transport(n=50, projections=20)
    pairs = draws(metric, Line(), 80, 8, 0.0)["transport/w2"]
    assert len(set(pairs)) == 8
    mean = sum(pairs) / 8
    sd = math.sqrt(sum((v - mean) ** 2 for v in pairs) / 7)
    assert reference(metric, Line(), 80)["transport/w2"] == pytest.approx((mean, sd), rel=1e-12)


def test_published_floor_of_the_curve():
    """cem.md: 10 000 fresh points of the curve have a tangential W2 of .34 +- .15 over many draws;
    ours is the mean of 8."""
    from diffgeo.data import Curve

    floor, sd = reference(Tangential(), Curve(), 10_000)["tangential/w2"]
    assert floor == pytest.approx(0.34, abs=4 * 0.15 / math.sqrt(8)) and 0.05 < sd < 0.4


def test_cache_returns_what_was_computed(cache, monkeypatch):
    computed = reference(Tangential(), Line(), 100)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("diffgeo.metrics.floor.draws", lambda *_: pytest.fail("not cached"))
    assert reference(Tangential(), Line(), 100) == computed  # equal, not close
    with pytest.raises(pytest.fail.Exception):
        reference(Tangential(), Line(), 101)
    with pytest.raises(pytest.fail.Exception):
        reference(Tangential(), Line(), 100, noise=0.1)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"name": 1}', "null", "\xff"])
def test_unreadable_cache_is_computed_again(cache, damage):
    computed = reference(Atoms(), Points(), 50)
    (file,) = cache.iterdir()
    whole = file.read_text()
    file.write_text(damage, encoding="latin-1")
    assert reference(Atoms(), Points(), 50) == computed and file.read_text() == whole
    held = json.loads(whole)
    held["values"]["atoms/chi2"] = ["many"]
    file.write_text(json.dumps(held))
    assert reference(Atoms(), Points(), 50) == computed


def test_unwritable_cache_is_no_cache(tmp_path, monkeypatch):
    computed = reference(Atoms(), Points(), 50)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "file"))
    assert reference(Atoms(), Points(), 50) == computed


def test_cache_folder(monkeypatch, tmp_path):
    from diffgeo.store.caches import cache_folder as folder

    monkeypatch.delenv("DIFFGEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "diffgeo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folder() == tmp_path / "home/.cache/diffgeo"


def test_truth_is_within_its_floor_and_a_shift_is_not():
    measure = suite(
        distance=Distance(),
        tangential=Tangential(),
        transport=Transport(n=200, projections=20),
        atoms=Atoms(),
    )
    truth = Line().sample(1000, generator(77))
    report = measure(Run(truth, seed=77), Line())
    assert all(within_floor(report, key) for key in report if key + "_floor" in report)
    assert not any(key.startswith("atoms/") for key in report)  # a line has no atoms
    shifted = measure(Run(truth + torch.tensor([0.5, 0.0], dtype=f64), seed=77), Line())
    assert (
        shifted["distance/mean"] == 0
        and not within_floor(shifted, "tangential/w2")
        and not within_floor(shifted, "transport/w2")
    )
    assert shifted["transport/w2_floor"] == report["transport/w2_floor"]
    shares = {
        "distance/below_0.01": 0.1,
        "distance/below_0.01_floor": 1.0,
        "distance/below_0.01_floor_sd": 0.0,
    }
    assert not within_floor(shares, "distance/below_0.01")


def test_last_step_noise():
    """t_1 = 1e-4: s = sqrt(1-e^{-t_1}) = .01, E|s z| = s sqrt(2/pi) = .00798 (cem.md), q99 = 2.5758
    s."""
    sigmas = torch.tensor([100.0, 1.0, math.sqrt(math.expm1(1e-4)), 0.0], dtype=f64)
    measure = suite(distance=Distance(), tangential=Tangential())
    run = made_by(None, Line().sample(20_000, generator(1)), sampler=EndsWithNoise(), sigmas=sigmas)
    report = measure(run, Line())
    # relative, four standard errors of the mean of |z|
    band = 4 * math.sqrt(math.pi / 2 - 1) / math.sqrt(8 * 20_000)
    assert report["distance/mean_last_step_noise"] == pytest.approx(
        0.01 * math.sqrt(2 / math.pi), rel=band
    )
    assert report["distance/q99_last_step_noise"] == pytest.approx(0.025758, rel=0.02)
    assert report["tangential/w2_last_step_noise"] == pytest.approx(
        report["tangential/w2_floor"], rel=0.05
    )
    assert not any("last_step" in key for key in measure(run._replace(simulation=None), Line()))
    # Euler's
    assert not any(
        "last_step" in key for key in measure(made_by(None, run.samples, sigmas=sigmas), Line())
    )


def test_bad_input():
    measure = Suite({"distance": Distance()})
    with pytest.raises(UsageError, match=r"\(10, 3\).*\(n, 2\)"):
        measure(Run(torch.zeros(10, 3)), Line())
    with pytest.raises(UsageError, match="no samples"):
        measure(Run(torch.zeros(0, 2)), Line())
    x = torch.zeros(10, 2)
    x[3, 1] = math.nan
    x[4, 0] = math.inf
    with pytest.raises(DiffgeoError, match="2 of 10") as error:
        measure(Run(x), Line())
    assert not isinstance(error.value, UsageError)
    with pytest.raises(UsageError, match="pairs=1"):
        Suite({}, pairs=1)


def test_table():
    values = {
        "a/w2": 0.96512,
        "a/w2_floor": 0.95,
        "a/w2_floor_sd": 0.01,
        "a/w2_floor_se": 0.01 / math.sqrt(32),
        "b/mean": 0.5,
        "b/mean_floor": 0.1,
        "b/mean_floor_sd": 0.01,
        "b/mean_floor_se": 0.01 / math.sqrt(8),
        "b/mean_last_step_noise": 0.00798,
        "denoiser/f_l2": 12.0,
        "denoiser/f_l2_se": 0.5,
    }
    lines = table(values).splitlines()
    assert lines[1].split() == ["a/w2", "0.9651", "*", "0.95", "+-", "0.0018", "0.01"]
    assert lines[2].split() == ["b/mean", "0.5", "0.1", "+-", "0.0035", "0.01", "0.00798"]
    assert lines[3].split() == ["denoiser/f_l2", "↓", "12", "+-", "0.5"]
    assert lines[4] == "↓ less is better"
    assert lines[5].startswith("* no worse than 1 in 1000 fresh clouds of the truth")
    assert lines[5].endswith("floor + 3.4 sd of 32 pairs")


def test_a_star_leaves_out_one_true_cloud_in_a_thousand():
    """Of 200 000 floors of 8 and of 32 normal values, and one value more: the share beyond `reach`
    is .001 (four standard errors), where floor + 4 sd leaves out .0036 for 8. The number of pairs
    is read off the floor's standard error."""
    g = generator(5)
    for pairs in (8, 32):
        drawn = torch.randn(200_000, pairs + 1, generator=g, dtype=f64)
        clouds = drawn[:, :-1]
        new = drawn[:, -1]
        spread = clouds.std(1)
        beyond = new - clouds.mean(1) > spread * reach(1.0, pairs)
        assert float(beyond.double().mean()) == pytest.approx(1e-3, abs=4 * math.sqrt(1e-3 / 2e5))
        assert pairs_of(0.3, 0.3 / math.sqrt(pairs)) == pairs
        if pairs == 8:
            old = (new - clouds.mean(1) > 4 * spread).double().mean()
            assert float(old) == pytest.approx(0.0035, abs=0.0006)
    assert reach(1.0, 8) == pytest.approx(4.785 * math.sqrt(1 + 1 / 8), rel=1e-3)  # of a table of t


def test_equal_excesses_are_starred_alike():
    """Five shares of 1/5 of 10 000 true draws, each 2.1 true sd above its own floor: with
    32 pairs all five have a star, and none at 5 sd. (With 8 pairs and 4 estimated sd .2104 had none
    beside .2122.)"""
    law = named.law("points5")
    values = suite(atoms=Atoms())(Run(law.sample(10_000, generator(3)), seed=3), law)
    sd = math.sqrt(0.2 * 0.8 / 10_000)
    for k in range(1, 6):
        key = f"atoms/w_{k}"
        assert values[key + "_floor_se"] == pytest.approx(values[key + "_floor_sd"] / 32**0.5)
        assert values[key + "_floor_sd"] == pytest.approx(sd, rel=0.4)
        floor = values[key + "_floor"]
        assert within_floor(values | {key: floor + 2.1 * sd}, key)
        assert not within_floor(values | {key: floor + 5 * sd}, key)
    assert table({"x": 1.0}).splitlines() == ["metric  value", "x           1"]


def test_table_shows_what_is_wrong_and_not_what_is_rounding():
    assert table({"a": float("nan"), "b": -1e-17, "c": 2.0}).splitlines()[1:] == [
        "a         nan",
        "b           0",
        "c           2",
    ]


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_builds_from_its_file(path):
    """Each node of conf/metrics/*.yaml is a metric under its own name."""
    cfg = OmegaConf.create({"sampler": {"schedule": None}, "metrics": OmegaConf.load(path)})
    nodes = {name for name, node in cfg.metrics.items() if OmegaConf.is_config(node)}
    built = build(cfg.metrics)
    assert set(built.metrics) == nodes and all(
        isinstance(metric, Measure) for metric in built.metrics.values()
    )


def test_default_suite():
    """What is written in the file are the defaults of the classes."""
    built = build(OmegaConf.load(CONF / "default.yaml"))
    assert built.pairs == 8 and built.metrics["transport"] == Transport()
    assert built.metrics["atoms"] == Atoms() and "0.05" in repr(built.metrics["distance"])


@dataclass(frozen=True)
class Widest(Measure):
    """A user's metric: nothing but the number."""

    def __call__(self, run, data):
        return {"widest/x": float(run.samples[:, 0].abs().max())}


class Spoken(Widest):
    """One that says everything otherwise."""

    floors = False
    needs_run = True
    prefix = "widest/"

    def describe(self, run, data):
        return {"n": len(run.samples)}

    def text(self, values):
        return f"as wide as {values['widest/x']:.1f}"


def test_a_users_metric_in_a_suite():
    run = Run(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.5, 0.0]], dtype=f64))
    measure = suite(pairs=2, widest=Widest())
    values = measure(run, Line())
    assert list(values) == ["widest/x"] + [f"widest/x_floor{side}" for side in ("", "_sd", "_se")]
    assert values["widest/x"] == 2 and measure.describe(run, Line()) == {}
    measure.prepare(Line(), 3)
    assert text(measure, values).startswith("metric    value") and not measure.needs_run
    measure = suite(pairs=2, widest=Spoken())
    values = measure(run, Line())
    assert values == {"widest/x": 2.0} and measure.describe(run, Line()) == {"widest": {"n": 3}}
    assert text(measure, values) == "as wide as 2.0" == text(Spoken(), values)
    assert text(measure, values | {"a": 1.0}) == "metric  value\na           1\n\nas wide as 2.0"


def test_a_metric_that_returns_no_number_is_named():
    class Vague(Measure):
        def __call__(self, run, data):
            return {"vague/x": run.samples.mean()}

    with pytest.raises(DiffgeoError, match="^metrics.mine: vague/x is a Tensor, not a number"):
        suite(pairs=0, mine=Vague())(Run(torch.ones(3, 2)), Line())
