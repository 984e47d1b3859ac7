"""Looks at a training on its way: which samples they show, in how much memory, and what happens
when they fail."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from simulations import draw
from test_sample_images import SHAPE, SIGMAS, Means

from diffgeo import plot
from diffgeo.data.images import Images
from diffgeo.errors import UsageError
from diffgeo.machine.distributed import ALONE
from diffgeo.report.preview import Preview
from diffgeo.sampler import Heun
from diffgeo.simulation import ClassLabel, Simulation
from diffgeo.simulation.sampling import Sampling


class Recorded(list):
    """A logger."""

    def log(self, step, values):
        self.append((step, values))

    def figure(self, name, path):
        self.append(name)


class Smooth(Means):
    """D = x/2 + the class: noise is left in the samples, so that each is its own."""

    def __call__(self, x, sigma, label=None):
        return (x.clamp(-1, 1) + super().__call__(x, sigma, label)) / 2 - 0.5


@pytest.fixture
def look(tmp_path, monkeypatch):
    law = Images(
        torch.randint(0, 256, (30, *SHAPE), generator=torch.Generator().manual_seed(0)).to(
            torch.uint8
        )
    )
    shown = []
    stored = []
    monkeypatch.setattr(plot, "grid", lambda path, samples: shown.append(samples))
    store = Images.store
    monkeypatch.setattr(Images, "store", lambda self, x: (stored.append(len(x)), store(self, x))[1])

    def run(preview, model, step=4, before=2):
        condition = ClassLabel("all", 2.0, 3)
        simulation = Simulation(Heun(), model, SIGMAS, SHAPE, 7, condition=condition)
        experiment = SimpleNamespace(
            data=law,
            simulation=simulation,
            sampling=Sampling("float32", 4, torch.device("cpu")),
            metrics=lambda run, data: {"mean": float(data.quantize(run.samples).double().mean())},
        )
        training = SimpleNamespace(
            world=ALONE, step=step, averaged=lambda: contextlib.nullcontext(model)
        )
        logger = Recorded()
        preview(training, before, experiment, tmp_path, logger)
        return law, condition, shown, stored, logger

    return run


def test_a_look_shows_the_run_s_first_samples_with_their_classes(look):
    """Those that the run would end with, guided towards the class of each; of a large cloud only
    one batch is held unquantized."""
    law, condition, shown, stored, logger = look(Preview(every=4, n=5, metrics=14), Smooth())
    whole = law.quantize(
        draw(Heun(), Smooth(), SIGMAS, SHAPE, 14, seed=7, batch=4, condition=condition).samples
    )
    assert torch.equal(shown[0], whole[:5]) and len(whole.unique(dim=0)) > 3
    assert stored == [4, 4, 4, 2]
    assert logger == [(4, {"preview/mean": float(whole.double().mean())}), "preview_0000004"]


def test_a_look_that_fails_is_told_and_training_goes_on(look, capsys):
    def hungry(x, sigma, label=None):
        raise torch.OutOfMemoryError("CUDA out of memory")

    *_, logger = look(Preview(every=4, metrics=9), hungry)
    assert (
        not logger
        and "no preview at step 4: out of memory: write batch=2" in capsys.readouterr().out
    )


def test_when_a_look_is_due(look):
    for step, before, due in (
        (4, 2, True),
        (4, 4, False),
        (7, 4, False),
        (9, 7, True),
        (17, 3, True),
    ):
        assert bool(look(Preview(every=4), Smooth(), step, before)[-1]) is due
    assert not look(Preview(every=0), Smooth())[-1]
    with pytest.raises(UsageError, match="preview.n=0"):
        Preview(n=0)
