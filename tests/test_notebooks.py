"""The notebooks, the script and the page about Python: every cell and every fence is executed, and
what the words beside the cells say is held against what the cells compute."""

import importlib.util
import json
import math
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import torch

import diffgeo
from diffgeo import plot
from diffgeo.metrics.suite import within_floor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def no_display(tmp_path, monkeypatch):
    """Figures without a window, in an empty folder."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    yield
    matplotlib.pyplot.close("all")


def cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def words(text):
    """A text without its numbers, digests and stars, which another machine may round otherwise."""
    return re.sub(r"[-+\d.*]+(e[-+]\d+)?|\b[0-9a-f]{16}\b|\s", "", text)


def executed(path, capsys):
    """What the cells of a notebook define. What each prints has the words that are stored."""
    defined = {}
    for number, cell in enumerate(cells(path)):
        exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), defined)
        stored = ["".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream"]
        assert words(capsys.readouterr().out) == words("".join(stored)), number
    return defined


def test_first_steps(capsys):
    found = executed(ROOT / "examples/notebooks/first_steps.ipynb", capsys)
    assert found["law"].distance(found["drawn"].samples).mean() < 1e-5
    # "a half and a fourth of the error": the last name is DPM-Solver++(2M), 40 and 80 steps
    slope = math.log2(found["error"][2] / found["error"][3])
    assert 1.6 < slope < 2.6 and found["name"] == "dpmpp_2m"
    numbers = found["numbers"]
    assert numbers["distance/mean"] > 0.005 and numbers["distance/mean_floor"] < 1e-12
    assert within_floor(numbers, "transport/w2") and not within_floor(numbers, "distance/mean")


def test_own_law_and_network(capsys):
    found = executed(ROOT / "examples/notebooks/own_law_and_network.ipynb", capsys)
    law = found["law"]
    # E|x|^2 = 1 + .3^2/2, known to 5 standard errors of the draws behind it
    square = 2 * law.std**2 + float(law.mean.square().sum())
    assert abs(square - 1.045) < 5 * 0.43 / math.sqrt(1 << 16)
    # the last curve is that of epsilon: in proportion to sigma where sigma is large
    error, sigmas = found["error"], found["sigmas"]
    assert error[-1] / error[-3] == pytest.approx(float(sigmas[-1] / sigmas[-3]), rel=0.3)


def test_where_does_my_error_come_from(capsys):
    found = executed(ROOT / "examples/notebooks/where_does_my_error_come_from.ipynb", capsys)
    few, *_, many = found["rows"]
    assert few[1] > 2 * few[2] and many[2] > 2 * many[1]  # the sampler's fault, the network's
    for row in found["parts"].values():
        parts = [value for name, (value, _) in row.items() if name != "total"]
        assert sum(parts) == pytest.approx(row["total"][0], abs=1e-9)
    five, forty = found["parts"][5], found["parts"][40]
    assert five["discretization"][0] > 3 * five["score"][0]
    assert forty["score"][0] > 3 * forty["discretization"][0]


def test_every_notebook_is_executed_here():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in NOTEBOOKS} <= tested and len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_begins_with_its_title(path):
    first = cells(path, "markdown")[0]
    assert "".join(first["source"]).startswith("# ")
    assert path.stat().st_size < 100_000
    assert all(cell["execution_count"] is None for cell in cells(path))


def test_the_page_about_python_runs(made, capsys):
    """Its fences in their order, with fewer steps; the folder that it loads is made here."""
    line = "train model=cem data=circle trainer.steps=2 n=40 sampler.steps=2"
    folder = made(f"{line} metrics=quick figures=false hydra.run.dir=run") / "run"
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    fences = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = "\n".join(fences).replace("outputs/train/2024-05-01_12-00-00.000000", str(folder))
    code = re.sub(r"steps=\d+", "steps=2", code).replace('"curve"', '"circle"')
    code = re.sub(r"draw\(\d{3,}\)", "draw(40)", code)
    found = {}
    exec(compile(code, "docs/python.md", "exec"), found)
    assert torch.equal(found["run"].samples, found["run"].simulation.draw(40).samples)
    assert Path("loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(fences) == 7


def test_the_script_runs(capsys):
    spec = importlib.util.spec_from_file_location("script", ROOT / "examples" / "script.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    numbers = script.main(steps=2, n=40)
    assert f"{numbers['transport/w2']:.3f}" in capsys.readouterr().out
    assert Path("flower.png").exists()


def test_a_cloud_is_drawn_into_axes_of_ones_own():
    class Bare:
        shape = (2,)

        def sample(self, n, generator):
            return torch.rand(n, 2, generator=generator)

    figure, (left, right) = matplotlib.pyplot.subplots(1, 2)
    samples = torch.rand(25, 2, dtype=torch.float64)
    plot.cloud(right, samples, diffgeo.law(Bare()))
    assert not left.collections
    assert np.allclose(np.asarray(right.collections[-1].get_offsets()), samples.numpy())
