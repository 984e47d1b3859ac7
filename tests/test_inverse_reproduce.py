"""The mixture benchmark, what two algorithms move, and the published tables."""

import json
from pathlib import Path

import pytest
import torch

from diffgeo.analytic.measurement import Measurement
from diffgeo.config.named import algorithm, algorithm_options
from diffgeo.data.gaussian import Gaussian
from diffgeo.errors import UsageError
from diffgeo.geometry.restoration import moves
from diffgeo.inverse.algorithms import diffpir, dps_yt, exact, tds
from diffgeo.inverse.condition import Measured
from diffgeo.inverse.operators import matrix
from diffgeo.sampler import DDPM
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.simulation.noise import Streams, keys
from diffgeo.theory.mcgdiff import FLOOR, compared, law_of, mean_of, problem_of

f64 = torch.float64


def test_the_mixture_is_that_of_the_paper():
    """25 unit Gaussians on a grid of 8, repeated; A = U diag(c) V' with c in (0, 1), s below its
    largest; the same seed, the same problem."""
    law = law_of(6, 3)
    assert law.means.shape == (25, 6)
    assert set(law.means.unique().tolist()) == {-16, -8, 0, 8, 16}
    for start in (2, 4):
        assert torch.equal(law.means[:, start : start + 2], law.means[:, :2])
    assert len({tuple(mean) for mean in law.means.tolist()}) == 25
    assert torch.equal(law.covariances[7], torch.eye(6, dtype=f64))
    for seed in range(20):
        told = problem_of(8, 4, seed).measurement
        values = told.operator.values
        assert float(values.max()) < 1 and float(values.min()) > 0
        assert 0 < told.sigma_n < float(values.max())
    one, two = problem_of(8, 2, 5), problem_of(8, 2, 5)
    assert torch.equal(one.measurement.y, two.measurement.y)
    assert not torch.equal(one.truth, problem_of(8, 2, 6).truth)
    for wrong in (lambda: law_of(7, 0), lambda: law_of(800, 0), lambda: problem_of(8, 9, 0)):
        with pytest.raises(UsageError, match="write"):
            wrong()


def test_the_exact_denoiser_comes_to_the_floor_of_the_mixture():
    """One problem, 200 samples, 60 steps: floor .85, exact 1.12, DiffPIR 6.37; of the modes .05,
    .05, .40."""
    every = {"exact": exact(), "diffpir": diffpir(zeta=1.0)}
    found = compared([problem_of(8, 1, 1)], every, DDPM(), VE().grid(60), 200)
    (floor,) = found[FLOOR].distance
    assert found["exact"].distance[0] < 2 * floor
    assert found["diffpir"].distance[0] > 4 * floor
    assert found["exact"].modes[0] < 0.1 < 0.3 < found["diffpir"].modes[0]
    assert found["exact"].nfe == [60.0]


def test_means_leave_out_what_diverged():
    assert mean_of([1.0, None, 3.0]) == (2.0, pytest.approx(1.0))
    assert mean_of([None]) == (None, None)
    assert mean_of([2.0]) == (2.0, None)


@pytest.fixture(scope="module")
def told():
    law = Gaussian([0.5, -1.0], [[2.0, 0.5], [0.5, 1.0]])
    operator = matrix(shape=(2,), entries=[[1.0, 0.5]])
    measurement = Measurement(operator, torch.tensor([[1.5]], dtype=f64), 0.3)

    def simulation(chosen, sigmas):
        condition = Measured(measurement, chosen, law, draws=100)
        return Simulation(DDPM(), law.denoiser(), sigmas, (2,), condition=condition)

    return law, measurement, simulation


def test_diffpir_moves_the_estimate_and_the_state_through_it_alone(told):
    """|D^ - D| is the prox's own correction, and x' moves by (1 - sqrt(1 - zeta) sigma'/sigma) of
    it, from one noise to another."""
    law, measurement, simulation = told
    zeta = 0.3
    sigmas = VE().grid(6)
    found = moves(simulation(diffpir(zeta=zeta), sigmas), range(20))
    levels = sigmas.tolist()
    a = measurement.operator.entries
    for k in range(5):
        sigma, below = levels[k], levels[k + 1]
        denoised = law.denoiser()(found.states[k], sigma)
        gain = a.mT * sigma**2 / (a.square().sum() * sigma**2 + 0.3**2)
        move = (1.5 - denoised @ a.mT) @ gain.mT
        assert (found.of_estimate[k] - move.norm(dim=1)).abs().max() < 1e-10
        share = 1 - (1 - zeta) ** 0.5 * below / sigma
        expected = share * move.norm(dim=1) / (1 + below**2) ** 0.5
        assert (found.of_state[k] - expected).abs().max() < 1e-6  # sigma_n = 1e8 is not infinite
    assert (found.of_estimate[5] == 0).all()  # the step to 0 takes D as it is


def test_dps_yt_moves_the_state_alone(told):
    """D^ = D to the last bit, and the states are those of a plain run of the same simulation."""
    _, _, simulation = told
    own = simulation(dps_yt(), VE().grid(6))
    found = moves(own, range(20))
    assert (found.of_estimate == 0).all()
    assert (found.of_state[:-1] > 0).all()
    assert torch.equal(found.states, own.trajectory(range(20)).x)


def test_what_cannot_be_taken_apart_is_refused(told):
    law, _, simulation = told
    with pytest.raises(UsageError, match="one-step methods"):
        moves(simulation(tds(), VE().grid(4)), range(2))
    plain = Simulation(DDPM(), law.denoiser(), VE().grid(4), (2,))
    with pytest.raises(UsageError, match="no measurement"):
        moves(plain, range(2))


def test_noise_is_handed_out_again():
    from diffgeo.geometry.restoration import Remembered

    noise = Remembered(Streams(keys(0, range(3)), (2,)))
    first = [noise(), noise()]
    again = noise.again()
    assert torch.equal(again(), first[0]) and torch.equal(again(), first[1])
    assert not torch.equal(again(), first[0])


def test_an_algorithm_by_name():
    assert algorithm("diffpir", {"zeta": 0.7}) == diffpir(zeta=0.7)
    for name, options, said in (
        ("none", {}, "`diffgeo help algorithm` lists the"),
        ("diffpir", {"eta": 1}, r"no option eta: did you mean zeta\?"),
        ("diffpir", {"gain": 1}, "write one of zeta, lam"),
        ("diffpir", {"zeta": 2}, "from 0 to 1"),
    ):
        with pytest.raises(UsageError, match=said):
            algorithm(name, options)
    for wrong, said in (
        (3, "write options.diffpir.zeta"),
        ({"diffpir": 1}, "write options.diffpir.zeta"),
        ({"none": {}}, "options.none: there is no such algorithm; `diffgeo help algorithm` lists"),
        ({"difpir": {}}, r"options.difpir: there is no such algorithm: did you mean diffpir"),
    ):
        with pytest.raises(UsageError, match=said):
            algorithm_options(wrong)


def test_theory_mcgdiff(made):
    line = "theory mcgdiff problems=2 n=40 sampler.steps=8 sampler.schedule=karras "
    line += "algorithms=exact,ddrm hydra.run.dir=mcg"
    folder = made(line) / "mcg"
    values = json.loads((folder / "metrics.json").read_text())
    rows = (folder / "problems.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2
    exact_rows = [float(row.split(",")[2]) for row in rows if row.startswith("exact")]
    assert values["sliced_w2/exact"] == pytest.approx(sum(exact_rows) / 2)
    assert values["nfe/exact"] == 8 and values["diverged/ddrm"] == 0


def test_trajectory_restore(made):
    line = "trajectory restore n=50 sampler.steps=10 figures=false hydra.run.dir=moves"
    folder = made(line) / "moves"
    values = json.loads((folder / "metrics.json").read_text())
    assert values["moved/estimate/dps_yt"] == 0 < values["moved/estimate/diffpir"]
    assert values["moved/state/dps_yt"] > values["moved/state/diffpir"]
    rows = (folder / "moves.csv").read_text().splitlines()
    own = [float(row.split(",")[2]) for row in rows if row.startswith("diffpir")]
    assert values["moved/estimate/diffpir"] == pytest.approx(sum(own))


@pytest.mark.parametrize(
    "words, said",
    [
        ("trajectory restore algorithms=dps", "does not look at sigma_n"),
        ("theory mcgdiff +options.dps.eta=1", "no option eta: did you mean zeta?"),
        ("theory mcgdiff model=cem", "does not look at model=: its laws are mixtures"),
        pytest.param("trajectory restore sigma_n=0", "above 0", marks=pytest.mark.slow),
        pytest.param("trajectory restore y=[1,2]", "measures [1]", marks=pytest.mark.slow),
        pytest.param("theory mcgdiff d=7", "an even number", marks=pytest.mark.slow),
        pytest.param("theory mcgdiff algorithms=none", "help algorithm", marks=pytest.mark.slow),
    ],
)
def test_mistakes_are_told_and_leave_no_folder(inside, tmp_path, words, said):
    done = inside(*words.split())
    assert done.returncode == 2 and said in done.line
    assert not Path(tmp_path, "outputs").exists()


def test_the_published_tables_are_printed_beside_what_makes_them_unequal(made):
    text = (made("reproduce inverse/published out=table") / "table" / "table.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    by_name = {row[1].strip(): [cell.strip() for cell in row[2:]] for row in rows}
    assert by_name["FFHQ .05, Gaussian deblurring, DiffPIR 100"][0::2][:3] == [
        "27.36",
        "59.65",
        "0.236",
    ]
    assert by_name["DPS"][1] == "0.05" and by_name["DiffPIR"][1] == "0.1"
