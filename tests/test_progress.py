"""What is said while something takes long: lines in a log, a bar on a terminal, the time at the
end."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from diffgeo.machine import progress
from diffgeo.machine.progress import bar, duration
from diffgeo.sampler import Euler
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_log_gets_a_line_every_30_seconds(clock, capsys):
    """100 steps, of 2 s each for the first 40 and of 1 s from there: lines fall due at 30, 60, 90
    and 120 s, and what they say was worked out by hand."""
    with bar(100, "train") as shown:
        for step in range(1, 101):
            clock.seconds += 2 if step <= 40 else 1
            shown.tell(loss=f"{1 / step:.2f}")
            shown.update(1)
    assert capsys.readouterr().err.splitlines() == [
        "train: 15 of 100 steps (15 %), loss 0.07, 2 s/step, 2 min 50 s left",
        "train: 30 of 100 steps (30 %), loss 0.03, 2 s/step, 2 min 20 s left",
        "train: 50 of 100 steps (50 %), loss 0.02, 1.5 s/step, 1 min 15 s left",
        "train: 80 of 100 steps (80 %), loss 0.01, 1 steps/s, 20 s left",
        "train: 100 of 100 steps (100 %), loss 0.01, 1.4 s/step, 2 min 20 s in all",
    ]


def test_a_loop_of_one_long_unit_says_so_once(clock, capsys):
    with bar(1, "metrics", "metric") as shown:
        clock.seconds += 98
        shown.update(1)
    said = capsys.readouterr().err.splitlines()
    assert said == ["metrics: 1 of 1 metrics (100 %), 98 s/metric, 1 min 38 s in all"]


def test_less_than_30_seconds_say_nothing(clock, capsys):
    with bar(29, "train") as shown:
        for _ in range(29):
            clock.seconds += 1
            shown.update(1)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_is_no_rate(clock, capsys):
    """Taken up at step 900 of 1000: 60 steps in 30 s are 2 a second, and 40 are left."""
    with bar(1000, "train", done=900) as shown:
        clock.seconds += 30
        shown.update(60)
        clock.seconds += 40
        shown.update(0)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "train: 960 of 1000 steps (96 %), 2 steps/s, 20 s left"
    assert said[1] == "train: 960 of 1000 steps (96 %), 0 steps/s, time left unknown"
    assert said[2] == "train: 960 of 1000 steps (96 %), 1.167 s/step, 1 min 10 s in all"


def test_nothing_of_a_process_that_is_not_the_first(clock, capsys):
    with bar(2, "train", shown=False) as shown:
        clock.seconds += 100
        shown.update(2)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_counts_fractions(monkeypatch):
    """Three thirds are one sample, and half of one is rounded at the end alone."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with bar(4, "sample", "sample") as shown:
        for _ in range(9):
            shown.update(1 / 3)
        assert shown.drawn.n == 3
        shown.update(0.6)
        assert shown.drawn.n == 3
        shown.update(0.4 - 1e-9)
        assert shown.drawn.n == 4
    assert "sample: 100%" in terminal.getvalue() and "4/4" in terminal.getvalue()


def test_a_notebook_gets_tqdms_widget_or_its_text(monkeypatch):
    """A kernel is told by IPython's own config; without ipywidgets the bar is text."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    made = []
    widgets = SimpleNamespace(IProgress=None, tqdm=lambda **options: made.append(options))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", widgets)
    import tqdm

    monkeypatch.setattr(tqdm, "notebook", widgets, raising=False)
    with bar(2, "train") as shown:
        shown.update(2)
    assert "train: 100%" in stream.getvalue() and made == []
    widgets.IProgress = object
    bar(7, "train", done=3)
    assert made[0]["total"] == 7 and made[0]["initial"] == 3
    shell.config = {}
    assert isinstance(bar(2, "train"), progress.Lines)


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_a_time_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_steps_of_a_batch_add_up_to_its_samples():
    """10 samples in batches of 4, 4 and 2, 5 steps each: after each step its share."""
    simulation = Simulation(Euler(), lambda x, sigma: 0 * x, VE().grid(5), (2,))
    shares = []
    parts = list(simulation.parts([range(0, 4), range(4, 8), range(8, 10)], shares.append))
    assert shares == [4 / 5] * 10 + [2 / 5] * 5
    plain = simulation.draw(range(10)).samples
    assert torch.equal(torch.cat([part.samples for part in parts]), plain)


def test_a_training_and_its_end_in_a_log(inside, monkeypatch):
    """Every step taken to be long: the lines of each step; and at the end where the time went."""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    done = inside(
        *("train", "model=cem", "data=curve", "trainer.steps=3", "trainer.log_every=1", "n=50"),
        *("metrics=quick", "metrics.flow=null", "metrics.exact=auto", "sampler.steps=5"),
        *("figures=[samples]", "hydra.run.dir=run", "logger=jsonl"),
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("train: ")]
    pattern = r"train: (\d) of 3 steps \(\d+ %\), loss [\d.e+]+, .* steps/s, .*"
    told = [re.fullmatch(pattern, line) for line in lines]
    assert [match and match[1] for match in told] == ["1", "2", "3"], lines
    for what in ("sample: 50 of 50 samples", "metrics: 3 of 3", "figures: 1 of 1 figures"):
        assert what in done.stderr
    last = done.stdout.splitlines()[-1]
    number = r"[\d.]+ s"
    parts = ", ".join(f"{part} {number}" for part in ("training", "sampling", "metrics", "figures"))
    assert re.fullmatch(f"time: {number}: {parts}", last), last
