"""`diffgeo restore`: what is restored, in which groups, what it costs, what it writes."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import composed
from omegaconf import OmegaConf

from diffgeo.commands.restore.asked import asked
from diffgeo.commands.restore.problem import posed
from diffgeo.core import generator
from diffgeo.data.gaussian import Gaussian
from diffgeo.data.images import Images
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.inverse import algorithms, operators
from diffgeo.inverse.budget import affordable, evaluations
from diffgeo.inverse.restoration import Restoration, check_finite
from diffgeo.run import Job
from diffgeo.sampler import DDPM, Euler, Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

f64 = torch.float64
PAIR = operators.matrix(shape=(2,), entries=[[1.0, 0.5]])


def pictures(count: int = 40, channels: int = 1, split: str = "train") -> Images:
    pixels = torch.randint(
        256, (count, channels, 8, 8), generator=generator(len(split)), dtype=torch.uint8
    )
    return Images(pixels, name="toy", split=split)


def line(**options):
    """What `asked` looks at of a config."""
    nothing = {"image": "draw", "images": 1, "split": None, "y": None, "seed": 0}
    return OmegaConf.create(nothing | options)


def of_images(algorithm, operator=None, draws: int = 1, **options) -> Restoration:
    law = pictures()
    operator = operator or operators.pool(shape=law.shape, factor=4)
    found = asked(line(images=40), law, operator, 0.1)
    simulation = Simulation(Euler(), law.denoiser(), VE().grid(6), law.shape, seed=3)
    return Restoration(
        simulation, algorithm, operator, 0.1, found.measured, 40, law, draws, **options
    )


def together(restoration: Restoration, images: range) -> torch.Tensor:
    return torch.cat([part.draws for part in restoration.parts(images)])


# groups


@pytest.mark.parametrize("name", ["exact", "diffpir", "ddrm", "pigdm"])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_bytes_of_an_image_are_the_same_alone_and_among_others(name, draws):
    restoration = of_images(getattr(algorithms, name)(), draws=draws)
    eight = together(restoration, range(8, 16))
    for number in (8, 11, 15):
        alone = together(restoration, range(number, number + 1))
        assert torch.equal(alone[0], eight[number - 8])
    assert torch.equal(together(restoration, range(10, 13)), eight[2:5])
    assert not torch.equal(eight[0], eight[1])


def test_groups_are_of_numbers_and_whole():
    one = of_images(algorithms.diffpir())
    assert one.groups(range(3, 4)) == [range(0, 8)]
    assert one.groups(range(7, 17)) == [range(0, 8), range(8, 16), range(16, 24)]
    assert one.groups(range(39, 40)) == [range(32, 40)]
    assert of_images(algorithms.diffpir(), draws=3).groups(range(3)) == [range(0, 2), range(2, 4)]
    assert of_images(algorithms.diffpir(), draws=30).groups(range(3)) == [
        range(0, 1),
        range(1, 2),
        range(2, 3),
    ]
    assert of_images(algorithms.diffpir(), batch=20).groups(range(3)) == [range(0, 20)]


def test_an_operator_of_each_image_is_told_to_that_image_alone():
    """Motion blur is seeded an image: a group is one image, and its measurement has its kernel."""
    operator = operators.motion(shape=(1, 8, 8), seed=1, size=5)
    restoration = of_images(algorithms.exact(), operator)
    assert restoration.groups(range(2)) == [range(0, 1), range(1, 2)]
    told = restoration.told(range(1, 2)).condition.measurement
    x = torch.rand(1, 1, 8, 8, generator=generator(0), dtype=f64)
    assert torch.equal(told.operator(x), operator.of_image(1)(x))
    assert not torch.equal(told.operator(x), operator.of_image(0)(x))


def test_draws_of_a_point_in_batches_are_those_of_one_batch_in_law_and_number():
    law = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    simulation = Simulation(Euler(), law.denoiser(), VE().grid(5), law.shape, seed=1)
    y = torch.tensor([1.2], dtype=f64)
    whole = Restoration(
        simulation, algorithms.exact(), PAIR, 0.4, lambda number: y, None, law, draws=10
    )
    parts = Restoration(
        simulation, algorithms.exact(), PAIR, 0.4, lambda number: y, None, law, draws=10, batch=4
    )
    one = together(whole, range(2))
    other = together(parts, range(2))
    assert one.shape == (2, 10, 2)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_draw_that_diverges_is_said():
    draws = torch.tensor([[1.0, 2.0], [torch.inf, 0.0], [0.0, torch.nan]])
    with pytest.raises(DiffgeoError, match="2 of 3 draws are not finite: the algorithm diverged"):
        check_finite(draws)
    check_finite(draws[:1])
    with pytest.raises(DiffgeoError, match="1 of 1 draws are not finite"):
        check_finite(torch.tensor([[1e200, 0.0]], dtype=torch.float64))  # its square is not


# cost


@pytest.mark.parametrize(
    "algorithm, sampler, taken, steps",
    [
        (algorithms.exact(), Euler(), 10, 100),
        (algorithms.exact(), Heun(), 19, 50),
        (algorithms.diffpir(), Euler(), 10, 100),
        (algorithms.ddrm(), Euler(), 10, 100),
        (algorithms.daps(), Euler(), 10, 100),
        (algorithms.pigdm(), DDPM(), 20, 50),
        (algorithms.dps_likelihood(), Euler(), 20, 50),
        (algorithms.dps(), Euler(), 20, 50),
    ],
)
def test_what_a_draw_takes_and_how_many_steps_a_hundred_evaluations_are(
    algorithm, sampler, taken, steps
):
    """A prox is free, a product with the Jacobian is an evaluation; the count is that of a run on
    the law itself."""
    law = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    simulation = Simulation(sampler, law.denoiser(), VE().grid(10), law.shape)
    assert evaluations(simulation, algorithm, PAIR, 0.4) == taken
    y = torch.tensor([1.2], dtype=f64)
    own = Restoration(simulation, algorithm, PAIR, 0.4, lambda number: y, None, law, draws=3)
    assert own.restored(range(1)).nfe == taken
    fitting = affordable(simulation, algorithm, PAIR, 0.4, VE().grid, 100)
    assert len(fitting.sigmas) - 1 == steps


def test_a_step_that_costs_more_than_all_is_refused():
    law = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    simulation = Simulation(Euler(), law.denoiser(), VE().grid(10), law.shape)
    with pytest.raises(UsageError, match="evaluations=1: one step of this algorithm takes more"):
        affordable(simulation, algorithms.dps(), PAIR, 0.4, VE().grid, 1)


# what is asked


def test_truths_and_measurements_are_of_the_seed_and_their_number(tmp_path):
    law = pictures()
    operator = operators.pool(shape=law.shape, factor=4)
    three = asked(line(image=3), law, operator, 0.5)
    many = asked(line(image="0:9"), law, operator, 0.5)
    assert three.images == range(3, 4) and many.images == range(9)
    assert torch.equal(three.measured(3), many.measured(3))
    assert torch.equal(three.truth(3), law.dequantize(law.images[3]).double())
    clean = operator(three.truth(3)[None])[0]
    off = torch.stack([many.measured(k) - operator(many.truth(k)[None])[0] for k in range(9)])
    assert off.std() == pytest.approx(0.5, rel=0.35)  # of 36 numbers
    assert not torch.equal(three.measured(3), clean)
    drawn = asked(line(images=5), law, operator, 0.0)
    assert drawn.drawn and not many.drawn
    assert torch.equal(drawn.measured(2), operator(drawn.truth(2)[None])[0])
    other = asked(line(images=5, seed=1), law, operator, 0.0)
    assert not torch.equal(torch.stack([*map(drawn.truth, range(5))]), other.truth(0))


def test_an_index_counts_in_the_split_that_the_law_is_not_made_of():
    test = pictures(30, split="test")
    train = Images(pictures().images, name="toy", twin=lambda: test)
    operator = operators.pool(shape=train.shape, factor=4)
    found = asked(line(image=2), train, operator, 0.1)
    assert torch.equal(found.truth(2), test.dequantize(test.images[2]).double())
    assert found.count == 30
    own = asked(line(image=2, split="train"), train, operator, 0.1)
    assert torch.equal(own.truth(2), train.dequantize(train.images[2]).double())


def test_a_picture_is_read_as_the_law_has_it(tmp_path):
    from PIL import Image

    law = pictures()
    operator = operators.pool(shape=law.shape, factor=4)
    file = tmp_path / "one.png"
    Image.fromarray(law.images[5, 0].numpy()).save(file)
    found = asked(line(image=str(file)), law, operator, 0.1)
    assert torch.equal(found.truth(0), law.dequantize(law.images[5]).double())
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(file)
    with pytest.raises(UsageError, match="has 9 x 8 pixels, and data= 8 x 8: crop or resize"):
        asked(line(image=str(file)), law, operator, 0.1)
    np.save(tmp_path / "two.npy", np.full((2, 1, 8, 8), 0.25))
    found = asked(line(image=str(tmp_path / "two.npy")), law, operator, 0.1)
    assert found.images == range(2) and float(found.truth(1).max()) == 0.25


@pytest.mark.parametrize(
    "options, said",
    [
        ({"image": 40}, "data=toy, split=train has the images 0 to 39: write one of them"),
        ({"image": "5:5"}, "image=5:5 is empty: write FIRST:STOP"),
        ({"image": -1}, "image=-1: write an index"),
        ({"image": "cat"}, "image=cat: write an index"),
        ({"image": "cat.png"}, "image=cat.png: there is no such file"),
        ({"split": "both", "image": 3}, "split=both: write train, test, or null"),
        ({"split": "test", "image": 3}, "split=test: data=toy has no such split here"),
        ({"y": [1, 2]}, r"y=\[1, 2\] has shape \[2\]: write \[1, 2, 2\]"),
        ({"y": "word"}, "y=word is not a .npy, .npz or .csv file"),
    ],
)
def test_what_cannot_be_restored_is_refused_in_a_line(options, said):
    law = pictures()
    operator = operators.pool(shape=law.shape, factor=4)
    with pytest.raises(UsageError, match=said) as told:
        asked(line(**options), law, operator, 0.1)
    assert "\n" not in str(told.value)


def test_pixels_in_another_range_are_refused(tmp_path):
    law = pictures()
    operator = operators.pool(shape=law.shape, factor=4)
    np.save(tmp_path / "bytes.npy", np.full((1, 8, 8), 255.0))
    with pytest.raises(UsageError, match="has values from 255 to 255, and data= from -1 to 1"):
        asked(line(image=str(tmp_path / "bytes.npy")), law, operator, 0.1)
    np.save(tmp_path / "bad.npy", np.full((1, 8, 8), np.nan))
    with pytest.raises(UsageError, match="holds numbers that are not finite"):
        asked(line(image=str(tmp_path / "bad.npy")), law, operator, 0.1)


# the command


@pytest.fixture(scope="module")
def swept(made):
    """The sweep of the issue, small, and one of its runs again."""
    line = "restore data=gaussian operator.entries=[[1,.5]] sigma_n=.4 draws=150 threads=1"
    sweep = "-m algorithm=exact,ddrm sampler.steps=5,40 hydra.sweep.dir=sweep figures=false"
    again = "algorithm=ddrm sampler.steps=5 hydra.run.dir=again"
    return made(f"{line} {sweep}", f"{line} {again}")


def test_a_sweep_ends_in_a_table_and_a_picture_of_w2_against_evaluations(swept):
    found = swept / "sweep"
    with (found / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["algorithm"], row["sampler.steps"]) for row in rows] == [
        ("exact", "5"),
        ("exact", "40"),
        ("ddrm", "5"),
        ("ddrm", "40"),
    ]
    # the exact rule comes to the posterior, and DDRM forgets the prior (spec section 4)
    near = [float(row["posterior/w2_moments"]) for row in rows]
    assert near[1] < 0.15 < near[0] and near[3] > 2 * near[1]
    assert [float(row["sampling/nfe"]) for row in rows] == [5, 40, 5, 40]
    assert "ranked by posterior/w2_moments" in (found / "compare.md").read_text()
    assert (found / "compare.png").read_bytes()[:4] == b"\x89PNG"


def test_equal_seeds_give_equal_bytes_and_the_folder_says_what_was_done(swept):
    one = swept / "sweep" / "2"
    other = swept / "again"
    for name in ("restored.npy", "truth.npy", "measurement.npy", "metrics.json", "images.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    draws = np.load(other / "restored.npy")
    assert draws.shape == (1, 150, 2)
    values = json.loads((other / "metrics.json").read_text())
    truth = np.load(other / "truth.npy")
    y = np.load(other / "measurement.npy")
    errors = np.sqrt(((draws[0] - truth) ** 2).mean(1))
    assert values["restore/error"] == pytest.approx(errors.mean(), rel=1e-12)
    misfits = (y[0, 0] - draws[0] @ [1, 0.5]) ** 2 / 0.16
    assert values["restore/misfit"] == pytest.approx(misfits.mean(), rel=1e-12)
    assert values["posterior/ess"] is None
    # log N(y; 0, A C A' + s^2), A C A' = 1 + .25 + .8
    variance = 2.05 + 0.16
    evidence = -0.5 * (math.log(2 * math.pi * variance) + y[0, 0] ** 2 / variance)
    assert values["posterior/log_evidence"] == pytest.approx(evidence, rel=1e-12)
    assert (other / "figures" / "restored.png").is_file()
    assert len(json.loads((other / "provenance.json").read_text())["operator"]) == 64


@pytest.mark.parametrize(
    "options, said",
    [
        ({"operator.entries": None}, "operator=matrix takes one matrix: write operator.file=A.npy"),
        ({"sigma_n": -1.0}, "sigma_n=-1: write the deviation of the noise, 0 or above"),
        ({"sigma_n": "much"}, "sigma_n=much is not a number"),
        ({"draws": 1, "calibration": True}, "draws=1: calibration=true ranks the truth"),
        ({"draws": 9, "calibration": True}, "calibration=true takes several truths"),
        ({"draws": 9, "calibration": True, "y": [1]}, "over truths that are drawn from the law"),
        ({"draws": 0}, "draws=0: write a whole number from 1"),
        ({"image": True}, "image=true: write an index"),
        ({"label": "all"}, "label=all gives the draws of one image different classes"),
        ({"evaluations": 0}, "evaluations=0: write a whole number from 1"),
        ({"algorithm.zeta": 2}, "zeta"),
    ],
)
def test_a_problem_that_cannot_be_is_refused_in_a_line(options, said):
    config = composed("restore", "data=gaussian", "operator.entries=[[1,.5]]")
    for key, value in options.items():
        OmegaConf.update(config, key, value)
    with pytest.raises(UsageError) as told:
        posed(config, Job(Path("out")))
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_refused_line_leaves_no_folder(inside, tmp_path):
    result = inside(*"restore data=gaussian operator.file=A.npy hydra.run.dir=out".split())
    assert result.returncode == 2 and "A.npy" in result.line
    assert not (tmp_path / "out").exists()
