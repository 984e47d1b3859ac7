"""`diffgeo report`: what is on the page, held against the files it was made from and against closed
forms; how it is opened in a browser is in test_report_browser.py."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.report.page import page
from diffgeo.report.page.files import Budget, pictures_in, shown
from diffgeo.report.page.html import data_block, element, escaped
from diffgeo.report.page.motion import kept_levels
from diffgeo.report.page.settings import differences, known_default, name_of
from diffgeo.report.page.tables import table
from diffgeo.report.page.text import rendered
from diffgeo.run import flat, load, read_config

QUICK = "metrics=none figures=false"
EVIL = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>"
PIXEL = io.BytesIO()
Image.new("L", (1, 1)).save(PIXEL, "png")


class Seen(HTMLParser):
    """Every element of a page with its attributes, the rows of its tables, its JSON."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.tables = []
        self.blocks = {}
        self.cell = None
        self.block = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        self.elements.append((tag, said))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.cell = [said.get("data-value"), ""]
            self.tables[-1][-1].append(self.cell)
        if tag == "script":
            self.block = said.get("id")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None
        if tag == "script":
            self.block = None

    def handle_data(self, text):
        if self.cell is not None:
            self.cell[1] += text
        if self.block is not None:
            self.blocks[self.block] = json.loads(text)

    def column(self, table, name):
        """(the number that a cell is sorted by, its text) of every row."""
        head, *rows = table
        (place,) = [n for n, cell in enumerate(head) if cell[1] == name]
        return [tuple(row[place]) for row in rows]


@pytest.fixture(scope="module")
def runs(made):
    return made(
        "sample model=exact data=line sampler=euler sampler.steps=5 n=40 metrics=quick "
        "figures=false hydra.run.dir=sweep/0",
        "sample model=exact data=line sampler=euler sampler.steps=3 n=40 seed=1 metrics=quick "
        "figures=false hydra.run.dir=sweep/1",
        f"sample model=gaussian data=points2 sampler.steps=3 n=8 {QUICK} hydra.run.dir=points",
        f"sample model=exact data=digits sampler=euler sampler.steps=24 n=9 {QUICK} "
        "hydra.run.dir=digits",
    )


@pytest.fixture(scope="module")
def line(runs):
    """The first of them."""
    return runs / "sweep" / "0"


def seen(folder, **options):
    made = page(folder, **options)
    assert made.lacking == []
    return Seen(made.html)


def test_the_page_asks_nothing_of_a_network(line):
    """Every address on it is inside it, its script and style are named by their digests, and it is
    the same page when it is made again."""
    text = page(line).html
    for tag, said in Seen(text).elements:
        assert said.get("src", "data:").startswith("data:"), (tag, said)
        assert said.get("href", "#").startswith(("#", "data:")), (tag, said)
        assert not any(name.startswith("on") or name == "style" for name in said), (tag, said)
        assert tag not in ("link", "iframe", "object", "embed", "form")
    assert "http" not in re.sub("http-equiv", "", text)
    assert page(line).html == text


def test_paths_are_those_of_the_run(line):
    """The states on the page are the simulation's at every level, and end in samples.npy."""
    (motion,) = seen(line).blocks["motions"]
    way = load(line).simulation.trajectory(range(40))
    np.testing.assert_allclose(motion["sigma"], way.sigma, rtol=1e-4)
    np.testing.assert_allclose(motion["x"], way.x, rtol=1e-4)
    np.testing.assert_allclose(motion["denoised"], way.denoised, rtol=1e-4)
    stored = np.load(line / "samples.npy")
    np.testing.assert_allclose(motion["x"][-1], stored, rtol=1e-4)


def test_fields_are_closed_forms(runs, line):
    """On the line x1 ~ N(0,1), x2 = 0: D = (x1/(1 + sigma^2), 0). On two points +-a u, |u| = 1,
    with the Gaussian of the same covariance in the place of the law: D* = a tanh(a u.x/sigma^2) u
    and D = a^2/(a^2 + sigma^2) (u.x) u."""
    (motion,) = seen(line).blocks["motions"]
    fields = motion["fields"]
    assert "learned" not in fields and "apart" not in fields
    x = np.array(fields["grid"])
    for sigma, field in zip(motion["sigma"], fields["exact"], strict=False):
        expected = np.stack([x[:, 0] / (1 + sigma**2), 0 * x[:, 0]], 1) - x
        np.testing.assert_allclose(field, expected, atol=2e-3)
    assert len(fields["exact"]) == sum(sigma > 0 for sigma in motion["sigma"])

    (motion,) = seen(runs / "points").blocks["motions"]
    fields = motion["fields"]
    x = np.array(fields["grid"])
    atom = np.array(motion["support"]["xy"])[0]
    a = math.hypot(*atom)
    u = atom / a
    for level, sigma in enumerate(motion["sigma"][:-1]):
        exact = a * np.tanh(a * x @ u / sigma**2)
        reference = a**2 * x @ u / (a**2 + sigma**2)
        for name, along in (("exact", exact), ("learned", reference)):
            expected = np.outer(along, u) - x
            np.testing.assert_allclose(fields[name][level], expected, atol=2e-3)
        apart = math.sqrt(np.mean((exact - reference) ** 2)) / sigma
        assert fields["apart"][level] == pytest.approx(apart, rel=1e-3, abs=1e-9)


def test_images_are_the_runs_own(runs):
    """The last picture holds the samples as samples.npy does, 4 in a row; levels are left out."""
    (motion,) = seen(runs / "digits").blocks["motions"]
    assert motion["sigma"][-1] == 0 and len(motion["sigma"]) == len(motion["x"]) == 21
    assert len(motion["denoised"]) == 20
    sheet = decoded(motion["x"][-1])
    for number, image in enumerate(np.load(runs / "digits" / "samples.npy")):
        top = number // 4 * 9 + 1
        left = number % 4 * 9 + 1
        assert (sheet[top : top + 8, left : left + 8] == image).all()
    # the estimate of the first sample at the first level: every image, by its likelihood
    run = load(runs / "digits")
    images = run.data.dequantize(run.data.images).double().flatten(1).numpy()
    x = run.simulation.trajectory(range(1)).x[0].flatten().numpy()
    sigma = float(run.simulation.sigmas[0])
    log_weight = -np.square(images - x).sum(1) / (2 * sigma**2)
    weight = np.exp(log_weight - log_weight.max())
    mean = torch.as_tensor(weight @ images / weight.sum())
    expected = run.data.quantize(mean.reshape(1, 1, 8, 8))[0, 0].numpy().astype(int)
    assert abs(decoded(motion["denoised"][0])[1:9, 1:9].astype(int) - expected).max() <= 1


def decoded(address):
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.array(Image.open(io.BytesIO(content)))


def test_levels_are_even_and_end_at_both_ends():
    assert kept_levels(4, 10) == [0, 1, 2, 3, 4]
    assert kept_levels(100, 5) == [0, 25, 50, 75, 100]
    assert kept_levels(1, 1) == [0] or kept_levels(1, 2) == [0, 1]


def test_table_of_a_sweep(runs):
    """A row a job, with the numbers of its metrics.json, all digits of them; and the motion of
    each."""
    told = seen(runs / "sweep")
    listed = next(rows for rows in told.tables if rows[0][0][1] == "run")
    every = [json.loads((runs / "sweep" / n / "metrics.json").read_text()) for n in "01"]
    assert [text for _, text in told.column(listed, "run")] == ["0", "1"]
    assert [text for _, text in told.column(listed, "sampler.steps")] == ["5", "3"]
    assert [text for _, text in told.column(listed, "seed")] == ["", "1"]
    assert len(every[0]) > 5
    for key in every[0]:
        values = [float(value) for value, _ in told.column(listed, key)]
        assert values == [metrics[key] for metrics in every]
    motions = told.blocks["motions"]
    assert [len(motion["sigma"]) for motion in motions] == [6, 4]
    assert motions[0]["x"][0] != motions[1]["x"][0]  # another seed


def test_metrics_of_a_run(line):
    """A row a metric, and no slider where none is asked for."""
    told = seen(line, slider=False)
    metrics = json.loads((line / "metrics.json").read_text())
    shown = {row[0][1]: float(row[2][0]) for row in told.tables[0][1:]}
    assert shown == metrics
    assert "motions" not in told.blocks


def test_differences_rebuild_the_config(runs):
    """The default with the differences put in is the run's config, and none of them is idle."""
    config = OmegaConf.to_container(read_config(runs / "points"))
    default = known_default("sample")
    rows = differences(config, default)
    assert ("sampler.steps", "100", "3") in rows and ("n", "10000", "8") in rows
    named = {key for key, _, _ in rows}
    own = flat(config)
    usual = flat(default)
    assert {key for key in own.keys() | usual if own.get(key) != usual.get(key)} == named
    assert ("seed" in named) is False


def test_command_names():
    assert name_of("diffgeo train model=cem") == "train"
    assert name_of("diffgeo theory gits data=mixture") == "theory gits"
    for line in ("", "rm -rf /", "diffgeo", "diffgeo compare x", "diffgeo nosuch", "diffgeo 'a"):
        assert name_of(line) is None


def test_markdown_is_what_diffgeo_writes():
    text = "# cem: a <b>\n\nsize\n\n| a  | b |\n|----|---|\n| 1  | 2 |\n\n- one `x <y`\n- two\n"
    made = rendered(text)
    assert "<h3>cem: a &lt;b&gt;</h3>" in made
    assert "<li>one <code>x &lt;y</code></li><li>two</li>" in made
    ((head, row),) = Seen(made).tables
    assert [cell[1] for cell in head] == ["a", "b"] and [cell[0] for cell in row] == ["1.0", "2.0"]


def test_odd_tables():
    """A table of rules alone is text; a number that no float holds is shown as infinite; a cell
    that begins with a number is sorted by it."""
    assert rendered("|---|\n|---|\n") == "<p>|---| |---|</p>"
    values = [10**400, -(10**400), math.nan, 1e-17, "0.18 +- 0.02", "12 points", "1.2.3", "-"]
    ((_, *rows),) = Seen(table(["x"], [[value] for value in values])).tables
    expected = [None, None, None, "1e-17", "0.18", "12.0", None, None]
    assert [cell[0] for (cell,) in rows] == expected
    assert [cell[1] for (cell,) in rows][:5] == ["inf", "-inf", "nan", "0", "0.18 +- 0.02"]


def test_everything_is_escaped():
    assert escaped("<&>\"'") == "&lt;&amp;&gt;&quot;&#x27;"
    assert escaped("a\x00\ud800\u202eb") == "a\ufffd\ufffd\ufffdb"
    assert element("a", EVIL, title=EVIL).count("<") == 2
    block = data_block("x", {"k": "</script><!--&"})
    assert block.count("<") == 2 and json.loads(block[block.index("{") : -9])["k"][0] == "<"
    with pytest.raises(ValueError):
        data_block("x", [math.nan])


@pytest.fixture
def hostile(tmp_path):
    """A folder of a stranger's, with mischief wherever a name or a value may stand."""
    folder = tmp_path / "run<b>"
    return mischief(folder)


def mischief(folder):
    (folder / "figures").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({EVIL: 1.0, "</script>": 2.0}))
    (folder / "config.yaml").write_text(json.dumps({"seed": 0, EVIL.replace("'", ""): EVIL}))
    (folder / "overrides.yaml").write_text(json.dumps([f"data={EVIL}"]))
    record = {"command": f"diffgeo train data={EVIL!r}", "device": EVIL, "packages": {EVIL: EVIL}}
    (folder / "provenance.json").write_text(json.dumps(record))
    (folder / "table.csv").write_text('a,"<script>window.hacked=1</script>"\n1,<img onerror=x>\n')
    (folder / "notes.md").write_text(f"# {EVIL}\n\n| {EVIL} |\n|---|\n| {EVIL} |\n\n- `{EVIL}\n")
    (folder / "figures" / "<img src=x onerror=window.hacked=1>.png").write_bytes(PIXEL.getvalue())
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>parent.hacked=1</script></svg>'
    (folder / "figures" / "drawn.svg").write_text(svg)
    return folder


def test_a_strangers_words_stay_words(hostile):
    """No element or attribute comes through; each of its words is there to be read."""
    made = page(hostile)
    told = Seen(made.html)
    scripts = [said for tag, said in told.elements if tag == "script"]
    assert scripts == [{}]
    for _, said in told.elements:
        assert not any(name.startswith("on") for name in said)
        assert said.get("src", "data:").startswith("data:")
    words = {text for table in told.tables for row in table for _, text in row}
    assert EVIL in words and "<script>window.hacked=1</script>" in words
    assert [tag for tag, _ in told.elements].count("img") == 2
    assert made.lacking == [] or "no slider" in made.lacking[0]


def test_only_pictures_of_the_folder(tmp_path):
    """What is no picture, or lies elsewhere, is not on the page; what is too large is named."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(PIXEL.getvalue())
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "linked.png").symlink_to(secret)
    (folder / "text.png").write_text("no picture")
    (folder / "a.jpg").write_bytes(PIXEL.getvalue())
    (folder / "real.png").write_bytes(PIXEL.getvalue())
    found = pictures_in(folder, folder)
    assert [picture.path.name for picture in found] == ["real.png"]
    assert "data:image/png" in shown(found[0], Budget())
    assert "too large" in shown(found[0], Budget(10)) and "data:" not in shown(found[0], Budget(10))


def test_a_changed_run_is_told(line, tmp_path):
    """Other samples than the simulation's: said on the page; a file that is not what the run wrote:
    refused, or said in the place of what it would have shown."""
    from shutil import copytree

    folder = copytree(line, tmp_path / "line")
    stored = np.load(folder / "samples.npy")
    stored[3, 1] += 0.5
    np.save(folder / "samples.npy", stored)
    (said,) = page(folder).lacking
    assert "samples.npy is damaged" in said
    (folder / "provenance.json").unlink()
    (folder / "overrides.yaml").write_text("[]")
    record = json.loads((line / "provenance.json").read_text())
    record["files"] = {}
    (folder / "provenance.json").write_text(json.dumps(record))
    (said,) = page(folder).lacking
    assert "up to 0.5 from the run's samples" in said
    (folder / "metrics.json").write_text("{")
    with pytest.raises(DiffgeoError, match="metrics.json: Expecting property name"):
        page(folder)


def test_a_reproduction(line, tmp_path):
    from shutil import copytree

    folder = tmp_path / "cem"
    copytree(line, folder / "exact")
    (folder / "table.md").write_text(
        "# t: title\n\n| cell | W2 |\n|---|---|\n| exact | .1 +- .2 |\n"
    )
    (folder / "table.csv").write_text("cell,metric,published,measured\nexact,w2,0.5,0.1\n")
    told = seen(folder)
    assert [[cell[0] for cell in row] for row in told.tables[0][1:]] == [[None, "0.1"]]
    assert [cell[1] for cell in told.tables[1][0]] == ["cell", "metric", "published", "measured"]
    assert len(told.blocks["motions"]) == 1


def test_the_command(line, inside, tmp_path):
    done = inside("report", str(line), "out=page.html", "slider=false")
    assert done.returncode == 0 and done.stdout == "written: page.html\n"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "line, said",
    [
        ("report", "write diffgeo report FOLDER"),
        ("report a b", "write diffgeo report FOLDER"),
        ("report nosuch", "there is no such folder"),
        ("report empty", "there is nothing to show in it"),
        ("report empty out=empty", "out=empty is a folder"),
        ("report empty slider=maybe", "slider=maybe: write true or false"),
        ("report empty out=", "out= is empty"),
    ],
)
def test_refusals(inside, tmp_path, line, said):
    (tmp_path / "empty").mkdir()
    done = inside(*line.split())
    assert done.returncode == UsageError.status and said in done.line
    assert list(tmp_path.rglob("*.html")) == []


def test_a_page_is_not_written_through_a_strangers_link(inside, hostile, tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    (hostile / "report.html").symlink_to(target)
    done = inside("report", str(hostile))
    assert done.returncode == DiffgeoError.status and "is a link" in done.line
    assert target.read_text() == "mine"
