"""Distillation: what each method wants, by the formulas that say so, and students that learn it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from diffgeo.analytic.exact import Exact
from diffgeo.core import generator
from diffgeo.data import Points
from diffgeo.errors import UsageError
from diffgeo.geometry import distillation as asked
from diffgeo.geometry import lessons, students
from diffgeo.metrics.coupled import apportioned, beside, chi2, reference, truth
from diffgeo.nn import MLP
from diffgeo.sampler import DDPM, DPMpp2M, Euler, Heun
from diffgeo.sampler.adaptive import RK45
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.training import Trainer
from diffgeo.training.optim import Cosine

POINTS8 = Points(
    [[-2, 0], [-1.2, 1.6], [-1.2, -1.6], [0, 2], [0, -2], [1.2, 1.6], [1.2, -1.6], [2, 0]]
)
ANGLE = torch.arange(8, dtype=torch.float64) * torch.pi / 4
CIRCLE8 = Points(torch.stack([ANGLE.cos(), ANGLE.sin()], 1))


def teacher(law, steps=16, sampler=None, **grid):
    levels = VE(**({"sigma_min": 0.01, "sigma_max": 10.0} | grid)).grid(steps)
    return Simulation(sampler or Heun(), law.denoiser(), levels, tuple(law.shape))


def gathered(simulation, law, n=16):
    found = {}
    for target in asked.targets(simulation, law, range(n)):
        found.setdefault(target.method, []).append(target)
    return found


# The targets


def test_one_euler_step_from_the_state_to_pds_target_lands_where_the_teachers_two_do():
    """(x'' - q x)/(1 - q), q = s''/s: D + q (x - D) = x''."""
    simulation = teacher(POINTS8)
    for target in gathered(simulation, POINTS8)["PD"]:
        k = int((simulation.sigmas == target.level).nonzero())
        below = float(simulation.sigmas[k + 2])  # 16 steps: those of the finest student are two
        x = target.path.x[0]
        landed = target.answer + below / target.level * (x - target.answer)
        torch.testing.assert_close(landed, target.path.x[2], rtol=0, atol=1e-12)


def test_pds_target_is_the_mean_of_d_along_the_path_with_weight_u_to_the_minus_2():
    """On a fine path of Heun between 2 and 1, by the trapezoid rule in 1/u."""
    fine = torch.linspace(0.5, 1, 501, dtype=torch.float64).reciprocal()
    simulation = replace(teacher(POINTS8), sigmas=fine)
    x = POINTS8.sample(32, generator(1)) + 2 * torch.randn(32, 2, generator=generator(2)).double()
    states, denoised = asked.walked(simulation, x, 0)
    denoised.append(simulation.denoise(states[-1], 1.0))
    mean = torch.trapezoid(torch.stack(denoised), 1 / fine, dim=0) / 0.5
    said = asked.secant(states[0], states[-1], 0.5)
    torch.testing.assert_close(said, mean, rtol=0, atol=2e-5)


def test_on_an_exact_flow_cd_is_told_the_same_all_along_a_path():
    """x_0 of N(0, v I) is x (v/(v + s^2))^(1/2): closed, and from every later state of the path."""
    variance = 0.7
    end = lambda x, s: x * (variance / (variance + s**2)) ** 0.5  # noqa: E731
    law = Exact(lambda x, s: x * (variance / (variance + s[:, None] ** 2)), (3,))
    x = 5 * torch.randn(8, 3, generator=generator(3), dtype=torch.float64)
    simulation = Simulation(Heun(), law, VE(sigma_min=0.01, sigma_max=5.0).grid(512), (3,))
    way = asked.path(simulation, x, 0)
    for k in (0, 100, 400):
        torch.testing.assert_close(
            end(way.x[k], float(simulation.sigmas[k])), way.end, rtol=0, atol=2e-4
        )
    solved = gathered(teacher(POINTS8), POINTS8)["CD, solved"]
    assert all(torch.equal(target.answer, target.path.end) for target in solved)


def test_the_mean_of_cts_lower_point_is_eulers_step_of_the_exact_denoiser():
    """sum_i p_i (a_i + s' (x - a_i)/s), the posterior weights by their definition; and its
    variance is (1 - s'/s)^2 tr Cov."""
    s, below = 1.3, 0.8
    x = torch.randn(20, 2, generator=generator(4), dtype=torch.float64)
    atoms = POINTS8.atoms
    weight = torch.softmax(-((x[:, None] - atoms) ** 2).sum(-1) / (2 * s**2), 1)
    lower = atoms + below * (x[:, None] - atoms) / s
    mean = (weight[..., None] * lower).sum(1)
    levels = torch.tensor([s, below], dtype=torch.float64)[:, None].expand(2, 20)
    step = lessons.euler(POINTS8.denoiser(), x, *levels)
    torch.testing.assert_close(mean, step, rtol=0, atol=1e-12)
    spread = (weight * ((lower - mean[:, None]) ** 2).sum(-1)).sum(1)
    posterior = (weight[..., None] * atoms).sum(1)
    trace = (weight * ((atoms - posterior[:, None]) ** 2).sum(-1)).sum(1)
    torch.testing.assert_close(spread, (1 - below / s) ** 2 * trace, rtol=1e-10, atol=0)


def test_reflows_velocity_is_x_t_over_t_minus_x_0_on_the_segment():
    start = torch.tensor([[3.0, 4.0]])
    end = torch.tensor([[1.0, 0.0]])
    state, velocity = asked.straight(start, end, torch.tensor([0.25]))
    assert state.tolist() == [[1.5, 1.0]] and velocity.tolist() == [[2.0, 4.0]]
    simulation = teacher(POINTS8)
    (target,) = gathered(simulation, POINTS8)["reflow"]
    torch.testing.assert_close(target.answer, target.path.end, rtol=0, atol=1e-14)


def test_where_the_targets_lie():
    """KD on the end, DFNO on the sampling path, PD on a secant of it, CD on the denoising path, or
    on its end once it is solved; CT on none."""
    places = {
        method: [asked.placed(target) for target in found]
        for method, found in gathered(teacher(POINTS8), POINTS8, 64).items()
    }
    assert {method: asked.lies_on(levels) for method, levels in places.items()} == {
        "KD": "its end",
        "DFNO": "sampling path",
        "reflow": "its end",
        "PD": "a secant",
        "CD, begun": "denoising path",
        "CD, solved": "its end",
        "CT, begun": "none",
        "CT, solved": "none",
    }
    # PD's point is a mean over the denoising path: much nearer to it than to the chord
    off = {name: max(float(p.off_chord.mean()) for p in places[name]) for name in places}
    near = max(float(p.off_denoising.mean()) for p in places["PD"])
    assert near < 0.15 * off["PD"] and off["DFNO"] > 0.3


def test_an_isotropic_gaussian_has_every_target_on_the_chord():
    """Its paths are straight in VE and so is its denoising path; CT's draws are off it still."""
    exact = Exact(lambda x, s: x * (2.0 / (2.0 + s[:, None] ** 2)), (2,))
    simulation = replace(teacher(POINTS8), denoise=exact)
    law = Points([[1.0, 2.0], [-1.0, 0.5]])  # whatever draws x0
    for method, found in gathered(simulation, law).items():
        worst = max(float((p.off_chord / p.chord).max()) for p in map(asked.placed, found))
        assert (worst < 1e-12) == (not method.startswith("CT")), method


def test_distances_to_a_line_and_to_a_broken_one():
    p = torch.tensor([[0.0, 3.0], [6.0, 4.0], [0.0, 1.0]])
    a = torch.zeros(3, 2)
    b = torch.tensor([[4.0, 0.0]] * 3)
    assert asked.to_line(p, a, b).tolist() == [3, 4, 1]
    assert asked.to_piece(p, a, b).tolist() == pytest.approx([3, 20**0.5, 1])
    assert asked.to_pieces(p, torch.stack([a, b, b + torch.tensor([0.0, 4.0])])).tolist() == [
        3,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("simulation", "says"),
    [
        (teacher(POINTS8, sampler=RK45()), "adaptive"),
        (teacher(POINTS8, sampler=DPMpp2M()), "multistep"),
        (teacher(POINTS8, sampler=DDPM()), "stochastic"),
        (teacher(POINTS8, to_zero=False), "to_zero=true"),
        (teacher(POINTS8, steps=24), "multiple of 16"),
    ],
)
def test_what_is_no_teacher_is_refused(simulation, says):
    with pytest.raises(UsageError, match=says):
        asked.check(simulation)


# The teacher's own few evaluations: spec section 6, measured there on another draw


def test_the_exact_teachers_own_jump_and_euler_rows():
    """Spec: off the atoms .939 with one evaluation, Euler .430 and .068 with 2 and 4, the jump .005
    and .000. Euler ends at .01 there: 2 and 4 of its steps by that grid are here to the digit."""
    simulation = teacher(CIRCLE8, 32)
    school = lessons.School(simulation, CIRCLE8, 8, 4000)
    own = students.own(school, lambda: simulation.start(range(4000)))
    off = {(a.method, a.nfe): float(CIRCLE8.distance(a.samples).mean()) for a in own}
    assert off["jump", 1] == off["Euler", 1] == pytest.approx(0.939, abs=0.001)
    assert off["jump", 2] == pytest.approx(0.005, abs=0.004) and off["jump", 4] < 5e-4
    for steps, said in ((1, 0.927), (2, 0.430), (4, 0.068)):
        levels = VE(sigma_min=0.01, sigma_max=10.0, to_zero=False).grid(steps)
        end = replace(simulation, sampler=Euler(), sigmas=levels).draw(range(4000)).samples
        assert float(CIRCLE8.distance(end).mean()) == pytest.approx(said, abs=0.006)


# The students


def taught(method, updates=60, law=CIRCLE8, seed=0, n=200):
    simulation = teacher(law, 16)
    school = lessons.School(simulation, law, 1000, n)
    trainer = Trainer(
        steps=updates, batch=128, lr=1e-3, muon=0.03, rate=Cosine(0.0), warmup=10, ema=0.0
    )
    about = students.Class(partial(MLP, width=32, depth=2), trainer, law.std, seed)
    found = students.METHODS[method](school, about, lambda: simulation.start(range(n)))
    end = simulation.draw(range(n)).samples
    return {a.nfe: float((a.samples - end).square().sum(1).mean().sqrt()) for a in found}


@pytest.mark.parametrize(
    ("method", "nfes"),
    [
        ("KD", [1]),
        pytest.param("DFNO", [1], marks=pytest.mark.slow),
        pytest.param("reflow", [1, 2, 4], marks=pytest.mark.slow),
        pytest.param("PD", [1, 2, 4, 8], marks=pytest.mark.slow),
        pytest.param("CD", [1, 2, 4], marks=pytest.mark.slow),
    ],
)
def test_a_student_comes_nearer_to_its_teacher(method, nfes):
    """A draw of its own would be 1.4 away, the mean of the law 1."""
    found = taught(method, 100 if method == "KD" else 200)
    assert list(found) == nfes and found[1] < 0.6


def test_the_same_seed_gives_the_same_students_and_another_does_not():
    first, again, other = (taught("CT", 8, seed=seed) for seed in (0, 0, 1))
    assert first == again and first != other


def test_a_student_that_has_learnt_all_gives_the_teacher_back():
    """The true functions in the students' place: every way to sample them ends where the teacher
    does. One Gaussian, where all of them are closed."""
    v = 0.5
    top = 10.0
    levels = torch.tensor([top, 3.0, 0.8, 0.1, 0.0], dtype=torch.float64)
    z = torch.randn(5, 2, generator=generator(6), dtype=torch.float64)
    end = top * z * (v / (v + top**2)) ** 0.5

    def progressive(x, s):  # the secant of the flow between s and the next level
        s = float(torch.as_tensor(s).flatten()[0])
        below = float(levels[levels < s - 1e-9].max())
        x_below = x * ((v + below**2) / (v + s**2)) ** 0.5
        return asked.secant(x, x_below, below / s)

    torch.testing.assert_close(students.down(progressive, top * z, levels), end)
    velocity = lambda x, t: z - end  # noqa: E731  # of the segment that each is on
    torch.testing.assert_close(students.forward(velocity, z, 4), end)


def test_the_boundary_of_cd_and_ct_is_the_point_itself():
    said = students.consistent(
        lambda x, s: x + 1 + 0 * s[:, None], torch.zeros(2, 2), torch.tensor([0.0, 2.0])
    )
    assert said.tolist() == [[0, 0], [1, 1]]


def test_dfno_says_x_t_at_the_top_and_reads_level_0():
    reading = students.Parallel(10.0, 0.01, 1.0)
    skip, out, _, noise = reading(torch.tensor([10.0, 0.0]))
    assert skip.tolist() == [1, 0] and out.tolist() == [0, 1] and bool(noise.isfinite().all())


# The numbers of a cloud


def test_n_points_stand_for_a_law_by_largest_remainders():
    assert apportioned(10, torch.tensor([0.5, 0.25, 0.25])).tolist() == [5, 3, 2]
    assert apportioned(7, torch.tensor([1.0, 1.0, 1.0])).tolist() == [3, 2, 2]
    law = Points([[0.0], [1.0]], weights=[0.25, 0.75])
    assert np.array_equal(reference(law, 4, 0), [[0], [1], [1], [1]])


def test_w2_prefers_a_blurred_cloud_to_one_with_a_true_samples_counts():
    """Two atoms at 0 and 1, 10 points: exactly on them by 7 and 3, W2^2 = 2/10, all of it counts;
    the two in excess halfway, W2^2 = 2 (1/2)^2/10, though a tenth off the support in the mean."""
    law = Points([[0.0], [1.0]])
    sharp = torch.tensor([[0.0]] * 7 + [[1.0]] * 3).double()
    blurred = torch.tensor([[0.0]] * 5 + [[0.5]] * 2 + [[1.0]] * 3).double()
    table = reference(law, 10, 0)
    exact = beside(sharp, sharp, law, table)
    soft = beside(blurred, sharp, law, table)
    assert exact["w2"] == exact["w2_counts"] == pytest.approx(0.2**0.5) and exact["distance"] == 0
    assert soft["w2"] == pytest.approx(0.05**0.5) and soft["distance"] == pytest.approx(0.1)
    assert soft["coupled"] == pytest.approx(0.05**0.5)
    assert chi2(sharp, law) == pytest.approx(2 * 2**2 / 5)


def test_true_samples_have_k_minus_1_in_chi2():
    mean, spread = truth(CIRCLE8.sample(500, generator(9)), CIRCLE8, 3)
    assert mean["distance"] == 0 and mean["w2"] == mean["w2_counts"]
    assert abs(mean["chi2"] - 7) < 4 * (14 / 8) ** 0.5 and spread["chi2"] > 0


# The command


LINE = ["trajectory", "distill", "updates=4", "pairs=40", "n=60", "paths=8", "student.batch=16"]


def test_the_command_gives_the_same_bytes_again_and_names_what_it_is_of(inside, tmp_path):
    line = [*LINE, "data=points8", "methods=KD,PD", "sampler.steps=16", "figures=false"]
    first = inside(*line, "hydra.run.dir=a")
    assert first.returncode == 0, first.stderr
    assert "exact denoiser of points8 in R^2, Heun" in first.stdout and "seed 0" in first.stdout
    assert inside(*line, "hydra.run.dir=b").returncode == 0
    for name in ("metrics.json", "students.csv", "targets.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    values = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert values["students/teacher@31/w2"] == values["students/teacher@31/w2_counts"]
    assert values["students/KD@1/coupled"] > values["students/jump@2/coupled"]


@pytest.mark.slow
def test_a_run_teaches_and_its_own_training_is_not_the_students(inside, tmp_path):
    """Of a run trained for 30 steps, students have the 8 updates that are asked for."""
    train = ["train", "data=points2", "model=edm", "trainer.steps=30", "n=20", "metrics=quick"]
    assert inside(*train, "figures=false", "sampler.steps=3", "hydra.run.dir=net").returncode == 0
    line = [*LINE, "run=net", "methods=KD", "updates=8", "sampler.steps=16"]
    done = inside(*line, "sampler.schedule.sigma_max=10", "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    assert "teacher: learned denoiser" in done.stdout and "each student: 8 updates" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("law", ["points8", "digits", "mixture"])
def test_every_kind_of_law_is_taught_and_drawn(inside, tmp_path, law):
    """Atoms have counts by atom, digits by the class of the nearest, a mixture none (null, no
    nan)."""
    done = inside(*LINE, f"data={law}", "label=null", "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    assert ("labels are ignored" in done.stdout) == (law == "digits")
    drawn = {path.name for path in (tmp_path / "a" / "figures").iterdir()}
    assert drawn == {"targets.png", "students.png"}
    values = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert (values["students/CD@4/chi2"] is None) == (law == "mixture")
    if law == "digits":
        assert values["students/teacher@63/distance"] < 1e-6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["updates=3"], "PD shares them out"),
        (["methods=KD,XD"], "methods=XD: did you mean CD, KD or PD?"),
        (["pairs=400000000"], "pairs="),
        (["student.ema=0.99"], "student.ema=0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(inside, tmp_path, options, says):
    done = inside("trajectory", "distill", "data=points8", *options, "hydra.run.dir=out")
    assert done.returncode == 2 and says in done.line
    assert not (tmp_path / "out").exists()
