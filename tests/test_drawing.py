"""Figures: their formats, their resolution, the style for a paper, the axes of a notebook, and the
names above and beside what is drawn."""

import base64
import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffgeo import plot
from diffgeo.config.drawings import Drawing, draws, of_config, repeated
from diffgeo.config.line import conf_dir, prepare
from diffgeo.config.titles import choice_of
from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.plot import paper
from diffgeo.plot.curves import in_order, named, work
from diffgeo.plot.page import picture, sheet, titled
from diffgeo.store.drawing import (
    FORMATS,
    drawn_as,
    figures_in,
    file_of,
    now,
    remove_figures,
)
from diffgeo.store.logger import Group

LONG = "position along the support (exact quantile)"  # wider than half of a column


@pytest.fixture
def saved(monkeypatch):
    """The figures that are written, laid out, one after the other."""
    found = []
    savefig = matplotlib.figure.Figure.savefig

    def spy(figure, *arguments, **options):
        savefig(figure, *arguments, **options)
        found.append(figure)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    return found


def curve(target) -> None:
    with sheet(target, 1, 1, (4.0, 3.0)) as (_, axes):
        axes[0, 0].plot([0, 1, 2], [0, 1, 4])


def panels(target, rows: int = 2, columns: int = 3) -> None:
    with sheet(target, rows, columns, (4.0, 3.0)) as (_, axes):
        for place, ax in np.ndenumerate(axes):
            ax.plot([0, 1], label=f"{place}")
            ax.set(title=LONG, xlabel=LONG, ylabel="y", label=f"{place}")


# files


@pytest.mark.parametrize("ending", FORMATS)
def test_same_numbers_are_the_same_bytes_on_any_day(tmp_path, monkeypatch, ending):
    made = []
    for day in ("86400", "8640000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)  # which matplotlib takes for today
        with drawn_as(Drawing(format=ending)):
            curve(tmp_path / "picture.png")
        (file,) = tmp_path.iterdir()
        assert file.name == f"picture.{ending}"
        made.append(file.read_bytes())
    assert made[0] == made[1]


def test_a_page_has_the_size_and_the_dots_that_are_asked_for(tmp_path):
    with drawn_as(Drawing(dpi=250)):
        curve(tmp_path / "a")
    assert Image.open(tmp_path / "a.png").size == (1000, 750)
    with drawn_as(Drawing(format="svg")):
        curve(tmp_path / "a")
    head = (tmp_path / "a.svg").read_text()[:800]
    assert 'width="288pt" height="216pt"' in head  # 4 x 3 inches
    with drawn_as(Drawing(format="pdf")):
        curve(tmp_path / "a")
    assert b"/MediaBox [ 0 0 288 216 ]" in (tmp_path / "a.pdf").read_bytes()
    assert [file.name for file in figures_in(tmp_path)] == ["a.pdf", "a.png", "a.svg"]
    remove_figures(tmp_path, "a*")
    assert not list(tmp_path.iterdir())


def test_a_large_cloud_is_one_picture_inside_a_drawing(tmp_path):
    """1500 marks are no objects of an svg, and stay dots of a png."""
    with drawn_as(Drawing(format="svg")), sheet(tmp_path / "a") as (_, axes):
        axes[0, 0].scatter(np.arange(1500), np.arange(1500), s=1)
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<image") == 1 and text.count("<use") < 100


def test_a_path_that_says_its_format_has_it():
    assert file_of("x/cloud.png") == Path("x/cloud.png") and file_of("v1.2") == Path("v1.2.png")
    with drawn_as(Drawing(format="svg")):
        assert file_of("cloud.png") == Path("cloud.svg") and file_of("c.pdf") == Path("c.pdf")
    assert now() == Drawing()


def test_a_picture_of_pixels_stays_what_it_is(tmp_path):
    pixels = torch.randint(0, 256, (12, 17, 3), generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(torch.uint8).numpy()
    for drawing in (Drawing(format="svg"), Drawing(dpi=300)):
        with drawn_as(drawing):
            picture(tmp_path / "p", Image.fromarray(pixels))
    inside = re.search(r"base64,([^\"]+)\"", (tmp_path / "p.svg").read_text())
    found = Image.open(BytesIO(base64.b64decode(inside[1]))).convert("RGB")
    assert np.array_equal(found, pixels)
    large = np.asarray(Image.open(tmp_path / "p.png"))
    assert np.array_equal(large, pixels.repeat(3, 0).repeat(3, 1))


# axes of somebody's


def test_what_is_drawn_into_axes_is_what_a_file_shows(tmp_path, saved):
    law = Circle()
    cloud = law.sample(50, torch.Generator().manual_seed(1)) * 1.01
    plot.samples(tmp_path / "a.png", cloud, law)
    (tmp_path / "a.png").unlink()
    own = matplotlib.figure.Figure(layout="constrained")
    left, right = own.subplots(1, 2)
    plot.samples(right, cloud, law)
    with titled("not above the figure of somebody"):
        plot.loss(left, [(1, 2.0), (2, 1.0)])
    assert not list(tmp_path.iterdir()) and len(saved) == 1 and not own.get_suptitle()
    assert left.lines[0].get_ydata().tolist() == [2.0, 1.0]
    (part,) = own.subfigs
    assert part.bbox.x0 > left.bbox.x1  # in the place of the axes
    for given, ours in zip(saved[0].axes, part.axes, strict=True):
        assert given.get_xlabel() == ours.get_xlabel()
        for one, other in zip(given.collections, ours.collections, strict=True):
            assert np.array_equal(one.get_offsets(), other.get_offsets())


def test_a_figure_is_drawn_into_whole_and_anything_else_refused():
    own = matplotlib.figure.Figure()
    panels(own)
    assert [ax.get_label() for ax in own.axes] == [f"({i}, {j})" for i in (0, 1) for j in (0, 1, 2)]
    free = matplotlib.figure.Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(UsageError, match="no place in a grid: draw it into a Figure"):
        panels(free)
    with pytest.raises(UsageError, match="not into a list"):
        curve([])


# for a paper


def test_a_column_of_a_paper(tmp_path, saved):
    """3.3 inches; letters of 8 points at most; the panels in the order of reading; every word on
    the page; and no title in the next panel's."""
    with drawn_as(Drawing(style="paper", dpi=60)), titled("names for the caption"):
        panels(tmp_path / "a", 1, 4)
    (figure,) = saved
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == pytest.approx(3.3) and not figure.get_suptitle()
    assert Image.open(tmp_path / "a.png").width == 198
    sizes = {text.get_fontsize() for text in figure.findobj(matplotlib.text.Text)}
    assert max(sizes) == 8
    named = [ax for ax in figure.axes if ax.get_label()]
    assert [ax.get_label() for ax in named] == [f"(0, {j})" for j in range(4)]
    places = [(-round(ax.bbox.y0), round(ax.bbox.x0)) for ax in named]
    assert places == sorted(places)
    for ax in named:
        for text in (ax.title, ax.xaxis.label):
            box = text.get_window_extent()
            assert 0 <= box.x0 and box.x1 <= figure.bbox.width
            assert 0 <= box.y0 and box.y1 <= figure.bbox.height
            assert " ".join(text.get_text().split()) == LONG
    for one, other in pairwise(named):
        if one.bbox.y0 == pytest.approx(other.bbox.y0):
            assert one.title.get_window_extent().x1 < other.title.get_window_extent().x0


def test_empty_lines_of_panels_are_left_out(tmp_path, saved):
    with drawn_as(Drawing(style="paper")), sheet(tmp_path / "a", 2, 2, (4.2, 3.4)) as (_, axes):
        for ax in axes.flat[1:]:
            ax.set_visible(False)
    assert saved[0].get_size_inches()[1] == pytest.approx(3.3 * 0.75)


def test_formulas_are_not_broken():
    text = r"the share $a + b + c$ of all"
    assert paper.broken(text, 12).split("\n") == ["the share", "$a + b + c$", "of all"]


# words of a line


def test_the_words_of_a_line_are_the_node_drawing():
    line = prepare("sample", ["figures.format=svg", "figures.dpi=200"])
    assert line[-2:] == ["drawing.format=svg", "drawing.dpi=200"]
    assert repeated(["drawing.format=svg", "drawing.dpi=1,2", "n=3"]) == ["figures.format=svg"]
    with pytest.raises(UsageError, match="no option figures.size; write figures.format="):
        prepare("sample", ["figures.size=3"])


def test_a_plain_command_takes_the_same_words():
    seen = []
    main = draws(lambda words: seen.append((words, now())))
    main(["a", "figures.format=pdf", "b", "figures.dpi=300"])
    assert seen == [(["a", "b"], Drawing(format="pdf", dpi=300))] and now() == Drawing()
    for word, told in (
        ("figures.format=gif", "figures.format=gif: write png, svg, pdf"),
        ("figures.dpi=7", "figures.dpi=7: write 20 to 1200"),
        ("figures.dpi=many", "a whole number"),
        ("figures.styel=paper", "no option figures.styel"),
    ):
        with pytest.raises(UsageError, match=told):
            main([word])


def test_what_a_config_says_is_checked():
    for node, told in (
        ({"format": 3}, "figures.format=3: write a word"),
        ({"dpi": True}, "a whole number of dots"),
        ({"size": 1}, "no option figures.size"),
        ("svg", "drawing=svg: write its options"),
    ):
        with pytest.raises(UsageError, match=told):
            of_config({"drawing": node})
    assert of_config({}) == Drawing() == of_config({"drawing": {"dpi": None}})


RUN = ("sample", "model=exact", "data=circle", "n=20", "metrics=none", "sampler.steps=3")


def test_runs_and_tables_are_drawn_as_asked(inside, tmp_path, saved):
    """One format in a run and in what is made of it; the names above; nothing where it is refused;
    and a finished run is the same run, however it was drawn."""
    named = "figures=[trajectories]"
    assert inside(*RUN, named, "figures.format=svg", "hydra.run.dir=s/a").returncode == 0
    (drawn,) = (tmp_path / "s/a/figures").iterdir()
    assert drawn.name == "trajectories.svg"
    assert saved[0].get_suptitle() == "circle, exact, heun, 3 steps"
    refused = inside(*RUN, "figures.format=jpg", "hydra.run.dir=s/b")
    assert refused.returncode == 2 and not (tmp_path / "s/b").exists()
    assert refused.line == "diffgeo: figures.format=jpg: write png, svg, pdf"
    again = inside(*RUN, named, "figures.format=pdf", "hydra.run.dir=s/a")
    assert again.returncode == 0 and "is finished" in again.stdout
    metrics = tmp_path / "s/a/metrics.json"
    for name, mean in (("a", 0.5), ("b", 0.25)):
        place = tmp_path / "s" / name
        place.mkdir(exist_ok=True)
        (place / "config.yaml").write_bytes((tmp_path / "s/a/config.yaml").read_bytes())
        (place / "overrides.yaml").write_text(f"- seed={name}\n")
        (place / "metrics.json").write_text(f'{{"distance/mean": {mean}}}')
        (place / "provenance.json").unlink(missing_ok=True)
    assert metrics.is_file()
    done = inside("compare", "s", "figures.format=pdf")
    assert done.returncode == 0 and "compare.pdf" in done.stdout
    assert saved[-1].get_suptitle() == "2 runs, circle, exact, heun"
    assert [file.name for file in figures_in(tmp_path / "s")] == ["compare.pdf"]
    foreign = inside("theory", "orders", "figures.format=svg")
    assert foreign.returncode == 2 and "figures.format" in foreign.line


# names


def test_words_of_somebody_are_no_formulas(tmp_path, saved):
    """Two dollars in the name of a folder are two dollars."""
    with titled(r"data=$\frac, n=$1"):
        curve(tmp_path / "a")
    work(
        tmp_path / "b", [({"run": r"$\x$"}, 1, {"m": (1.0, 0.0), "nfe": (2.0, 0.0)})], ["m"], "nfe"
    )
    assert len(saved) == 2


def test_a_choice_is_found_by_what_it_builds():
    """Every file of conf/sampler and conf/model that says its class, told from the others by its
    values alone; ddim is Euler's method, and dpm_solver_2 the midpoint rule."""
    alike = {
        "ddim": "euler",
        "euler": "ddim",
        "midpoint": "dpm_solver_2",
        "dpm_solver_2": "midpoint",
    }
    for group in ("sampler", "model"):
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            node = yaml.safe_load(file.read_text(encoding="utf-8"))
            if "_target_" in node:
                assert choice_of(group, node) in (file.stem, alike.get(file.stem)), file
    for name, other, key, value in (
        ("deis", "deis_rho", "interpolation", "rho"),
        ("unipc", "unipc_2", "points", 2),
    ):
        node = yaml.safe_load((conf_dir() / "sampler" / f"{name}.yaml").read_text("utf-8"))
        assert choice_of("sampler", node | {key: value}) == other
    assert choice_of("sampler", None) == ""
    assert choice_of("sampler", {"_target_": "mypkg.Ralston"}) == "Ralston"


def test_compared_lines_are_sorted_and_named(tmp_path, saved):
    """By name, numbers by their worth; the colour is the place in that order, whatever order the
    jobs had; above the names stands which settings they are."""
    groups = []
    for order in ("10", "2", "1"):
        for steps, error in ((5, 1.0), (10, 0.5)):
            settings = {"schedule@sampler.schedule": f"rho{order}", "sampler.steps": str(steps)}
            metrics = {"flow/rms": (error, 0.0), "nfe": (steps, 0.0)}
            groups.append((settings, 1, metrics))
    for shown in (groups, groups[::-1]):
        work(tmp_path / "a", shown, ["flow/rms"], "nfe")
        (legend,) = saved[-1].legends
        assert [text.get_text() for text in legend.get_texts()] == ["rho1", "rho2", "rho10"]
        assert legend.get_title().get_text() == "sampler.schedule"
        colours = [
            line.get_color() for line in saved[-1].axes[0].lines if len(line.get_xdata()) == 2
        ]
        assert colours[:3] == ["#0072B2", "#D55E00", "#009E73"]
    assert sorted(["b", "a10", "a9.5", "a"], key=in_order) == ["a", "a9.5", "a10", "b"]
    rows = [({"sampler": name}, 1, {"m": (value, 0.0)}) for name, value in (("b", 2), ("a", 1))]
    plot.comparison(tmp_path / "c", rows, ["m"])
    labels = [text.get_text() for text in saved[-1].axes[0].get_yticklabels()]
    assert labels == ["sampler=a", "sampler=b"]


def test_loggers_are_shown_pixels_alone():
    seen = []

    class Seeing:
        def figure(self, name, path):
            seen.append(path.name)

    for ending in ("png", "svg", "pdf", "gif", "mp4"):
        Group(Seeing()).figure("a", Path(f"a.{ending}"))
    assert seen == ["a.png", "a.gif"]


def test_a_setting_without_a_value_is_not_named():
    """Of a run for which it was not typed: trainer.steps of an exact denoiser."""
    assert named({"model": "exact", "trainer.steps": ""}) == "model=exact"
    assert named({"sampler.steps": "", "seed": "1"}) == "defaults"
    assert named({"seed": "1"}) == named({}) == "all"
