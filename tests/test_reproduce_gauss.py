"""`reproduce gauss/...` on the real CIFAR-10, run as the engine runs it: every cell as printed."""

import csv
import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from diffgeo.commands.reproduce.engine import reproduce
from diffgeo.commands.theory.gaussian_options import scheme
from diffgeo.config.line import conf_dir
from diffgeo.core import generator
from diffgeo.data import image_set
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.ablation import ablation
from diffgeo.theory.ablation_table import compared
from diffgeo.theory.distances import w2
from diffgeo.theory.gaussian import SCHEMES, Spectrum, discrete, levels
from diffgeo.theory.learned import drawn, flip
from diffgeo.theory.process import process

SCHEME_NAMES = ("EM", "EI", "Euler", "Heun")


@pytest.fixture(scope="module")
def cifar10(real):
    """The spectrum of the training set, fitted once: 20 CPU s."""
    return spectra.of_law(image_set("cifar10", root=str(real), flip=True))[0]


def test_all_160_cells_are_as_printed_and_the_conventions_matter(cifar10):
    published = OmegaConf.to_container(
        OmegaConf.load(conf_dir() / "published" / "pierret_galerne.yaml")
    )
    chart = process([0.05, 10.0], 1.0)
    schemes = {name: scheme(name, chart) for name in SCHEME_NAMES}
    eps = (0.0, 1e-5, 1e-3, 1e-2)
    points = (50, 250, 500, 1000)
    found = compared(
        ablation(cifar10, chart, schemes, eps, points), published["columns"], published["table"]
    )
    assert (found.matched, len(found.pairs)) == (160, 160), [
        k for k, (a, b) in found.pairs.items() if a != b
    ]
    steps = compared(
        ablation(cifar10, chart, schemes, eps, points[:1], count="steps"),
        published["columns"],
        published["table"],
    )
    # the continuous ones, and Heun at eps = 1e-2
    assert (steps.matched, len(steps.pairs)) == (34, 64)
    assert cifar10.d == 3072 and cifar10.trace == pytest.approx(761.6, abs=0.05)
    assert float(cifar10.values.max()) == pytest.approx(221.4, abs=0.1)


def test_heun_loses_to_em_at_a_score_error_of_three_tenths_of_a_percent(cifar10):
    chart = process([0.05, 10.0], 1.0)
    xi = drawn(1.0, 3072, 0)
    samplers = {name: SCHEMES[name](chart) for name in ("Heun", "EM")}
    grid = levels(chart, 1000, 1e-3)

    def ahead(eta):
        laws = discrete(cifar10, chart, samplers, grid, ("N_0",), eta * xi)
        goal = laws["EM", "N_0"]._replace(variance=cifar10.values)
        return w2(laws["Heun", "N_0"], goal, cifar10.counts) - w2(
            laws["EM", "N_0"], goal, cifar10.counts
        )

    assert ahead(0.0) < 0 < ahead(0.003)
    eta = flip(cifar10, chart, samplers, 1000, 1e-3, "N_0", xi).eta
    assert 0.001 < eta < 0.003 and ahead(0.98 * eta) < 0 < ahead(1.02 * eta)


@pytest.mark.slow
def test_reproductions_run_and_say_what_they_found(cifar10, real, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIFFGEO_DATA", str(real))
    reproduce("gauss/table", "quick", tmp_path / "table")
    text = (tmp_path / "table" / "table.md").read_text()
    assert "**160 of 160 published cells equal as printed**" in text and "differs" not in text
    assert text.count("\n| EM ") == 4 + 40
    reproduce("gauss/modes", "quick", tmp_path / "modes")
    rows = {
        r["cell"] + r["metric"]: r["measured"]
        for r in csv.DictReader((tmp_path / "modes" / "table.csv").open())
    }
    zeros = "the zeros of a colour texture of 256 x 256w2/{}@eps=0.001,points=1000,start=N_0"
    assert float(rows[zeros.format("EM")]) == pytest.approx(5.0807, abs=1e-4)
    assert float(rows[zeros.format("Heun")]) == pytest.approx(3.6841, abs=1e-4)


def test_a_table_of_small_images_marks_its_mismatches(inside, tmp_path):
    """The same report on another law: no cell of digits is CIFAR-10's but the zeros."""
    done = inside(
        "theory",
        "gaussian",
        "data=digits",
        "grid_points=[50]",
        "eps=[0,1e-3]",
        "published=pierret_galerne",
        "hydra.run.dir=run",
        "figures=false",
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (
        metrics["published/cells"] == 32
        and f"{metrics['published/cells_matched']} of 32 published" in done.stdout
    )
    data = image_set("digits")
    x = data.images.numpy().reshape(1500, -1) / 127.5 - 1
    values = np.linalg.eigvalsh(np.cov(x.T))
    values[values < 1e-12] = 0  # of pixels that are always white
    b = 0.05e-3 + 9.95e-6 / 2
    truncation = np.sqrt(
        ((np.sqrt(np.exp(-2 * b) * values - np.expm1(-2 * b)) - np.sqrt(values)) ** 2).sum()
    )
    assert metrics["w2/EM@eps=0.001,points=continuous,start=p_T"] == pytest.approx(
        truncation, rel=1e-9
    )
    assert (
        "0.17]" in done.stdout
        and np.isinf(metrics["w2/Heun@eps=0,points=50,start=p_T"])
        and "inf [7.09]" in done.stdout
    )


@pytest.mark.slow
def test_random_errors_are_drawn_by_the_seed(inside, tmp_path):
    """One draw is that of its seed; of several the table has the mean and the deviation of a draw,
    each draw by itself in numpy."""
    line = "theory gaussian spectrum=power d=5 grid_points=20 eps=0 schemes=Heun eta=.1 random=true"
    words = [*line.split(), "start=p_T", "figures=false"]
    cell = "w2/Heun@eps=0,points=20,start=p_T"

    def metrics(name, *more):
        done = inside(*words, f"hydra.run.dir={name}", *more)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "metrics.json").read_text()), done.stdout

    a, b, c = (metrics(name, f"seed={s}", "draws=1")[0][cell] for name, s in ("a3", "b3", "c4"))
    assert a == b != c
    torch.testing.assert_close(
        drawn(0.1, 5, 3),
        0.1 * torch.randn(5, generator=generator(3, *b"score error"), dtype=torch.float64),
    )
    assert not any(key.endswith("_sd") for key in metrics("d", "draws=1")[0])

    found, text = metrics("e", "seed=3")
    chart = process([0.05, 10.0], 1.0)
    spectrum = Spectrum(1 / torch.arange(1, 6, dtype=torch.float64))
    each = []
    for draw in range(12):
        error = drawn(0.1, 5, 3, draw)
        grid = levels(chart, 20, 0.0)
        law = discrete(spectrum, chart, {"Heun": SCHEMES["Heun"](chart)}, grid, ("p_T",), error)
        v = law["Heun", "p_T"].variance.numpy()
        each.append(np.sqrt(((np.sqrt(v) - np.sqrt(spectrum.values.numpy())) ** 2).sum()))
    assert each[0] == pytest.approx(a, rel=1e-12)
    assert found[cell] == pytest.approx(np.mean(each), rel=1e-9)
    assert found[f"{cell}_sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-9)
    (row,) = [
        row for row in csv.DictReader((tmp_path / "e/table.csv").open()) if row["points"] == "20"
    ]
    assert float(row["w2_sd"]) == found[f"{cell}_sd"]
    assert f"{np.mean(each):.2f} +- {np.std(each, ddof=1):.2f}" in text
    assert "12 draws of the random error" in text


@pytest.mark.slow
def test_no_error_is_no_random_error_either(inside, tmp_path):
    """eta=0 random=true, a point of a sweep over eta, is the exact score."""
    line = "theory gaussian spectrum=power d=5 grid_points=9 eps=0 schemes=EM figures=false"
    for name, words in (("a", ["eta=0", "random=true"]), ("b", [])):
        done = inside(*line.split(), f"hydra.run.dir={name}", *words)
        assert done.returncode == 0, done.stderr
        assert "score error alone" not in done.stdout
    a, b = ((tmp_path / name / "metrics.json").read_text() for name in "ab")
    assert a == b and "+-" not in a
    assert "random=true eta=.003" in inside(*line.split(), "draws=3", "eta=.1").line
    assert "leave random=true out" in inside("theory", "gaussian", "run=a", "random=true").line
    assert "write a whole number" in inside(*line.split(), "random=true", "draws=0").line
