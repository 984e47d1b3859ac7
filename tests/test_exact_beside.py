"""What the exact denoiser gives, beside what a network does: the least loss, and a column of the
table."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from diffgeo import plot
from diffgeo.core import Fitted, Run
from diffgeo.data import Circle, Gaussian
from diffgeo.data.images import Images
from diffgeo.data.points import Points
from diffgeo.denoiser import Network
from diffgeo.machine.effort import effort
from diffgeo.metrics import Distance, FlowError, Suite, Tangential, table, twin
from diffgeo.metrics.better import better
from diffgeo.metrics.table import within_floor
from diffgeo.nn import MLPTanh
from diffgeo.parameterization import CEM
from diffgeo.sampler import AnalyticVariance, Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.training import Trainer, Training, least
from diffgeo.training.weighting import Power

LOW, HIGH = 0.1, 10.0  # levels of training, equally likely in log sigma


def training(data, net=None, **options):
    """A training on `data` under the weight 1/sigma^2."""
    model = Network(net or MLPTanh((2,), width=4, depth=1), CEM())
    return Training(Trainer(**options), model, data, VE(sigma_min=LOW, sigma_max=HIGH), Power(2))


def of_two_points() -> float:
    """The least loss of the points -1 and 1 of R, by quadrature over sigma and x:
    E sigma^-2 (1 - E tanh(x/sigma^2)^2), x = 1 + sigma z."""
    z = np.linspace(-8, 8, 801)
    weights = np.exp(-(z**2) / 2)
    levels = np.exp(np.linspace(math.log(LOW), math.log(HIGH), 801))
    squares = np.tanh((1 + levels[:, None] * z) / levels[:, None] ** 2) ** 2
    inner = (1 - squares @ weights / weights.sum()) / levels**2
    return float(np.trapezoid(inner, np.log(levels)) / math.log(HIGH / LOW))


def test_the_least_loss_of_a_gaussian():
    """N(m, diag v): sigma^-2 v sigma^2/(v + sigma^2) per coordinate, whose mean over log sigma is
    elementary."""
    v = np.array([4.0, 0.25])
    law = Gaussian([3.0, -1.0], [[4.0, 0.0], [0.0, 0.25]])

    def antiderivative(sigma):
        return math.log(sigma) - 0.5 * np.log(v + sigma**2)

    truth = float(np.mean((antiderivative(HIGH) - antiderivative(LOW)) / math.log(HIGH / LOW)))
    found = least.least(training(law, batch=256), 1 << 15)
    assert found.rows == 1 << 15 and 0 < found.error < 0.01 * truth
    assert abs(found.loss - truth) < 4 * found.error


def test_the_least_loss_of_shared_targets():
    """Two atoms in groups of two: half of the groups hold both, and their target is D itself; in
    the others it is the atom. So the least loss is half of that without groups."""
    law = Points([[-1.0], [1.0]])
    truth = of_two_points()
    for pool, share in ((1, 1.0), (2, 0.5)):
        net = MLPTanh((1,), width=4, depth=1)
        found = least.least(training(law, net, batch=256, pool=pool), 1 << 15)
        assert abs(found.loss - share * truth) < 4 * found.error < 0.1 * truth, pool


class Told(torch.nn.Module):
    """A network of two classes."""

    classes = 2

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, noise, label):
        return self.a * x


def test_the_least_loss_of_a_network_that_is_told_classes():
    """One image a class: told it, D is exact; of the share whose class is hidden it is that of two
    points."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    law = Images(pixels, labels=torch.tensor([0, 1]), classes=2)
    found = least.least(training(law, Told(), batch=256, unlabelled=0.25), 1 << 13)
    assert abs(found.loss - 0.25 * of_two_points()) < 4 * found.error < 0.02


def test_effort_is_counted():
    """Numbers written, and a sixteenth of a product's multiplications."""
    a = torch.ones(3, 32)
    assert effort(lambda: a + 1) == 96
    assert effort(lambda: a @ torch.ones(32, 5)) == 160 + 15 + 15 * 32 / 16


def test_what_is_not_worth_its_time_is_left_out(tmp_path):
    """No floor without a closed form, nor where each row takes too long; else a file of it."""
    law = Points([[-1.0], [1.0]])
    made = training(law, MLPTanh((1,), width=4, depth=1), batch=256)
    assert least.affordable(made) == least.MOST
    net = MLPTanh((1,), width=4, depth=1)
    many = training(Points(torch.linspace(-1, 1, 1 << 16)[:, None]), net, batch=256)
    assert 256 <= least.affordable(many) <= 4096  # 2^30 numbers, several of them a point
    unknown = SimpleNamespace(data=SimpleNamespace(shape=(1,)))
    assert least.affordable(unknown) == 0
    least.record(unknown, tmp_path)
    assert least.recorded(tmp_path) is None
    least.record(made, tmp_path)
    assert least.recorded(tmp_path) == least.least(made, least.MOST)


def test_the_picture_of_a_loss_has_its_floor():
    figure = Figure()
    axes = figure.subplots()
    plot.loss(axes, [(1, 4.0), (2, 2.0), (3, 1.5)], (1.25, 0.03))
    heights = [set(line.get_ydata()) for line in axes.lines]
    assert {1.25} in heights and {4.0, 2.0, 1.5} in heights
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["loss", r"least, of the exact denoiser: 1.25 $\pm$ 0.03"]


LINE = "data=circle n=300 sampler.steps=12 figures=false logger=jsonl"
SUITE = "metrics.pairs=0 metrics.denoiser=null metrics.transport.n=100 metrics.flow.n=50"


def values_of(folder) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["heun", "a_ddim"])
def test_the_column_is_what_sampling_the_exact_denoiser_gives(made, sampler):
    """To the last digit: of a method without memory of the model, and of one that is fitted to the
    denoiser it samples."""
    options = f"{LINE} sampler={sampler} {SUITE}"
    folder = made(
        f"train model=cem trainer.steps=2 {options} hydra.run.dir=learned_{sampler}",
        f"sample model=exact {options} hydra.run.dir=exact_{sampler}",
        f"evaluate run=learned_{sampler} {SUITE} figures=false hydra.run.dir=again_{sampler}",
    )
    learned = values_of(folder / f"learned_{sampler}")
    exact = values_of(folder / f"exact_{sampler}")
    own = {key.removesuffix("_exact"): v for key, v in learned.items() if key.endswith("_exact")}
    assert own == {key: value for key, value in exact.items() if key != "sampling/nfe"}
    assert {"distance/mean", "tangential/w2", "transport/w2"} <= set(own)
    assert learned["distance/mean"] > 100 * own["distance/mean"]
    again = values_of(folder / f"again_{sampler}")
    assert {key: again[key + "_exact"] for key in own if "flow" not in key} == {
        key: value for key, value in own.items() if "flow" not in key
    }


def halved(x, sigma, **cond):
    """A denoiser that is no law's here."""
    return 0.5 * x


def run_of(law, n, denoise=halved, sampler=Heun()) -> Run:
    """Samples of a denoiser, as a metric sees them; 6 steps."""
    if isinstance(sampler, Fitted):
        sampler = sampler.fit(denoise, law)
    simulation = Simulation(sampler, denoise, VE().grid(6), law.shape)
    drawn = simulation.draw(range(n))
    return Run(drawn.samples, 0, range(n), simulation, denoise is not halved, drawn.nfe)


@pytest.mark.parametrize("sampler", [Heun(), AnalyticVariance(n=64)], ids=["heun", "a_ddim"])
def test_the_column_is_what_the_metrics_say_of_the_exact_denoiser(sampler):
    """To the last digit, and of a sampler that is fitted to the denoiser it samples too."""
    law = Circle()
    metrics = {"distance": Distance(), "tangential": Tangential(), "flow": FlowError(20, 10)}
    learned = Suite(metrics, pairs=0, exact="auto")(run_of(law, 100, halved, sampler), law)
    exact = Suite(metrics, pairs=0, exact="auto")(run_of(law, 100, law.denoiser(), sampler), law)
    own = {key.removesuffix("_exact"): v for key, v in learned.items() if key.endswith("_exact")}
    assert own == exact and {"distance/mean", "tangential/w2"} <= set(own)
    assert learned["distance/mean"] > 2 * own["distance/mean"]


def test_fewer_samples_leave_out_what_depends_on_their_number(monkeypatch):
    """Where all cost too much the column is of the first 500: a mean distance is theirs, the W2,
    whose floor falls with the number, is left out and the table says so."""
    law = Circle()
    run = run_of(law, 700)
    suite = Suite({"distance": Distance(), "tangential": Tangential()}, pairs=0, exact="auto")
    whole = suite(run, law)
    assert whole.keys() >= {"tangential/w2_exact", "distance/mean_exact"}
    assert "sampling/exact_n" not in whole
    monkeypatch.setattr(twin, "BUDGET", 600 * 12 * 21)  # numbers of a row: 21
    few = suite(run, law)
    own = law.denoiser()
    first = Simulation(Heun(), own, VE().grid(6), law.shape).draw(range(500)).samples
    assert few["sampling/exact_n"] == 500 and "tangential/w2_exact" not in few
    assert few["distance/mean_exact"] == float(law.distance(first).mean())
    assert few["distance/mean"] == whole["distance/mean"]
    lines = table(few).splitlines()
    assert lines[0].split() == ["metric", "value", "exact"]
    assert "of the first 500 samples" in lines[-1]
    monkeypatch.setattr(twin, "BUDGET", 10)
    assert not any(key.endswith("_exact") for key in suite(run, law))
    forced = Suite(suite.metrics, pairs=0, exact=True)(run, law)
    assert forced == whole


def test_an_exact_run_a_cloud_and_an_unknown_law_have_no_twin():
    law = Circle()
    run = run_of(law, 20)
    assert twin.twin(run, law, True) is not None
    assert twin.twin(run._replace(exact=True), law, True) is None
    assert twin.twin(run._replace(simulation=None), law, True) is None
    assert twin.twin(run, SimpleNamespace(shape=(2,)), True) is None


@pytest.mark.parametrize(
    "key, way",
    [
        ("distance/mean", "less"),
        ("distance/below_0.01", "more"),
        ("atoms/w_3", "near"),
        ("fid_10k", "less"),
        ("precision/lenet", "more"),
        ("restore/misfit", "near"),
        ("sampling/nfe", None),
        ("mine/x", None),
    ],
)
def test_which_way_a_metric_is_better(key, way):
    assert better(key) == way


def test_a_metric_of_a_plugin_says_which_way_is_better():
    assert better("mine/x", {"mine/*": "more"}) == "more"
    lines = table({"mine/x": 1.0, "distance/mean": 2.0}, {"mine/*": "near"}).splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["→", "↓"]
    assert lines[3] == "↓ less is better, → as the law has it is better"


@pytest.mark.parametrize(
    ("key", "way", "starred"),
    [
        ("distance/mean", None, (True, True, False)),
        ("recall", None, (False, True, True)),
        ("mine/score", "more", (False, True, True)),
        ("mine/share", "near", (False, True, False)),
        ("distance/below_0.05", None, (False, True, False)),
    ],
)
def test_a_star_is_on_the_better_side(key, way, starred):
    """Far below, at and far above a floor of .5 whose spread is .01."""
    own = {key: way} if way else {}
    for value, wanted in zip((0.1, 0.5, 0.9), starred, strict=True):
        sides = {"_floor": 0.5, "_floor_sd": 0.01, "_floor_se": 0.01 / math.sqrt(8)}
        values = {key: value} | {key + side: number for side, number in sides.items()}
        assert within_floor(values, key, own) == wanted
