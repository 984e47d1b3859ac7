"""diffgeo from Python: the numbers of the command line, byte for byte; no Hydra; laws of which only
draws are known; objects in the place of names; what is public."""

import functools
import inspect
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import diffgeo
from diffgeo.config import plugins, recipe
from diffgeo.data import Circle, Cloud, Curve
from diffgeo.data.sampled import MEASURED, Sampled
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics import Distance, Transport
from diffgeo.nn import MLP
from diffgeo.parameterization import CEM
from diffgeo.sampler import DPMpp2M
from diffgeo.schedule import VE
from diffgeo.schedule.spacing import Continuous, Geometric
from diffgeo.simulation import Simulation
from diffgeo.training import Power, Trainer, optim

ROOT = Path(__file__).resolve().parent.parent
STEPS = 30
LEVELS = VE(sigma_min=0.01, sigma_max=200, spacing=Geometric(), training=Continuous())  # `plane`


class Bare:
    """What draws as a law does, and says nothing else of it."""

    def __init__(self, law):
        self.law = law
        self.shape = law.shape

    def sample(self, n, generator):
        return self.law.sample(n, generator)


@pytest.fixture(scope="module")
def run(made):
    """A run folder of the command line."""
    line = f"train model=cem data=curve trainer.steps={STEPS} trainer.log_every=10 n=300"
    return made(f"{line} sampler.steps=10 metrics=quick figures=false hydra.run.dir=run") / "run"


@pytest.fixture(scope="module")
def trained():
    """The same training from Python."""
    return diffgeo.train(Curve(), model="cem", steps=STEPS, trainer={"log_every": 10}, seed=0)


def same_weights(one, other):
    """Whether two state dicts are equal to the byte."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


# the command line


def test_a_training_has_the_weights_and_losses_of_the_command_line(run, trained):
    there = load_file(run / "checkpoint" / "model.safetensors")
    assert same_weights(there, trained.network.state_dict())
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert trained.losses == tuple((record["step"], record["loss"]) for record in records)
    assert [step for step, _ in trained.losses] == [10, 20, 30]
    assert not trained.network.training


def test_samples_and_metrics_are_those_of_the_command_line(run, trained):
    simulation = diffgeo.simulate(trained.data, trained.model, steps=10)
    drawn = simulation.draw(300)
    assert np.array_equal(drawn.samples.numpy(), np.load(run / "samples.npy"))
    there = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert there.pop("sampling/nfe") == drawn.nfe
    there.pop("flow/rms")  # of a simulation, not of a cloud
    assert diffgeo.evaluate(drawn, "curve", "quick") == there


def test_a_run_folder_is_loaded_as_it_is(run, trained):
    loaded = diffgeo.load(run)
    assert loaded.folder == run
    assert same_weights(loaded.network.state_dict(), trained.network.state_dict())
    assert loaded.losses == trained.losses
    assert loaded.metrics == json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert np.array_equal(loaded.samples.numpy(), np.load(run / "samples.npy"))
    assert torch.equal(loaded.simulation.draw(300).samples, loaded.samples)
    again = diffgeo.evaluate(loaded, metrics="quick")
    assert again["tangential/w2"] == loaded.metrics["tangential/w2"]
    assert "samples (300, 2)" in repr(loaded) and "loss" in repr(loaded)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("sampler=euler sampler.schedule=ddim", {"sampler": "euler", "schedule": "ddim"}),
        # fitted to its law before it samples
        ("sampler=a_ddim sampler.schedule=karras", {"sampler": "a_ddim", "schedule": "karras"}),
    ],
)
def test_a_simulation_by_names_is_that_of_the_command_line(made, line, options):
    folder = "_".join(line.split()).replace("=", "-")
    quiet = f"metrics=none figures=false hydra.run.dir={folder}"
    path = made(f"sample model=exact data=circle n=50 sampler.steps=6 {line} {quiet}") / folder
    drawn = diffgeo.simulate("circle", steps=6, **options).draw(50)
    assert np.array_equal(drawn.samples.numpy(), np.load(path / "samples.npy"))
    loaded = diffgeo.load(path)
    assert torch.equal(loaded.samples, drawn.samples) and loaded.losses == ()
    assert loaded.metrics == {"sampling/nfe": drawn.nfe}
    with pytest.raises(DiffgeoError, match="has no weights"):
        loaded.network  # noqa: B018


def test_a_number_of_samples_stands_for_the_first_ones():
    simulation = diffgeo.simulate("circle", steps=5)
    three = simulation.draw(range(3)).samples
    assert torch.equal(simulation.draw(3).samples, three)
    assert torch.equal(simulation.trajectory(3).x[-1], three)
    with pytest.raises(UsageError, match="how many"):
        simulation.draw(0)


def composed(group, name):
    """A choice as Hydra composes it, unresolved."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(plugins.conf_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"{group}={name}"])
    return OmegaConf.to_container(config[group])


def by_hand(group, name):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(recipe.node(group, name))


@pytest.mark.parametrize("choice", ["sampler/predictor_corrector", "schedule/ge_edm"])
def test_a_choice_is_composed_as_hydra_composes_it(choice):
    group, name = choice.split("/")
    assert by_hand(group, name) == composed(group, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", ["sampler", "schedule", "net", "model", "weighting", "trainer", "metrics", "data"]
)
def test_every_choice_is_composed_as_hydra_composes_it(group):
    for name in diffgeo.choices(group):
        assert by_hand(group, name) == composed(group, name), name


def test_what_a_set_of_images_brings_is_what_the_command_line_brings():
    """The slots of `data=digits`, of which defaults_of reads the files."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(plugins.conf_dir()), version_base="1.3"):
        config = compose("train", overrides=["data=digits"])
    slots = recipe.defaults_of(images=True, law="digits")
    for slot in ("net", "trainer", "schedule", "weighting", "metrics"):
        assert by_hand(slot, slots[slot]) == OmegaConf.to_container(config[slot]), slot
    levels = OmegaConf.to_container(config.sampler.schedule)
    assert by_hand("schedule", slots["sampler.schedule"]) == levels
    assert recipe.image_steps() == config.sampler.steps


# no Hydra


def test_neither_hydra_nor_matplotlib_is_imported():
    """Train, draw, evaluate in a process in which Hydra cannot be imported: the modules of diffgeo
    are imported afresh here, and put back."""
    mine = ("diffgeo", "hydra", "matplotlib")
    held = {name: sys.modules[name] for name in sys.modules if name.split(".")[0] in mine}
    for name in held:
        del sys.modules[name]
    sys.modules.update({"hydra": None, "matplotlib": None})
    try:
        import diffgeo as fresh

        trained = fresh.train("circle", steps=2, quiet=True)
        drawn = fresh.simulate("circle", trained.model, steps=2).draw(20)
        values = fresh.evaluate(drawn, "circle", "quick")
        assert values["distance/mean"] > 0
        with pytest.raises(ImportError):
            fresh.load(ROOT / "tests")  # no run folder, said before Hydra is asked for
            raise ImportError
    except fresh.UsageError as error:
        assert "not a run folder" in str(error)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in mine]:
            del sys.modules[name]
        sys.modules.update(held)


def test_torch_is_left_as_it_was():
    """Threads and global random numbers, by a call that uses both."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        diffgeo.train("circle", steps=1, quiet=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(3), expected)


# laws


def test_what_draws_is_trained_on_and_measured_as_the_law_that_draws_so():
    law = Circle()
    bare = Sampled(Bare(law), std=law.std)
    one = diffgeo.train(law, steps=5, quiet=True)
    other = diffgeo.train(bare, steps=5, quiet=True)
    assert same_weights(one.network.state_dict(), other.network.state_dict())
    cloud = torch.rand(60, 2)
    metrics = {"near": Distance(), "far": Transport(n=50)}
    known = diffgeo.evaluate(cloud, law, metrics)
    less = diffgeo.evaluate(cloud, Bare(law), metrics)
    assert less == {key: value for key, value in known.items() if key.startswith("transport/")}
    assert len(less) == 12  # three distances: a value, its floor, spread and error


def test_the_moments_of_what_draws_are_those_of_its_draws():
    """Of N((1, -2), diag(4, .25)): mean within 5 standard errors, deviation within 5 of its own;
    std^2 is the mean of the two variances."""

    class Normal:
        shape = (2,)

        def sample(self, n, generator):
            z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
            return z * torch.tensor([2.0, 0.5]) + torch.tensor([1.0, -2.0])

    law = diffgeo.law(Normal())
    error = torch.tensor([2.0, 0.5]) / math.sqrt(MEASURED)
    assert bool(((law.mean - torch.tensor([1.0, -2.0])).abs() < 5 * error).all())
    spread = math.sqrt(2 * 4.0**2 + 2 * 0.25**2) / 2 / math.sqrt(MEASURED)  # of std^2
    assert abs(law.std**2 - (4 + 0.25) / 2) < 5 * spread
    assert law.key != diffgeo.law(Bare(Circle())).key


def test_what_draws_badly_is_refused():
    class Forgets(Bare):
        def sample(self, n, generator):
            return torch.randn(n, 2)

    class Short(Bare):
        def sample(self, n, generator):
            return torch.zeros(n - 1, 2)

    class Broken(Bare):
        def sample(self, n, generator):
            return torch.full((n, 2), torch.nan)

    with pytest.raises(UsageError, match="draw all of its randomness from the generator"):
        diffgeo.law(Forgets(Circle()))
    with pytest.raises(UsageError, match=r"give an array of shape \(1024, 2\)"):
        diffgeo.law(Short(Circle()))
    with pytest.raises(UsageError, match="not finite"):
        diffgeo.law(Broken(Circle()))


def test_arrays_and_data_sets_are_laws():
    points = torch.rand(7, 2, dtype=torch.float64)
    law = diffgeo.law(points)
    assert law.key == diffgeo.law(points.numpy()).key == Cloud(points=points).key
    of_set = diffgeo.law(torch.utils.data.TensorDataset(points))
    assert torch.equal(of_set.points.double(), points)
    assert diffgeo.law(law) is law
    assert diffgeo.law("circle", radius=2.0).key == Circle(2.0).key
    pictures = torch.utils.data.TensorDataset(torch.rand(4, 1, 8, 8), torch.arange(4))
    assert diffgeo.law(pictures).shape == (1, 8, 8)


# objects in the place of names


def test_objects_are_what_their_names_are(trained):
    made = diffgeo.train(
        "curve",
        CEM(),
        net=functools.partial(MLP, width=64, depth=3),
        schedule=LEVELS,
        weighting=diffgeo.training.EDM(Curve().std),
        trainer=Trainer(
            STEPS,
            pool=128,
            lr=1e-3,
            muon=0.03,
            rate=optim.Geometric(3e-4),
            warmup=200,
            ema=0.0,
            eps=1e-12,
            log_every=10,
        ),
        quiet=True,
    )
    assert same_weights(made.network.state_dict(), trained.network.state_dict())
    method = diffgeo.simulate("circle", sampler=DPMpp2M(), steps=6, schedule=LEVELS)
    named = diffgeo.simulate("circle", sampler="dpmpp_2m", steps=6)
    assert torch.equal(method.draw(9).samples, named.draw(9).samples)


def test_a_network_is_trained_in_place_and_on():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x, noise):
            return self.layer(torch.cat((x, noise[:, None]), 1))

    mine = Linear()
    begun = mine.layer.weight.detach().clone()
    once = diffgeo.train("circle", net=mine, steps=5, weighting="native", quiet=True)
    assert once.network.net is mine and not torch.equal(mine.layer.weight, begun)
    twice = diffgeo.train("circle", once.network, steps=5, weighting=Power(2), quiet=True)
    assert isinstance(twice.model, Network) and twice.model is once.model


def test_metrics_are_names_one_or_several():
    cloud = diffgeo.simulate("circle", steps=4).draw(40)
    quick = diffgeo.evaluate(cloud, "circle", "quick")
    assert diffgeo.evaluate(cloud.samples.numpy(), "circle", "quick") == quick
    alone = diffgeo.evaluate(cloud, "circle", Distance())
    assert alone["distance/mean"] == quick["distance/mean"] and "distance/mean_floor" in alone
    several = diffgeo.evaluate(cloud, "circle", {"a": Distance(), "b": Transport(n=30)}, seed=3)
    assert {key.split("/")[0] for key in several} == {"distance", "transport"}
    assert several["transport/w2"] != diffgeo.evaluate(cloud, "circle", Transport(n=30))


def test_a_plugin_is_admitted_by_name(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugin"))
    try:
        assert "ralston" not in diffgeo.choices("sampler")
        assert "garden" in diffgeo.admit("garden")
        assert "ralston" in diffgeo.choices("sampler")
        named = diffgeo.simulate("circle", sampler="ralston", steps=6)
        from garden.ralston import Ralston

        own = diffgeo.simulate("circle", sampler=Ralston(), steps=6)
        assert torch.equal(named.draw(5).samples, own.draw(5).samples)
        assert diffgeo.law("flower", petals=3).shape == (2,)
    finally:
        plugins.admit()


# what is said of mistakes


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda: diffgeo.law("circel"), "there is no data 'circel': did you mean circle?"),
        (lambda: diffgeo.law("circle", radus=2), "no option 'radus': did you mean radius?"),
        (lambda: diffgeo.law(Circle(), radius=2), "they are options of a name"),
        (lambda: diffgeo.law(3), "3 is no law: give an object with shape"),
        (lambda: diffgeo.train("circle", "cme"), "there is no model 'cme': did you mean cem?"),
        (lambda: diffgeo.train("circle", "exact"), "model=exact has nothing to train"),
        (lambda: diffgeo.train("circle", trainer={"bach": 1}), "'bach': did you mean batch?"),
        (lambda: diffgeo.train("circle", steps=0), "trainer.steps=0 is out of range"),
        (lambda: diffgeo.train("circle", device="tpu"), "device=tpu is not available here"),
        (lambda: diffgeo.simulate("circle", sampler="dpmpp2m"), "did you mean dpmpp_2m"),
        (lambda: diffgeo.simulate("circle", "cem"), "train it first"),
        (lambda: diffgeo.simulate("circle", steps=0), "steps=0: give a whole number"),
        (lambda: diffgeo.simulate(Bare(Circle())), "Sampled has no exact denoiser"),
        (lambda: diffgeo.choices("samper"), "there is no group 'samper': did you mean sampler?"),
        (lambda: diffgeo.evaluate(torch.zeros(3, 2)), "write evaluate(cloud, law)"),
        (lambda: diffgeo.evaluate(torch.zeros(3, 3), "circle"), "the samples have shape (3, 3)"),
        (lambda: diffgeo.load("nowhere"), "nowhere is not a run folder"),
        (lambda: diffgeo.admit("no_such_package"), "there is no package no_such_package"),
    ],
)
def test_a_mistake_is_one_line(mistake, said):
    with pytest.raises(UsageError) as raised:
        mistake()
    assert said in str(raised.value) and "\n" not in str(raised.value)


# what is public


@pytest.mark.parametrize("name", diffgeo.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    found = getattr(diffgeo, name)
    assert inspect.getdoc(found), name
    assert name in dir(diffgeo)


def test_public_functions_stand_in_the_docs_and_say_what_they_raise():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in ("law", "train", "simulate", "evaluate", "load", "choices", "admit"):
        assert f"diffgeo.{name}(" in page, name
        assert "Raises" in inspect.getdoc(getattr(diffgeo, name)), name
    assert inspect.isclass(diffgeo.Result) and issubclass(Simulation, object)


@pytest.mark.slow
def test_a_training_on_images_is_that_of_the_command_line(made):
    """The set brings its own network, trainer, weighting and levels."""
    line = "train model=cem data=digits trainer.steps=3 trainer.batch=8 n=4 sampler.steps=2"
    quiet = "metrics=none figures=false threads=1 hydra.run.dir=digits"
    folder = made(f"{line} {quiet}") / "digits"
    trained = diffgeo.train("digits", steps=3, trainer={"batch": 8}, quiet=True)
    there = load_file(folder / "checkpoint" / "model.safetensors")
    assert same_weights(there, trained.network.state_dict())
    drawn = diffgeo.simulate(trained.data, trained.model, steps=2).draw(4)
    pixels = trained.data.quantize(drawn.samples)[:, 0].numpy()
    assert np.array_equal(pixels, np.load(folder / "samples.npy"))
    assert diffgeo.load(folder).samples.shape == (4, 1, 8, 8)
