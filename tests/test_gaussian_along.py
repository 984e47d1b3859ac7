"""The errors of sampling a Gaussian along the integration: values of an independent computation, a
recursion written out here, and the end of the way against the table's own cells."""

import csv
import json

import numpy as np
import pytest
import torch

from diffgeo.commands.theory.gaussian_options import scheme
from diffgeo.theory.ablation import ablation
from diffgeo.theory.gaussian import SCHEMES, Spectrum, levels
from diffgeo.theory.gaussian_along import exact, schemes, times
from diffgeo.theory.learned import several
from diffgeo.theory.process import process

VALUES = [0.0, 0.01, 0.25, 1.0, 4.0, 100.0]
CHART = process([0.05, 10], 1.0)
SPECTRUM = Spectrum(VALUES)

ON_THE_WAY = {
    "SDE": [2.136674e-3, 3.036328e-5, 8.680770e-5, 9.144549e-5, 9.153401e-5],
    "ODE": [2.136674e-3, 6.331465e-3, 2.018541e-2, 2.128801e-2, 2.130904e-2],
}
IN_50_STEPS = {
    "EM": [0.106314, 0.162980, 0.474600, 0.486855, 0.438691],
    "Heun": [0.000450, 0.003474, 0.017879, 0.021204, 0.037988],
}


def samplers(*names):
    return {name: SCHEMES[name](CHART) for name in names}


def test_exact_dynamics_from_the_normal_law():
    t = torch.tensor([1.0, 0.5, 0.1, 0.01, 0.0], dtype=torch.float64)
    curves = exact(SPECTRUM, CHART, t)
    assert [curve.name for curve in curves] == list(ON_THE_WAY)
    for curve in curves:
        assert [f"{w2:.6e}" for w2 in curve.w2.tolist()] == [
            f"{w2:.6e}" for w2 in ON_THE_WAY[curve.name]
        ]


def test_exact_dynamics_from_p_t_have_no_error_anywhere():
    for curve in exact(SPECTRUM, CHART, times(CHART, 7), "p_T"):
        assert curve.w2.tolist() == 8 * [0.0]


def test_the_sde_forgets_and_the_flow_keeps():
    """The flow is worst at the end; the SDE has its least error on the way, and the larger one at
    the start."""
    diffusion, flow = exact(SPECTRUM, CHART, times(CHART))
    assert bool((flow.w2.diff() > 0).all())
    assert 0.6 < float(diffusion.t[diffusion.w2.argmin()]) < 0.65
    assert int(diffusion.w2.argmax()) == 0


def test_schemes_in_50_steps():
    sigmas = levels(CHART, steps=50, eps=1e-3)
    for curve in schemes(SPECTRUM, CHART, samplers("EM", "Heun"), sigmas, ["p_T"]):
        at = [curve.nearest(t) for t in (0.8, 0.5, 0.2, 0.1, 0.0)]
        assert [f"{float(curve.t[i]):.4f}" for i in at] == [
            "0.8002",
            "0.5005",
            "0.2008",
            "0.1009",
            "0.0010",
        ]
        found = [f"{float(curve.w2[i]):.6f}" for i in at]
        assert found == [f"{w2:.6f}" for w2 in IN_50_STEPS[curve.name]]


def rate(t):
    return 0.05 + 9.95 * t


def recursion(points, eps, eta, mean):
    """W2 to p_t after each Euler-Maruyama step from N(0, I), written out in t."""
    t = 1 - (1 - eps) * np.arange(points) / (points - 1)
    h = (1 - eps) / (points - 1)
    decay = np.exp(-(0.05 * t + 9.95 * t**2 / 2))
    lambdas = np.array(VALUES)
    v = np.ones(6)
    m = np.zeros(6)
    found = []
    for k in range(points):
        goal = decay[k] ** 2 * lambdas + 1 - decay[k] ** 2
        centre = decay[k] * mean
        found.append(np.sqrt(((np.sqrt(v) - np.sqrt(goal)) ** 2 + (m - centre) ** 2).sum()))
        b = rate(t[k])
        factor = 1 + h * b * (1 - 2 * (1 + eta) / goal)
        m = factor * m + 2 * h * b * (1 + eta) / goal * centre
        v = factor**2 * v + 2 * h * b
    return found


def test_a_wrong_score_and_a_mean_against_a_recursion():
    mean = np.array([0.5, -1.0, 0.0, 2.0, 0.3, -4.0])
    spectrum = Spectrum(VALUES, mean=torch.tensor(mean))
    eta = np.array([0.1, -0.1, 0.05, 0.0, 0.2, -0.02])
    sigmas = levels(CHART, 40, 1e-2)
    (curve,) = schemes(spectrum, CHART, samplers("EM"), sigmas, ["N_0"], torch.tensor(eta))
    assert curve.w2.tolist() == pytest.approx(recursion(40, 1e-2, eta, mean), rel=1e-9)
    assert curve.deviation is None


def test_draws_of_a_random_error_are_averaged():
    draws = several(0.05, 6, 3, 4)
    sigmas = levels(CHART, 20, 1e-2)
    mean = torch.arange(6, dtype=torch.float64)
    spectrum = Spectrum(VALUES, mean=mean)
    (curve,) = schemes(spectrum, CHART, samplers("EM"), sigmas, ["N_0"], draws)
    each = [recursion(20, 1e-2, eta.numpy(), mean.numpy()) for eta in draws.errors]
    assert curve.w2.tolist() == pytest.approx(np.mean(each, 0).tolist(), rel=1e-9)
    deviations = np.std(each, 0, ddof=1).tolist()
    assert curve.deviation.tolist() == pytest.approx(deviations, rel=1e-9, abs=1e-15)


def test_the_way_ends_in_the_table():
    made = samplers("EM", "EI", "Euler", "Heun", "RK4", "DDIM", "DDPM")
    sigmas = levels(CHART, 30, 1e-2)
    curves = schemes(SPECTRUM, CHART, made, sigmas)
    words = {name: scheme(name, CHART) for name in made}
    cells = ablation(SPECTRUM, CHART, words, [1e-2], [30], against="p_eps")
    ends = {(c.scheme, c.start): c.distances["w2"] for c in cells if c.points}
    assert len(curves) == len(ends) == 14
    for curve in curves:
        assert float(curve.w2[-1]) == pytest.approx(ends[curve.name, curve.start], rel=1e-9)


def test_the_command(inside, tmp_path):
    np.save(tmp_path / "s.npy", VALUES)
    words = "theory gaussian spectrum=s.npy along=true schemes=[EM,Heun] eps=[0,1e-3]".split()
    done = inside(*words, "grid_points=[50,20]", "count=steps", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert (
        "| SDE | N_0   | 0.00213667 | 3.03633e-05 | 8.68077e-05 | 9.14455e-05 | 9.1534e-05 |"
        in done.stdout
    )
    rows = list(csv.DictReader((tmp_path / "run" / "along.csv").open()))
    last = [
        row for row in rows if (row["name"], row["start"], row["points"]) == ("EM", "p_T", "51")
    ]
    assert len(last) == 51 and f"{float(last[-1]['w2']):.6f}" == "0.438691"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["along/worst_w2/ODE@points=continuous,start=N_0"] == pytest.approx(
        2.130904e-2, rel=1e-6
    )
    assert metrics["along/worst_t/ODE@points=continuous,start=N_0"] == 0
    picture = (tmp_path / "run" / "figures" / "along.png").read_bytes()
    assert len(picture) > 10_000


def test_other_starts_are_refused(inside, tmp_path):
    np.save(tmp_path / "s.npy", np.eye(2))
    done = inside("theory", "gaussian", "spectrum=s.npy", "start=s.npy", "along=true")
    assert done.returncode == 2 and "leave start=s.npy out" in done.line
    assert not list(tmp_path.rglob("config.yaml"))
