"""Restoration on Gaussian priors without Monte Carlo: the W2 table of the specification, and
`diffgeo theory restoration`, which prints it."""

import csv
import json

import numpy as np
import pytest
from inverse_cases import FOUR, G4, daps_by_flow, w2
from omegaconf import OmegaConf

from diffgeo.commands.theory.restoration_problem import entries, problem_of
from diffgeo.errors import UsageError
from diffgeo.inverse import algorithms
from diffgeo.sampler import DDPM, Euler
from diffgeo.schedule import VE
from diffgeo.theory import restoration

STEPS = (5, 10, 20, 50, 100, 300)
# as printed, to a unit of the last digit where that is coarser than 1e-3
TABLE = {
    "exact, DDIM": (
        algorithms.exact(),
        Euler(),
        (0.5402, 0.2693, 0.1379, 0.0567, 0.0299, 0.0143),
    ),
    "exact, DDPM": (
        algorithms.exact(),
        DDPM(),
        (0.6478, 0.4038, 0.2430, 0.1101, 0.0575, 0.0198),
    ),
    "PiGDM, DDIM": (
        algorithms.pigdm(),
        Euler(),
        (0.5827, 0.2815, 0.1565, 0.0945, 0.0824, 0.0791),
    ),
    "PiGDM, DDPM": (
        algorithms.pigdm(),
        DDPM(),
        (0.6524, 0.3970, 0.2354, 0.1040, 0.0548, 0.0282),
    ),
    "DiffPIR 0": (
        algorithms.diffpir(0.0),
        Euler(),
        (0.5422, 0.3192, 0.2668, 0.2664, 0.2722, 0.2776),
    ),
    "DiffPIR .3": (
        algorithms.diffpir(0.3),
        Euler(),
        (0.5527, 0.3236, 0.2387, 0.1779, 0.1333, 0.0701),
    ),
    "DiffPIR 1": (
        algorithms.diffpir(1.0),
        Euler(),
        (0.6284, 0.4469, 0.3696, 0.3259, 0.3137, 0.3070),
    ),
    "prox, DDPM": (
        algorithms.prox(),
        DDPM(),
        (0.6203, 0.3845, 0.2443, 0.1686, 0.1610, 0.1658),
    ),
    "JFPS, DDPM": (
        algorithms.jfps(),
        DDPM(),
        (0.6216, 0.3858, 0.2468, 0.1734, 0.1666, 0.1717),
    ),
    "DPS likelihood, DDIM": (
        algorithms.dps_likelihood(),
        Euler(),
        (138.0, 422.0, 19.3, 0.3729, 0.3726, 0.3734),
    ),
    # 265.53 at 50 steps, which the specification prints as 265
    "DPS likelihood, DDPM": (
        algorithms.dps_likelihood(),
        DDPM(),
        (141.0, 659.0, 6879.0, 265.53, 0.1949, 0.1710),
    ),
    "DPS-y_t": (
        algorithms.dps_yt(),
        Euler(),
        (0.6527, 0.4226, 0.2889, 0.2033, 0.1842, 0.1790),
    ),
    "DDRM": (
        algorithms.ddrm(informed=False),
        Euler(),
        (0.6792, 0.3661, 0.2571, 0.2124, 0.2119, 0.2305),
    ),
    "DAPS": (
        algorithms.daps(),
        Euler(),
        (3.33, 0.983, 0.3805, 0.1407, 0.0713, 0.0251),
    ),
    "DDNM, DDPM": (
        algorithms.ddnm(),
        DDPM(),
        (0.6550, 0.4419, 0.3384, 0.2937, 0.2898, 0.2922),
    ),
    "projection": (
        algorithms.projection(),
        Euler(),
        (0.6729, 0.4550, 0.3467, 0.2949, 0.2879, 0.2882),
    ),
}


def unit(printed: float) -> float:
    """What a printed number may be off by: 1e-3, or half a unit of its last digit."""
    if printed < 3:
        return 1e-3
    return 0.5 if printed > 100 and printed == round(printed) else 0.05


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_the_specification(name):
    """To 1e-3 at 5, 10 and 20 steps."""
    algorithm, sampler, printed = TABLE[name]
    for steps, expected in zip(STEPS[:3], printed, strict=False):
        found = w2(algorithm, sampler, VE().grid(steps))
        assert abs(found - expected) <= unit(expected), (steps, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_the_specification_at_many_steps(name):
    algorithm, sampler, printed = TABLE[name]
    for steps, expected in zip(STEPS[3:], printed[3:], strict=True):
        found = w2(algorithm, sampler, VE().grid(steps))
        assert abs(found - expected) <= unit(expected), (steps, found)


SEVEN = {
    "exact, DDIM": (0.1379280, 0.02993609),
    "DiffPIR .3": (0.2387360, 0.1332708),
    "PiGDM, DDPM": (0.2354155, 0.05478119),
    "DDRM": (0.2570875, 0.2119499),
    "DAPS": (0.3805467, 0.07129048),
}


@pytest.mark.parametrize("name", SEVEN)
def test_seven_digits_at_20_steps(name):
    algorithm, sampler, _ = TABLE[name]
    assert w2(algorithm, sampler, VE().grid(20)) == pytest.approx(SEVEN[name][0], abs=5.1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVEN)
def test_seven_digits_at_100_steps(name):
    algorithm, sampler, _ = TABLE[name]
    expected = SEVEN[name][1]
    unit = 5.1e-8 if expected > 0.1 else 5.1e-9
    assert w2(algorithm, sampler, VE().grid(100)) == pytest.approx(expected, abs=unit)


def test_mmps_is_exact_on_a_gaussian():
    for sampler in (Euler(), DDPM()):
        grid = VE().grid(10)
        exact = w2(algorithms.exact(), sampler, grid)
        assert w2(algorithms.mmps(), sampler, grid) == pytest.approx(exact, abs=1e-7)


def test_daps_with_the_flow_map():
    posterior = G4.given(FOUR.operator, FOUR.y, FOUR.sigma_n)
    for steps, expected in zip(STEPS[:5], (7.38, 2.30, 1.147, 0.6817, 0.5474), strict=True):
        law = daps_by_flow(G4, FOUR, VE().grid(steps))
        found = restoration.gap(law, posterior.mean, posterior.covariance).w2
        assert abs(found - expected) <= (5e-3 if steps < 20 else 1e-3), (steps, found)


def test_the_flow_map_of_daps_is_the_flow():
    """By Heun's rule, of second order: from 15 to 30 steps the error of the law falls by 4."""
    sigmas = VE().grid(3)
    right = daps_by_flow(G4, FOUR, sigmas).covariance

    def off(flow: int) -> float:
        law = restoration.restored(G4, FOUR, algorithms.daps(flow=flow), Euler(), sigmas)
        return float((law.covariance - right).norm() / right.norm())

    assert off(15) < 0.05
    assert off(15) / off(30) == pytest.approx(4, rel=0.3)


# the command

PROBLEM = (
    "mean=[.5,-1,0,2]",
    "covariance=C.npy",
    "operator.entries=[[1,0,1,0],[0,2,0,-1]]",
    "y=[1.5,-3]",
    "sigma_n=.3",
)


def test_the_command_prints_and_writes_the_table(inside, tmp_path):
    np.save(tmp_path / "C.npy", G4.covariance.numpy())
    done = inside(
        "theory",
        "restoration",
        *PROBLEM,
        "algorithm=[exact,{diffpir:{zeta:1}},{dps_yt:{implicit:false,lam:1e-9}}]",
        "sampler=[ddim,ddpm]",
        "steps=[5,20]",
        "out=t.csv",
        "hydra.run.dir=run",
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    about = [(row["algorithm"], row["options"], row["sampler"], row["steps"]) for row in rows]
    assert about[:4] == [
        ("exact", "", "ddim", "5"),
        ("exact", "", "ddim", "20"),
        ("exact", "", "ddpm", "5"),
        ("exact", "", "ddpm", "20"),
    ]
    assert about[4:6] == [
        ("diffpir", "zeta=1", "own step", "5"),
        ("diffpir", "zeta=1", "own step", "20"),
    ]
    found = [float(row["w2"]) for row in rows[:6]]
    assert found == pytest.approx([0.5402, 0.1379, 0.6478, 0.2430, 0.6284, 0.3696], abs=1e-3)
    assert rows[7]["w2"] == "inf"  # explicit, and far too long a step
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["w2/exact + ddim@20"] == found[1]
    assert written["w2/dps_yt implicit=false lam=1e-09@20"] is None
    assert "| diffpir zeta=1 " in done.stdout


def test_the_command_refuses_in_one_line(inside, tmp_path):
    np.save(tmp_path / "C.npy", G4.covariance.numpy())
    done = inside("theory", "restoration", *PROBLEM, "steps=3", "algorithm=dps")
    assert done.returncode == 2
    assert "not affine" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"y": [1]}, "measures \\[2\\]: write one y of that shape"),
        ({"y": None}, "y= is not set"),
        ({"sigma_n": -1}, "sigma_n=-1"),
        ({"covariance": None}, "covariance= is not set"),
        ({"covariance": [[1, 0], [0]]}, "covariance=.*: write numbers"),
        ({"mean": [1, 2]}, "write 4 means"),
        ({"data": {}}, "two priors"),
    ],
)
def test_what_is_no_problem(words, said):
    matrix = {
        "_target_": "diffgeo.inverse.operators.matrix",
        "_partial_": True,
        "entries": [[1, 0, 1, 0], [0, 2, 0, -1]],
    }
    asked = {"mean": None, "covariance": G4.covariance.tolist(), "data": None, "operator": matrix}
    with pytest.raises(UsageError, match=said):
        problem_of(OmegaConf.create(asked | {"y": [1.5, -3], "sigma_n": 0.3} | words))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"diffpir": {"zeta": 2}}], "a number from 0 to 1"),
        ([{"diffpir": {"z": 2}}], "has no option z"),
        ([{"diffpir": 3}], "write its options"),
        (["exact", "exact"], "twice"),
        (["nothing"], "no algorithm nothing"),
        ([3], "algorithm=3 is not a word"),
        ([], "is empty"),
    ],
    ids=str,
)
def test_what_is_no_list_of_algorithms(value, said):
    with pytest.raises(UsageError, match=said):
        entries(OmegaConf.create(value))
