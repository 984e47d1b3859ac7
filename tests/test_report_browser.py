"""The page of `diffgeo report` in a real browser without a screen: its slider is moved and its
tables are sorted as a reader would, and what is seen is held against the numbers."""

import json
import math

import browser
import pytest
from browser import Browser

from diffgeo.report.page import page
from diffgeo.report.page.html import Markup
from diffgeo.report.page.layout import document
from diffgeo.report.page.sections import motion_section
from diffgeo.report.page.tables import table

pytestmark = pytest.mark.skipif(
    browser.found() is None, reason="no Chromium here: apt-get install chromium"
)
SIZE = 1000, 900
BLUE = "#0072b2"  # of the samples, on the light page
# [x, y] of the pixels of a drawing that have a colour, but for its softened edges
PIXELS = """((id, colour) => {
  const canvas = document.getElementById(id);
  const side = canvas.width;
  const pixels = canvas.getContext("2d").getImageData(0, 0, side, side).data;
  const wanted = [1, 3, 5].map((n) => parseInt(colour.slice(n, n + 2), 16));
  const found = [];
  for (let n = 0; n < side * side; n += 1) {
    const far = wanted.map((value, c) => Math.abs(pixels[4 * n + c] - value));
    if (pixels[4 * n + 3] < 250 || Math.max(...far) > 12) continue;
    found.push([n % side, Math.floor(n / side)]);
  }
  return {side, low: JSON.parse(canvas.dataset.low), high: JSON.parse(canvas.dataset.high), found};
})"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def run(made):
    """A run, and its page."""
    folder = made(
        "sample model=gaussian data=points2 sampler=euler sampler.steps=5 n=24 metrics=none "
        "figures=false hydra.run.dir=run"
    )
    written = page(folder / "run")
    assert written.lacking == []
    (folder / "run.html").write_text(written.html)
    return folder / "run.html"


def written(tmp_path, *parts):
    """A page of these parts."""
    path = tmp_path / "page.html"
    path.write_text(document("a page", "", [(str(n), "part", p) for n, p in enumerate(parts)]))
    return path


def in_the_picture(seen, point):
    """Where a point of the plane lies in a drawing, in pixels."""
    low, high, side = seen["low"], seen["high"], seen["side"]
    right = (point[0] - low[0]) / (high[0] - low[0])
    up = (point[1] - low[1]) / (high[1] - low[1])
    return right * side, (1 - up) * side


def check_drawn(seen, points):
    """Every point inside the window is a dot of the picture, and every dot is one of the points."""
    places = [in_the_picture(seen, point) for point in points]
    inside = [(x, y) for x, y in places if 3 < min(x, y) and max(x, y) < seen["side"] - 3]
    assert len(inside) > len(points) / 2
    dots = seen["found"]
    for x, y in inside:
        assert min(math.hypot(x - a - 0.5, y - b - 0.5) for a, b in dots) < 1.5
    for a, b in dots:
        assert min(math.hypot(x - a - 0.5, y - b - 0.5) for x, y in places) < 4.5


def test_the_slider_shows_the_numbers_of_its_level(chromium, run):
    """The arrow keys move it level by level; the dots are where the chart x/sqrt(1 + sigma^2/s^2)
    has the states of that level, and, asked for x itself, where they are. Nothing is asked of a
    network."""
    chromium.open(run, *SIZE)
    motion = chromium.run("motions[0]")
    for box in ("tails", "estimates"):
        chromium.click(f"#{box}")
    chromium.run("document.getElementById('sigma').focus()")
    for _ in range(6):
        chromium.key("ArrowLeft")
    last = None
    for level, sigma in enumerate(motion["sigma"]):
        told = chromium.run("document.getElementById('level').textContent")
        assert told == f"σ = {sigma:.3g}, level {level + 1} of 6"
        growth = math.sqrt(1 + (sigma / motion["spread"]) ** 2)
        seen = chromium.run(f"{PIXELS}('particles', '{BLUE}')")
        check_drawn(seen, [[value / growth for value in point] for point in motion["x"][level]])
        assert seen["found"] != last
        last = seen["found"]
        chromium.key("ArrowRight")
    told = chromium.run("document.getElementById('level').textContent")
    assert told == "σ = 0, level 6 of 6"
    for _ in range(4):
        chromium.key("ArrowLeft")
    choose = "const c = document.getElementById('chart'); c.value = 'x';"
    chromium.run(f"(() => {{ {choose} c.dispatchEvent(new Event('input')); }})()")
    seen = chromium.run(f"{PIXELS}('particles', '{BLUE}')")
    assert seen["high"][0] > motion["high"][0]
    check_drawn(seen, motion["x"][1])
    apart = chromium.run("document.getElementById('apart').textContent")
    expected = motion["fields"]["apart"][1]
    assert float(apart.rpartition(" ")[2]) == pytest.approx(expected, rel=5e-3)
    assert chromium.errors == []
    assert {address.split(":")[0] for address in chromium.requests} <= {"file", "data"}


def test_arrows_are_the_field(chromium, tmp_path):
    """One arrow of half a cell to the right, then one of 18 cells up, which is cut to one."""
    numbers = {
        "kind": "points",
        "about": "",
        "sigma": [2.0, 1.0, 0.0],
        "spread": 1.0,
        "origin": [0, 0],
        "axes": ["x1", "x2"],
        "low": [-1, -1],
        "high": [1, 1],
        "x": [[[0, 0]]] * 3,
        "denoised": [[[0, 0]]] * 2,
        "support": {"kind": "atoms", "xy": []},
        "fields": {"grid": [[0, 0]] * 16, "exact": [[[0.25, 0]] * 16, [[0, 9]] * 16]},
    }
    chromium.open(written(tmp_path, motion_section([("one", numbers)], [])), *SIZE)
    chromium.run("document.getElementById('sigma').focus()")
    chromium.key("ArrowLeft")
    chromium.key("ArrowLeft")
    seen = chromium.run(f"{PIXELS}('fields', '#1b1b1b')")
    half = seen["side"] / 2
    right = [a for a, b in seen["found"]]
    assert min(right) == pytest.approx(half, abs=3)
    assert max(right) == pytest.approx(1.25 * half, abs=3)
    chromium.key("ArrowRight")
    up = [b for a, b in chromium.run(f"{PIXELS}('fields', '#1b1b1b')")["found"]]
    assert min(up) == pytest.approx(0.5 * half, abs=3) and max(up) == pytest.approx(half, abs=3)


def test_the_slider_changes_the_pictures_of_images(chromium, tmp_path):
    """Another level, another picture; another run, its own pictures at the nearest level."""
    pictures = [f"data:image/svg+xml,{name}" for name in "abcdefg"]
    one = {"kind": "images", "about": "first", "sigma": [9.0, 3.0, 0.0], "spread": 1.0}
    one |= {"x": pictures[:3], "denoised": pictures[3:5]}
    other = {"kind": "images", "about": "second", "sigma": [8.0, 0.1], "spread": 1.0}
    other |= {"x": pictures[5:7], "denoised": pictures[5:6]}
    chromium.open(written(tmp_path, motion_section([("r", one), ("s", other)], [])), *SIZE)
    shown = "['states', 'denoised'].map((id) => document.getElementById(id).src.slice(-1))"
    chromium.run("document.getElementById('sigma').focus()")
    seen = []
    chromium.key("ArrowLeft")
    chromium.key("ArrowLeft")
    for _ in range(3):
        seen.append("".join(chromium.run(shown)))
        chromium.key("ArrowRight")
    assert seen == ["ad", "be", "ce"]
    chromium.run("document.getElementById('which').focus()")
    chromium.key("ArrowDown")
    assert "".join(chromium.run(shown)) == "gf"
    assert chromium.run("document.getElementById('about').textContent") == "second"


def test_a_click_sorts_the_table(chromium, tmp_path):
    """By size and not by letters, what is no number at the end both ways, equal ones as they
    stood."""
    rows = [["b", 10.0], ["a", 9.0], ["d", None], ["c", 1e-3], ["e", math.nan], ["f", 9.0]]
    chromium.open(written(tmp_path, table(["name", "value"], rows)), *SIZE)
    names = "Array.from(document.querySelectorAll('tbody tr'), (r) => r.cells[0].textContent)"

    def order():
        return "".join(chromium.run(f"{names}.join('')"))

    assert order() == "badcef"
    chromium.click("th:nth-child(2) button")
    assert order() == "cafbed"
    chromium.click("th:nth-child(2) button")
    assert order() == "bafced"
    assert chromium.run("document.querySelectorAll('th')[1].ariaSort") == "descending"
    chromium.click("th:nth-child(1) button")
    assert order() == "abcdef"
    assert chromium.run("document.querySelectorAll('th')[1].ariaSort") is None


def test_a_strangers_script_does_not_run(chromium, tmp_path):
    """Mischief as text does nothing; and were it to come through as HTML, the page's policy lets
    the browser run none of it."""
    mischief = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
    honest = written(tmp_path, table([mischief, "b"], [[mischief, 1.0]]))
    chromium.open(honest, *SIZE)
    assert chromium.run("typeof window.hacked") == "undefined" and chromium.errors == []
    assert chromium.run("document.querySelector('td').textContent") == mischief
    chromium.open(written(tmp_path, Markup(mischief)), *SIZE)
    assert chromium.run("document.querySelectorAll('main script, main img').length") == 2
    assert chromium.run("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in error for error in chromium.errors)


@pytest.mark.parametrize("dark", [False, True])
def test_readable_on_a_phone(chromium, run, dark):
    """No wider than the screen, by day and by night."""
    chromium.open(run, 360, 640, dark)
    assert chromium.run("document.documentElement.scrollWidth") <= 360
    colours = chromium.run(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    ink, paper = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
    assert (ink > paper) is dark
    assert json.loads(chromium.run("JSON.stringify(motions.length)")) == 1
