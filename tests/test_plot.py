"""Figures: what is drawn is what was given, files are whole, and matplotlib stays out of `import
diffgeo.plot`."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from diffgeo import plot
from diffgeo.core import Trajectory, generator
from diffgeo.data import Circle, Line, Moons, make, random_points
from diffgeo.metrics import denoiser_error
from diffgeo.plot.canvas import log_axis, plane, sheet, support
from diffgeo.schedule import OU
from diffgeo.theory.admissibility import Measured
from diffgeo.theory.verdict import Verdict

f64 = torch.float64


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Call a plot function and get the axes it drew; the PNG must have been written."""
    from matplotlib.figure import Figure

    saved = []
    savefig = Figure.savefig

    def spy(figure, path, **options):
        saved.append(figure)
        savefig(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", spy)

    def call(function, *arguments, **options):
        path = tmp_path / "figures" / "picture.png"
        function(path, *arguments, **options)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and list(path.parent.iterdir()) == [
            path
        ]
        assert path.stat().st_size < 500_000
        return saved[-1].axes

    return call


def test_matplotlib_is_not_imported_before_a_figure():
    code = (
        "import sys, diffgeo.plot; sys.exit(any(m.startswith('matplotlib') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_failed_figure_leaves_the_old_one(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), sheet(path):
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_plane_is_isometric():
    """A circle in a random plane of R^5: its two principal directions are that plane, so nothing is
    lost."""
    law = make(Circle, ambient=5)
    view = plane(law)
    x = law.sample(50, generator(1))
    y = torch.as_tensor(view(x))
    assert torch.allclose(torch.pdist(y), torch.pdist(x), atol=1e-9)
    assert torch.allclose(view.lift(y), x, atol=1e-9)
    flat = plane(Line())
    assert np.array_equal(flat(x[:, :2]), x[:, :2].numpy()) and flat.names == ("$x_1$", "$x_2$")


def test_support_breaks_between_pieces():
    from matplotlib.figure import Figure

    for law, breaks in ((Moons(), 1), (Circle(), 0)):
        ax = Figure().subplots()
        support(ax, law, plane(law))
        (line,) = ax.lines
        points = line.get_xydata()
        assert np.isnan(points[:, 0]).sum() == breaks
        step = np.linalg.norm(np.diff(points, axis=0), axis=1)
        assert np.nanmax(step) < 0.05  # 4000 points on a length of 2 pi


def test_log_axis_shows_two_decades():
    from matplotlib.figure import Figure

    for low, high in ((0.02, 0.3), (0.3, 0.4), (1e-12, 5.0), (1.0, 1.0)):
        ax = Figure().subplots()
        log_axis(ax.yaxis, low, high)
        bottom, top = np.log10(ax.get_ylim())
        assert (
            math.floor(top) - math.ceil(bottom) >= 1
            and 10**top >= high
            and 1 <= top - bottom <= 6.1
        )


def test_samples(drawn):
    law = Circle()
    quarter = torch.rand(1000, generator=generator(1), dtype=f64) * math.pi / 2
    cloud = 1.01 * torch.stack([quarter.cos(), quarter.sin()], 1)
    scatter, histogram, density = drawn(plot.samples, cloud, law)
    assert np.allclose(scatter.collections[-1].get_offsets(), cloud)
    assert (
        sum(bar.get_height() for bar in histogram.patches) == 1000
        and "mean 0.01" in histogram.get_legend().texts[0].get_text()
    )
    heights = density.patches[-1].get_data().values
    # a quarter of the circle: 10 of 40 cells
    assert heights.mean() == pytest.approx(1) and sorted(heights > 0)[:30] == [False] * 30
    assert (
        len(drawn(plot.samples, random_points().sample(100, generator(0)) + 0.01, random_points()))
        == 2
    )


def test_field_arrows_point_from_x_to_d(drawn):
    law = Line()
    exact = law.denoiser()
    sigma = 0.5
    axes = drawn(plot.fields, lambda x, s: exact(x, s) + 0.05, law, (sigma,), arrows=9, pixels=20)
    for ax, shift in zip(axes[:2], (0, 0.05), strict=True):
        (quiver,) = (c for c in ax.collections if hasattr(c, "U"))
        x = torch.as_tensor(quiver.XY)
        v = (exact(x, sigma) + shift - x).numpy()
        drawn_v = np.stack([quiver.U, quiver.V], 1)
        cell = float(x[1, 0] - x[0, 0])
        short = np.linalg.norm(v, axis=1) < 0.9 * cell
        assert short.any() and np.allclose(drawn_v[short], v[short])
        cosine = (drawn_v * v).sum(1) / np.linalg.norm(drawn_v, axis=1) / np.linalg.norm(v, axis=1)
        assert np.allclose(cosine, 1) and np.linalg.norm(drawn_v, axis=1).max() <= 0.9 * cell * (
            1 + 1e-9
        )
    error = axes[1].images[0].get_array()
    assert (
        np.allclose(error.compressed(), 0.05 * math.sqrt(2) / sigma)
        and 0 < error.mask.sum() < error.size
    )
    assert len(drawn(plot.fields, None, law, (0.1, 1.0), arrows=5)) == 2


def test_trajectories(drawn):
    """VE states shrink by sqrt(1+sigma^2/s^2): N(0, s^2+sigma^2) has the law's own spread s at
    every level."""
    law = Circle()
    sigma = torch.tensor([30.0, 1.0, 0.0], dtype=f64)
    x = torch.stack(
        [
            torch.full((3, 2), 30.0, dtype=f64),
            torch.ones(3, 2, dtype=f64),
            torch.zeros(3, 2, dtype=f64) + 0.7,
        ]
    )
    ax = drawn(plot.trajectories, Trajectory(x, x[1:], sigma, 2), law)[0]
    s = float(plane(law).truth.std(0).norm() / math.sqrt(2))
    start, end = (c.get_offsets() for c in ax.collections[-2:])
    assert np.allclose(start, 30 / math.sqrt(1 + (30 / s) ** 2)) and np.allclose(end, 0.7)
    flow = drawn(plot.trajectories, Trajectory(x, x[1:], sigma, 2, "flow"), law)[0]
    assert np.allclose(flow.collections[-2].get_offsets(), 30) and flow.get_title() == "chart flow"


def test_error_curves(drawn):
    law = Line()
    sigma = OU().sigma(torch.logspace(-4, 1, 20, dtype=f64))
    exact = law.denoiser()
    curves = denoiser_error(
        lambda x, s: exact(x, s) + torch.tensor([0.1, 0.2], dtype=f64), law, sigma, n=5
    )
    score, epsilon, f = drawn(plot.errors, {"model": curves}, t_min=0.05)
    for ax, key in ((score, "score"), (epsilon, "epsilon"), (f, "f")):
        total, normal, tangential = [line for line in ax.lines if len(line.get_xdata()) == 20]
        assert np.allclose(total.get_ydata() ** 2, curves[key]) and np.allclose(
            total.get_xdata(), curves["t"]
        )
        assert (
            np.allclose(normal.get_ydata() ** 2, curves[key + "_normal"])
            and normal.get_linestyle() == "--"
        )
        assert np.allclose(tangential.get_ydata() ** 2, curves[key + "_tangential"])
        assert any(list(line.get_xdata()) == [0.05, 0.05] for line in ax.lines)
    assert np.allclose(f.lines[0].get_ydata(), math.sqrt(0.025))


def test_fixed_point_curves(drawn):
    from diffgeo.metrics import fixed_point

    law = Line()
    curves = fixed_point(law.denoiser(), law, OU().sigma(torch.logspace(-3, 0, 7, dtype=f64)))
    t = curves["t"].numpy()
    axes = drawn(plot.fixed_point, {"exact again": curves})
    # row 2, column 1: x2/(1-e^{-t})
    assert np.allclose(axes[3].lines[0].get_ydata(), -0.1 / (1 - np.exp(-t)))
    assert np.allclose(axes[2].lines[1].get_ydata(), np.exp(-t / 2))  # row 1, column 3: e^{-t/2} x1


def test_loss(drawn):
    (ax,) = drawn(plot.loss, [(10 * k, 2.0 + (-1) ** k) for k in range(100)])
    raw, mean = ax.lines
    assert (
        list(raw.get_ydata()[:3]) == [3, 1, 3]
        and set(mean.get_ydata()) == {2.0}
        and ax.get_yscale() == "log"
    )
    assert drawn(plot.loss, [(1, 0.5)])[0].lines[0].get_ydata() == [0.5]


def test_comparison(drawn):
    groups = [({"model": m, "seed": "0"}, 3, {"w2": (v, 0.1)}) for m, v in (("a", 1.0), ("b", 2.0))]
    (ax,) = drawn(plot.comparison, groups, ["w2"], {"w2": 0.6})
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "model=a",
        "model=b",
    ] and ax.get_title() == "w2"
    assert [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in ax.lines
        if line.get_marker() == "o"
    ] == [(1, 0), (2, 1)]
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert band.x1 == pytest.approx(0.6)


def test_relative_error_shows_the_largest_value_or_says_that_it_does_not(drawn):
    """Every state is counted in some cell; the largest, which the verdict quotes, lies in its own
    or is named above the picture."""
    eta = 0.1 * torch.ones(3, 50, dtype=f64)
    nu = 1.2 * torch.ones(3, 50, dtype=f64)
    eta[1, 7] = 0.25
    nu[2, 3] = 50.0
    nu[2, 4] = 70.0
    sigma = torch.tensor([4.0, 2.0, 1.0], dtype=f64)
    axes = drawn(plot.relative_error, sigma, eta, nu)
    for ax in axes[:2]:
        assert ax.collections[0].get_array().sum() == 150
    # two of 50 are more than 1 %
    assert axes[0].get_ylim()[1] > 0.25 and axes[0].get_title() == "" and axes[1].get_title() == ""
    cells = np.ma.filled(axes[0].collections[0].get_array(), 0)
    assert cells[int(0.25 / axes[0].get_ylim()[1] * 60), 1] == 1
    nu[2, 4] = 1.2
    nu = torch.cat([nu, 1.2 * torch.ones(3, 400, dtype=f64)], 1)
    ax = drawn(plot.relative_error, sigma, 0.1 * torch.ones(3, 450, dtype=f64), nu)[1]
    assert (
        ax.get_ylim()[1] == pytest.approx(1.05 * 3 * 1.2)
        and ax.get_title() == "1 states above, up to 50"
    )


def test_lower_bounds_stay_on_the_axis_or_say_where_they_end(drawn):
    """Of ten steps that halve sigma the lower bound is (1 - (1 + eta)/2)^10: .45^10 = 3.4e-4 at eta
    = .1, 1e-7 at .6, six decades down."""
    sigma = 2.0 ** -torch.arange(11, dtype=f64)
    for eta, ends in ((0.1, 0.45**10), (0.6, 0.2**10)):
        even = torch.ones(10, 4, dtype=f64)
        fall = sigma[:, None].expand(11, 4)
        verdict = Verdict(Measured(sigma, fall, eta * even, even, even, torch.zeros(10), True))
        (ax,) = drawn(
            plot.distance_bounds,
            sigma=verdict.sigmas,
            distance=fall,
            bounds=verdict.bounds(),
            fails=verdict.fails,
        )
        assert ax.lines[3].get_ydata()[-1] == pytest.approx(ends)
        below = ax.get_ylim()[0] > ends
        assert below == (eta == 0.6) and ax.get_title() == "assumption met" + (
            "; below the axis, down to 1e-07" if below else ""
        )


def test_the_axis_of_the_estimators_is_that_of_the_data(drawn):
    sigma = torch.tensor([3.0, 2.0, 1.0], dtype=f64)
    exact = torch.ones(3, 5, dtype=f64)
    rise = torch.tensor([1.02, 1.05, 1.13], dtype=f64)[:, None] * exact
    (ax,) = drawn(plot.distance_estimators, sigma, {"exact": exact, "smoothed": rise})
    low, high = ax.get_ylim()
    assert (
        0.97 < low < 1 and 1.13 < high < 1.16 and np.allclose(ax.lines[1].get_ydata(), rise[:, 0])
    )


def test_work(drawn):
    """Lines that differ in colour or in marker and dashes; bars where there are seeds; ticks within
    a decade; a named floor."""
    groups = [
        (
            {"sampler": s, "sampler.steps": str(n)},
            3 if s == "g" else 1,
            {"nfe": (n, 0.0), "rms": (0.03 / n**0.2, 1e-3), "w2": (1 / n**2, 1e-4)},
        )
        for s in "abcdefg"
        for n in (5, 10, 20)
    ]
    first, second = drawn(plot.work, groups, ["rms", "w2"], "nfe", {"w2": 0.014})
    lines = [line for line in first.lines if line.get_linestyle() in ("-", "--")]
    assert (
        len(lines) == 7
        and lines[0].get_color() == lines[6].get_color()
        and lines[0].get_marker() != lines[6].get_marker()
    )
    assert (
        np.allclose(lines[0].get_ydata(), 0.03 / np.array([5, 10, 20]) ** 0.2)
        and lines[0].get_linestyle() != lines[6].get_linestyle()
    )
    assert [bool(bars.has_yerr) for bars in first.containers] == [False] * 6 + [True]
    for ax, floors in ((first, 0), (second, 1)):
        (low, high), seen = ax.get_ylim(), ax.lines[0].get_ydata()
        ticks = [t for t in ax.get_yticks() if low <= t <= high]
        assert (
            len(ticks) >= 3
            and all(f"{t:e}"[0] in "125" for t in ticks)
            and low < min(seen) < max(seen) < high
        )
        assert len(ax.patches) == floors
    (legend,) = first.figure.legends
    assert [text.get_text() for text in legend.texts] == [*"abcdefg", "noise floor"]
