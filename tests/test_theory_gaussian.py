"""`diffgeo theory gaussian`: the table against a recursion of its own in numpy, its formats, and
the mistakes of its line."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffgeo.analytic import normal as exact
from diffgeo.commands.theory.gaussian import main
from diffgeo.commands.theory.gaussian_options import scheme
from diffgeo.config.line import conf_dir
from diffgeo.data import Gaussian
from diffgeo.errors import UsageError
from diffgeo.run import Job
from diffgeo.theory import learned
from diffgeo.theory.ablation import Cell, ablation, modes
from diffgeo.theory.ablation_table import compared, power_of_ten, printed, rows
from diffgeo.theory.gaussian import SCHEMES, Spectrum, discrete, first_order, levels
from diffgeo.theory.process import process

LOW = 0.05
HIGH = 10.0
VALUES = np.array([200.0, 3.0, 1.0, 0.02, 1e-4])
COUNTS = np.array([1, 2, 5, 4, 30])


def B(t, T=1.0):  # noqa: N802  (the paper's name)
    return LOW * t + (HIGH - LOW) * t**2 / (2 * T)


def recursion(name, values, points, eps, start, eta=0.0, T=1.0):
    """The variance after the last step: section A3 of Pierret and Galerne's recursions, written out
    in t with q the inverse variance."""
    s = T - (T - eps) * np.arange(points) / (points - 1)
    s[-1] = eps
    h = (T - eps) / (points - 1)
    rate = lambda t: LOW + (HIGH - LOW) * t / T
    variance = lambda t: np.exp(-2 * B(t, T)) * values - np.expm1(-2 * B(t, T))  # noqa: E731
    score = lambda t: (1 + eta) / variance(t)  # noqa: E731
    v = variance(T) if start == "p_T" else np.ones_like(values)
    for a, b in zip(s[:-1], s[1:], strict=True):
        q = score(a)
        delta = B(a, T) - B(b, T)
        alpha = np.exp(-B(a, T))
        alpha2 = np.exp(-B(b, T))
        sigma = np.sqrt(-np.expm1(-2 * B(a, T)))
        sigma2 = np.sqrt(-np.expm1(-2 * B(b, T)))
        f = lambda t: rate(t) * (1 - score(t))  # noqa: E731
        if name == "EM":
            v = (1 + h * rate(a) * (1 - 2 * q)) ** 2 * v + 2 * h * rate(a)
        elif name == "EI":
            v = (1 + np.expm1(delta) * (1 - 2 * q)) ** 2 * v + np.expm1(2 * delta)
        elif name == "Euler":
            v = (1 + h * f(a)) ** 2 * v
        elif name == "Heun":
            v = (1 + h * f(a) / 2 + h * f(b) / 2 * (1 + h * f(a))) ** 2 * v
        elif name == "RK4":
            m = a - h / 2
            k1 = f(a)
            k2 = f(m) * (1 + h * k1 / 2)
            k3 = f(m) * (1 + h * k2 / 2)
            v = (1 + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(b) * (1 + h * k3))) ** 2 * v
        elif name == "DDIM":
            v = (alpha2 * (1 - sigma**2 * q) / alpha + sigma2 * sigma * q) ** 2 * v
        else:
            beta = -np.expm1(-2 * delta)
            v = ((1 - beta * q) / np.sqrt(1 - beta)) ** 2 * v + beta * (
                1 if name == "DDPM-large" else sigma2**2 / sigma**2
            )
    return v


@pytest.mark.parametrize("T, eta", [(1.0, 0.0), (2.0, 0.02)])
def test_every_scheme_against_its_recursion(T, eta):
    chart = process([LOW, HIGH], T)
    spectrum = Spectrum(torch.tensor(VALUES), torch.tensor(COUNTS).double())
    cells = ablation(
        spectrum,
        chart,
        {name: scheme(name, chart) for name in SCHEMES},
        (0.0, 1e-3),
        (20, 77),
        error=eta,
    )
    assert len(cells) == 8 * 2 * 3 * 2
    for c in cells:
        if c.points:
            v = recursion(c.scheme, VALUES, c.points, c.eps, c.start, eta, T)
            assert c.distances["w2"] == pytest.approx(
                np.sqrt((COUNTS * (np.sqrt(v) - np.sqrt(VALUES)) ** 2).sum()), rel=1e-9
            ), c


def test_continuous_columns_and_what_they_are_held_against():
    chart = process([LOW, HIGH], 1.0)
    values = torch.tensor(VALUES)
    spectrum = Spectrum(values, torch.tensor(COUNTS).double())
    schemes = {name: scheme(name, chart) for name in ("EM", "Euler")}
    at = lambda t: np.exp(-2 * B(t)) * VALUES - np.expm1(-2 * B(t))  # noqa: E731
    start = at(1.0)
    eps = 1e-2
    # gaussian.md, A2
    sde = at(eps) + np.exp(-2 * (B(1) - B(eps))) * at(eps) ** 2 / start * (1 / start - 1)
    expected = {
        ("EM", "N_0"): sde,
        ("Euler", "N_0"): at(eps) / start,
        ("EM", "p_T"): at(eps),
        ("Euler", "p_T"): at(eps),
    }
    for against, goal in (("p_0", VALUES), ("p_eps", at(eps))):
        for c in ablation(spectrum, chart, schemes, (eps,), (5,), against=against):
            if c.points is None:
                w2 = np.sqrt(
                    (COUNTS * (np.sqrt(expected[c.scheme, c.start]) - np.sqrt(goal)) ** 2).sum()
                )
                assert c.distances["w2"] == pytest.approx(w2, rel=1e-9, abs=1e-13)
    assert all(
        c.distances["w2"] == 0
        for c in ablation(spectrum, chart, schemes, (0.0,), (5,))
        if c[2:4] == (None, "p_T")
    )


def test_steps_are_points_less_one_and_the_file_says_points():
    chart = process([LOW, HIGH], 1.0)
    spectrum = Spectrum([1.0, 0.1])
    schemes = {"EM": scheme("EM", chart)}
    steps = ablation(spectrum, chart, schemes, (0.0,), (9,), count="steps")
    points = ablation(spectrum, chart, schemes, (0.0,), (10,))
    assert [c.distances for c in steps] == [c.distances for c in points]
    for lines in (rows(steps, ["w2"], "steps")[1], rows(points, ["w2"])[1]):
        assert [line[2] for line in lines] == 2 * ["continuous"] + 2 * ["10"]


def test_printing_rule():
    for value, text in (
        (0.0, "0"),
        (6.679e-4, "6.7E-4"),
        (2.5e-3, "2.5E-3"),
        (0.01, "0.01"),
        (0.00999, "1.0E-2"),
        (4.774, "4.77"),
        (0.155, "0.15"),
        (1e-13, "1.0E-13"),
        (math.inf, "inf"),
        (15.6, "15.60"),
    ):
        assert printed(value) == text
    assert [power_of_ten(e) for e in (0.0, 1e-5, 1e-3, 0.01, 0.05, 0.25, 2.5e-3)] == [
        "0",
        "1e-5",
        "1e-3",
        "1e-2",
        "0.05",
        "0.25",
        "2.5e-3",
    ]


def test_published_table_is_the_spec_s():
    table = OmegaConf.to_container(
        OmegaConf.load(conf_dir() / "published" / "pierret_galerne.yaml")
    )
    cells = [text for by_eps in table["table"].values() for row in by_eps.values() for text in row]
    assert len(cells) == 160 and sum(float(c) for c in cells) == pytest.approx(179.9865)
    one = [
        Cell("EM", 1e-3, n, start, {"w2": w2})
        for n, start, w2 in ((50, "p_T", 4.6701), (50, "N_0", 4.6801), (51, "p_T", 1.0))
    ]
    found = compared(one, table["columns"], table["table"])
    assert (
        found.pairs
        == {("EM", 1e-3, 50, "p_T"): ("4.67", "4.67"), ("EM", 1e-3, 50, "N_0"): ("4.68", "4.67")}
        and found.matched == 1
    )


# the command

SPECTRUM = [[4.0, 2], [1.0, 3], [0.0, 5]]


@pytest.fixture
def spectrum(tmp_path):
    np.save(tmp_path / "s.npy", SPECTRUM)
    return "spectrum=s.npy"


def test_command_writes_what_it_prints(inside, spectrum, tmp_path):
    words = (
        "theory",
        "gaussian",
        spectrum,
        "schemes=[EM,Heun,RK4,DDIM,DDPM,dpmpp_2m]",
        "grid_points=[10,30]",
        "eps=[0,1e-3]",
        "out=t.csv",
        "distances=[kl,frechet]",
        "hydra.run.dir=run",
    )
    done = inside(*words)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "t.csv").read_text()
    assert text == (tmp_path / "run" / "table.csv").read_text() and "\r" not in text
    assert text.splitlines()[:2] == [
        "scheme,eps,points,start,w2,kl,frechet",
        "EM,0.0,continuous,p_T,0.0,0.0,0.0",
    ]
    lines = list(csv.DictReader(text.splitlines()))
    assert len(lines) == 6 * 2 * 3 * 2 and {line["points"] for line in lines} == {
        "continuous",
        "10",
        "30",
    }
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    values, counts = np.array(SPECTRUM).T
    for line in lines:
        level = f"eps={float(line['eps']):g}"
        key = f"w2/{line['scheme']}@{level},points={line['points']},start={line['start']}"
        assert float(line["w2"]) == metrics[key]
        assert float(line["frechet"]) == pytest.approx(float(line["w2"]) ** 2)
        infinite = (
            line["scheme"] in ("Heun", "RK4")
            and line["eps"] == "0.0"
            and line["points"] != "continuous"
        )
        assert math.isinf(float(line["w2"])) == infinite
        if line["points"] != "continuous" and not infinite and line["scheme"] in SCHEMES:
            v = recursion(
                line["scheme"], values, int(line["points"]), float(line["eps"]), line["start"]
            )
            assert float(line["w2"]) == pytest.approx(
                np.sqrt((counts * (np.sqrt(v) - np.sqrt(values)) ** 2).sum()), rel=1e-9
            )
        w2 = printed(float(line["w2"]))
        assert f" {w2} " in done.stdout
    assert (
        "inf: Heun, RK4 took the score at eps = 0" in done.stdout
        and "5 eigenvalues are 0" in done.stdout
    )
    assert (
        "| scheme   | eps  | continuous p_T | continuous N_0 | 10 p_T | 10 N_0 | 30 p_T | 30 N_0 |"
        in done.stdout
    )
    with (tmp_path / "run" / "modes.csv").open() as file:
        assert next(csv.reader(file))[:5] == [
            "eigenvalue",
            "initialization SDE",
            "initialization ODE",
            "truncation",
            "discretization EM",
        ]
    assert (tmp_path / "run" / "figures" / "modes.png").stat().st_size > 10_000
    (tmp_path / "t.csv").unlink()
    again = inside(*words)
    assert "is finished" in again.stdout and (tmp_path / "t.csv").read_text() == text


def test_named_spectrum_constant_rate_and_a_law_with_a_mean(inside, tmp_path):
    done = inside(
        "theory",
        "gaussian",
        "spectrum=isotropic",
        "d=9",
        "scale=4",
        "beta=1",
        "T=3",
        "schemes=EM",
        "grid_points=40",
        "eps=0",
        "start=N_0",
        "hydra.run.dir=a",
        "figures=false",
    )
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    v = 1.0
    for k in range(39):
        v = (1 + 3 / 39 * (1 - 2 / (1 + 3 * math.exp(-2 * (3 - 3 * k / 39))))) ** 2 * v + 6 / 39
    assert metrics["w2/EM@eps=0,points=40,start=N_0"] == pytest.approx(
        3 * abs(math.sqrt(v) - 2), rel=1e-9
    ), done.stderr
    inside(
        "theory",
        "gaussian",
        "data=gaussian",
        "data.mean=[3,-1]",
        "grid_points=5",
        "eps=0",
        "hydra.run.dir=b",
        "figures=false",
    )
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    values = np.array([1.8, 0.2])
    c1 = math.exp(-B(1.0))
    at_T = c1**2 * values + 1 - c1**2
    # of the mean, the flow's S c1 m
    moved = c1 * np.array([(3 - 1) / math.sqrt(2), (3 + 1) / math.sqrt(2)]) * np.sqrt(values / at_T)
    expected = (moved**2).sum() + ((np.sqrt(values / at_T) - np.sqrt(values)) ** 2).sum()
    assert metrics["w2/Heun@eps=0,points=continuous,start=N_0"] == pytest.approx(
        math.sqrt(expected), rel=1e-9
    )


def bad_files(folder):
    for name, array in (
        ("s", SPECTRUM),
        ("neg", [1.0, -1.0]),
        ("nan", [1.0, np.nan]),
        ("asym", [[1.0, 0.5], [0.2, 1.0]]),
    ):
        np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "nothing to sample"),
        ("spectrum=neg.npy", "smallest is -1"),
        ("spectrum=nan.npy", "holds a NaN"),
        ("spectrum=asym.npy", "not symmetric"),
        ("spectrum=s.npy data=line", "two spectra"),
        ("spectrum=s.npy grid_points=1", "write 2 or more"),
        ("spectrum=s.npy eps=2", "below T=1"),
        ("spectrum=s.npy beta=[10,.05]", "0 < beta_min <= beta_max"),
        ("spectrum=s.npy schemes=rk45", "no law in closed form"),
        ("spectrum=s.npy published=x", "pierret_galerne"),
        ("data=line mean=m.npy", "goes with"),
    ],
)
def test_mistakes_are_one_line(line, message, inside, tmp_path):
    bad_files(tmp_path)
    done = inside("theory", "gaussian", *line.split())
    assert done.returncode == 2 and message in done.line, done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


def test_more_mistakes(tmp_path, monkeypatch):
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("theory/gaussian", ["spectrum=s.npy"])
    for change, message in (
        ("grid_points=2.5", "not a whole number"),
        ("grid_points=[]", "is empty"),
        ("schemes=[]", "is empty"),
        ("eps=1.0", "below T=1"),
        ("eps=-1", "from 0"),
        ("beta=[1,2,3]", "one constant"),
        ("beta=[0,1]", "0 < beta_min"),
        ("beta=1000", "300 or less"),
        ("T=0", "positive time"),
        ("schemes=Foo", "write EM, EI"),
        ("schemes=a_ddim", "first fitted to a model"),
        ("distances=foo", "write w2, kl, tv or frechet"),
        ("start=x", "or FILE.npy"),
        ("against=x", "write p_0 or p_eps"),
        ("count=x", "write points or steps"),
        ("eta=a", "not a number"),
        ("eta=.inf", "finite"),
        ("draws=0", "whole number from 1"),
        ("mean=true", "does not go with spectrum=s.npy"),
        ("random=3", "true or false"),
        ("run=x", "leave spectrum="),
        ("spectrum=word", "power, isotropic or texture"),
        ("mean=none.npy", "no such file"),
        ("spectrum=texture", "of an image"),
    ):
        with pytest.raises(UsageError, match=message):
            main(OmegaConf.merge(cfg, OmegaConf.from_dotlist([change])), Job(tmp_path / "run"))
    with pytest.raises(UsageError, match="whole number from 1"):
        none = {"count": "steps", "grid_points": 0}
        main(OmegaConf.merge(cfg, none), Job(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# errors of the score


def test_a_run_is_measured_and_an_exact_one_has_no_error(inside, tmp_path):
    inside(
        "sample",
        "model=exact",
        "data=gaussian",
        "data.mean=[3,-1]",
        "n=50",
        "sampler.steps=3",
        "metrics=none",
        "figures=false",
        "hydra.run.dir=run",
    )
    words = ("grid_points=30", "eps=1e-3", "figures=false")
    done = inside("theory", "gaussian", "run=run", "n=200", *words, "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    inside("theory", "gaussian", "data=gaussian", "data.mean=[3,-1]", *words, "hydra.run.dir=b")
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert a == pytest.approx(b, rel=1e-9) and "own covariance" in done.stdout
    assert (
        "network at sigma = 0.0105: relative error" in done.stdout
        and "score error alone, to first order, eps = 1e-3" in done.stdout
    )


def test_first_order_law_is_the_limit_of_the_recursions():
    chart = process([LOW, HIGH], 1.0)
    spectrum = Spectrum(VALUES, COUNTS)
    etas = 1e-4 * torch.tensor([1.0, -2.0, 0.5, 1.0, -1.0]).double()
    for name in ("EI", "Euler"):
        first = first_order(spectrum, chart, 1e-3, etas, scheme(name, chart).stochastic)
        ends = [
            discrete(
                spectrum, chart, {name: SCHEMES[name](chart)}, levels(chart, 700, 1e-3), ("p_T",), e
            )[name, "p_T"].variance
            for e in (0.0, etas)
        ]
        moved = math.sqrt(float((spectrum.counts * (ends[1].sqrt() - ends[0].sqrt()) ** 2).sum()))
        assert moved == pytest.approx(first, rel=0.03)


def test_errors_by_eigenvalue_are_those_of_one_direction():
    chart = process([LOW, HIGH], 1.0)
    one = torch.tensor([0.3], dtype=torch.float64)
    schemes = {name: scheme(name, chart) for name in ("EM", "Heun")}
    found = {name: float(v) for name, v in modes(one, chart, schemes, 49, 1e-3, 0.01).items()}
    cells = {
        c[:4]: c.distances["w2"]
        for c in ablation(Spectrum(one), chart, schemes, (0.0, 1e-3), (50,))
    }
    assert found["initialization SDE"] == pytest.approx(cells["EM", 0.0, None, "N_0"], rel=1e-9)
    assert found["initialization ODE"] == pytest.approx(cells["Heun", 0.0, None, "N_0"], rel=1e-9)
    assert found["truncation"] == pytest.approx(cells["EM", 1e-3, None, "p_T"], rel=1e-9)
    stopped = float(np.exp(-2 * B(1e-3)) * 0.3 - np.expm1(-2 * B(1e-3)))
    for name in schemes:
        v = float(recursion(name, np.array([0.3]), 50, 1e-3, "p_T")[0])
        assert found[f"discretization {name}"] == pytest.approx(
            abs(math.sqrt(v) - math.sqrt(stopped)), rel=1e-7
        )


def test_flip_is_where_the_two_errors_are_equal():
    chart = process([LOW, HIGH], 1.0)
    spectrum = Spectrum(VALUES, COUNTS)
    samplers = {name: SCHEMES[name](chart) for name in ("Heun", "EM")}
    found = learned.flip(spectrum, chart, samplers, 200, 1e-3, "N_0", -1.0)

    def w2(name, eta):
        v = recursion(name, VALUES, 200, 1e-3, "N_0", eta)
        return np.sqrt((COUNTS * (np.sqrt(v) - np.sqrt(VALUES)) ** 2).sum())

    assert 0 < found.eta < 1 and w2("Heun", -found.eta) == pytest.approx(
        w2("EM", -found.eta), rel=1e-3
    )
    assert w2("Heun", -found.eta / 2) < w2("EM", -found.eta / 2) and found.w2 == pytest.approx(
        w2("EM", -found.eta), rel=1e-3
    )
    single = learned.flips_by_eigenvalue(
        [0.3], chart, samplers, 200, 1e-3, "N_0", torch.logspace(-6, -1, 101).double()
    )
    both = {
        name: sum(
            (
                np.sqrt(recursion(name, np.array([0.3]), 200, 1e-3, "N_0", s * float(single)))
                - np.sqrt(0.3)
            )
            ** 2
            for s in (1, -1)
        )
        for name in samplers
    }
    assert both["Heun"] == pytest.approx(both["EM"], rel=0.02)
    assert (
        learned.flip(
            spectrum, chart, {"EM": samplers["EM"], "Heun": samplers["Heun"]}, 200, 1e-3, "N_0"
        ).eta
        == 0.0
    )


def test_a_network_s_relative_error_is_measured():
    """A model whose residual is wrong by a factor of its own in each eigen-direction, growing with
    log sigma, plus an offset."""
    data = Gaussian([1.0, 0.0, -2.0], [[2.0, 0.4, 0.0], [0.4, 1.0, 0.1], [0.0, 0.1, 0.2]])
    off = torch.tensor([0.1, -0.05, 0.02], dtype=torch.float64)

    def model(x, sigma):
        truth = exact.gaussian(
            x,
            torch.full((len(x),), float(sigma), dtype=torch.float64),
            data.mean,
            data.basis,
            data.variance,
        )
        wrong = data.basis * (1 + off * math.log(1 + float(sigma))) @ data.basis.mT
        return x - (x - truth) @ wrong + 0.03 * float(sigma)

    sigmas = torch.tensor([5.0, 0.1, 0.7])
    found = learned.measure(model, data, data.mean, data.basis, data.variance, sigmas, 20_000)
    torch.testing.assert_close(
        found.error, off * torch.log1p(found.sigma)[:, None], atol=1e-10, rtol=0
    )
    assert (
        found.sigma.tolist() == pytest.approx([0.1, 0.7, 5.0])
        and (found.rest > 0).all()
        and (found.rest < 1).all()
    )
    between = found(math.sqrt(0.1 * 0.7))
    torch.testing.assert_close(between, (found.error[0] + found.error[1]) / 2)
    torch.testing.assert_close(found(1e-9), found.error[0])
    torch.testing.assert_close(found(1e9), found.error[2])


def test_the_standard_error_of_a_measured_slope_is_its_spread_over_seeds():
    """A residual with a wave in it, which no slope holds: over 60 seeds the errors spread by what
    one measurement says of itself."""
    data = Gaussian([0.0, 0.0], [[2.0, 0.3], [0.3, 0.5]])
    c = 0.49 / (data.variance + 0.49)

    def model(x, sigma):
        u = x @ data.basis
        return x - (1.05 * c * u + 0.2 * torch.sin(4 * u)) @ data.basis.mT

    sigmas = torch.tensor([0.7])
    found = [
        learned.measure(model, data, data.mean, data.basis, data.variance, sigmas, 200, seed)
        for seed in range(60)
    ]
    spread = torch.stack([one.error[0] for one in found]).std(0).square().mean().sqrt()
    noise = torch.stack([one.noise[0] for one in found]).mean()
    # of a deviation from 2 x 60 numbers: 1/sqrt(240) = 6 %, three times that
    assert float(noise) == pytest.approx(float(spread), rel=0.2)


def test_effective_error_of_a_constant_is_that_constant_and_of_a_step_its_weight():
    chart = process([LOW, HIGH], 1.0)
    spectrum = Spectrum([4.0, 0.3, 0.0])
    constant = torch.tensor([0.1, -0.2, 0.3]).double()
    for stochastic in (True, False):
        torch.testing.assert_close(
            learned.effective(spectrum, chart, 1e-3, lambda s: constant, stochastic), constant
        )
        late = learned.effective(spectrum, chart, 1e-3, lambda s: constant * (s < 1), stochastic)
        low, high = (float(levels(chart, 2, 1e-3)[k]) for k in (1, 0))
        inner = np.log(
            (spectrum.values.numpy() + np.array([1.0, high])[:, None] ** 2)
            / (spectrum.values.numpy() + low**2)
        )
        share = -np.expm1(-inner) if stochastic else inner
        np.testing.assert_allclose(late, constant * torch.tensor(share[0] / share[1]), rtol=0.03)


def test_a_start_that_does_not_commute(inside, tmp_path):
    """Data with eigenvalues 0, .3, 4 and a mean, a start turned against it: every cell against the
    matrix recursions in numpy."""
    q, _ = np.linalg.qr(np.array([[1.0, 2, 0], [0.3, -1, 1], [2, 0.1, 1]]))
    data = q @ np.diag([0.0, 0.3, 4]) @ q.T
    start = np.array([[2.0, 0.5, -0.2], [0.5, 1, 0.3], [-0.2, 0.3, 0.7]])
    np.save(tmp_path / "C.npy", data)
    np.save(tmp_path / "S.npy", start)
    done = inside(
        "theory",
        "gaussian",
        "spectrum=C.npy",
        "start=[S.npy,N_0]",
        "schemes=[EM,Heun]",
        "eps=[1e-2]",
        "grid_points=[12]",
        "distances=[kl,tv]",
        "against=p_eps",
        "eta=.1",
        "figures=false",
        "hydra.run.dir=a",
    )
    assert "| scheme | eps  | continuous S | continuous N_0 | 12 S | 12 N_0 |" in done.stdout, (
        done.stderr
    )
    read = json.loads((tmp_path / "a" / "metrics.json").read_text())
    at = lambda t: np.exp(-2 * B(t)) * data + (1 - np.exp(-2 * B(t))) * np.eye(3)
    s = 1 - (1 - 1e-2) * np.arange(12) / 11
    for name in ("EM", "Heun"):
        v = start
        h = s[0] - s[1]
        for a, b in zip(s[:-1], s[1:], strict=True):
            drift = lambda t, pull: (
                (LOW + (HIGH - LOW) * t) * (np.eye(3) - 1.1 * pull * np.linalg.inv(at(t)))
            )
            step = np.eye(3) + h * drift(a, 2)
            if name == "Heun":
                x = h * drift(a, 1)
                y = h * drift(b, 1)
                step = np.eye(3) + x / 2 + y @ (np.eye(3) + x) / 2
            v = step @ v @ step.T + (
                2 * h * (LOW + (HIGH - LOW) * a) * np.eye(3) if name == "EM" else 0
            )
        goal = at(1e-2)
        root = lambda m: (lambda w, u: u @ np.diag(np.sqrt(w.clip(0))) @ u.T)(*np.linalg.eigh(m))
        w2 = math.sqrt(np.trace(v + goal - 2 * root(root(goal) @ v @ root(goal))))
        kl = (
            np.trace(np.linalg.solve(goal, v))
            - 3
            - np.linalg.slogdet(v)[1]
            + np.linalg.slogdet(goal)[1]
        ) / 2
        cell = f"{name}@eps=0.01,points=12,start=S"
        assert read[f"w2/{cell}"] == pytest.approx(w2, rel=1e-6) and read[
            f"kl/{cell}"
        ] == pytest.approx(kl, rel=1e-7)
        # TV = E_v (1 - dgoal/dv)+
        z = np.random.default_rng(0).standard_normal((200_000, 3)) @ np.linalg.cholesky(v).T
        log = 0.5 * (
            (z @ np.linalg.inv(v) * z).sum(1)
            - (z @ np.linalg.inv(goal) * z).sum(1)
            + np.linalg.slogdet(v)[1]
            - np.linalg.slogdet(goal)[1]
        )
        gain = np.clip(-np.expm1(log), 0, None)
        assert abs(gain.mean() - read[f"tv/{cell}"]) < 4 * gain.std() / math.sqrt(len(gain))
    for line, message in (
        ("spectrum=power start=S.npy", "covariance [d,d]"),
        ("data=line start=S.npy", "write the same"),
        ("spectrum=C.npy start=S.npy random=true eta=.1", "eta= alone"),
        ("spectrum=C.npy start=none.npy", "there is no such file"),
    ):
        failed = inside("theory", "gaussian", *line.split(), "hydra.run.dir=b")
        assert failed.returncode == 2 and message in failed.stderr, failed.stderr
    done = inside(
        "theory",
        "gaussian",
        "spectrum=C.npy",
        "start=S.npy",
        "schemes=[EI,Heun]",
        "eps=0",
        "grid_points=9",
        "figures=false",
        "hydra.run.dir=c",
    )
    assert (
        "inf: Heun took the score at eps = 0" in done.stdout
        and json.loads((tmp_path / "c" / "metrics.json").read_text())[
            "w2/Heun@eps=0,points=9,start=S"
        ]
        == math.inf
    ), done.stderr


def test_a_sampler_with_a_chart_of_its_own_keeps_it():
    chart = process([0.05, 10.0], 1.0)
    splitting = scheme("splitting", chart).sampler
    dpum = scheme("dpum", chart).sampler
    assert splitting.chart == type(splitting)().chart
    assert dpum.stages == type(dpum)().stages
