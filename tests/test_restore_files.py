"""What `diffgeo restore` leaves: shards that a killed run goes on from, and its sheet of images."""

import shutil

import numpy as np
import torch
from configs import composed
from PIL import Image

from diffgeo.commands.restore import made_from, restored
from diffgeo.commands.restore.problem import posed
from diffgeo.plot.restoration import Cell, images, in_cividis, scale_of, wrapped
from diffgeo.report.comparison import Row
from diffgeo.report.gallery import told_apart
from diffgeo.run import Job
from diffgeo.store import shards


def test_a_killed_run_goes_on_from_its_shards_and_from_no_other_s(tmp_path):
    """Of twenty images the group 8 .. 15 is there already: it is taken as it lies where it was made
    from the same, and made again where it was not."""
    line = ("data=digits", "operator=pool", "image='0:20'", "sampler.steps=3")
    problem = posed(composed("restore", *line), Job(tmp_path))
    whole, nfe, _ = restored(problem, tmp_path / "whole")
    assert whole.shape == (20, 1, 1, 8, 8) and nfe == 3
    mark = np.full((8, 1, 1, 8, 8), 0.25)
    for name, kept in ((made_from(problem), True), ("another", False)):
        place = tmp_path / name[-8:]
        shards.write(place / "shards", range(8, 16), mark, 3.0, name)
        found, _, _ = restored(problem, place)
        expected = whole.clone()
        if kept:
            expected[8:16] = 0.25
        assert torch.equal(found, expected)
        assert np.array_equal(np.load(place / "restored.npy"), expected.numpy())


def test_what_a_step_tells_of_every_draw_survives_a_kill(tmp_path):
    """The objective that `constraint` reached: the same where the first group was there already."""
    line = ("data=digits", "operator=pool", "image='0:12'", "sampler.steps=2", "draws=2")
    problem = posed(composed("restore", *line, "algorithm=constraint"), Job(tmp_path))
    draws, _, account = restored(problem, tmp_path / "whole")
    measurement = problem.measurement(3)
    objective = measurement.square(draws[3]) / 2
    torch.testing.assert_close(account["objective"][3], objective, rtol=1e-9, atol=1e-12)
    first = min((tmp_path / "whole/shards").iterdir())
    (tmp_path / "half/shards").mkdir(parents=True)
    shutil.copy(first, tmp_path / "half/shards")
    _, _, again = restored(problem, tmp_path / "half")
    assert account["objective"].shape == (12, 2)
    assert torch.equal(again["objective"], account["objective"])


def test_a_sheet_shows_pixels_as_they_are_and_maps_on_one_scale(tmp_path):
    """Two images of 2 x 2 at 84 x 84; a map whose 99 % quantile ends the scale."""
    grey = torch.tensor([[[0, 255], [10, 20]]], dtype=torch.uint8)
    heat = torch.tensor([[0.0, 0.5], [0.5, 0.5]])
    rows = [[Cell(grey, ("one",)), Cell(heat), None]]
    assert scale_of(rows) == 0.5
    images(tmp_path / "sheet.png", rows, ["a", "b", "c"], ["0"], "a title", [("", 1), ("both", 2)])
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    left = 6 + 12  # one letter and two gaps
    top = 3 * 12 + 12  # title, group, head, and two gaps
    shown = page[top : top + 84, left : left + 84]
    assert (shown[:42, :42] == 0).all() and (shown[:42, 42:] == 255).all()
    assert (shown[42:, :42] == 10).all() and (shown[42:, 42:] == 20).all()
    second = page[top : top + 84, left + 90 + 12 : left + 90 + 12 + 84]
    ends = in_cividis(np.array([0.0, 1.0]))
    assert (second[:42, :42] == ends[0]).all() and (second[42:, 42:] == ends[1]).all()
    third = page[top : top + 84, left + 180 + 12 : left + 180 + 12 + 84]
    assert (third == 255).all()


def test_titles_are_broken_between_words_and_runs_named_by_what_differs():
    assert wrapped("one two three", 7) == ["one two", "three"]
    one = Row("0", {"algorithm": "exact", "operator": "pool", "seed": "0"})
    other = Row("1", {"algorithm": "ddrm", "operator": "pool", "seed": "0"})
    assert told_apart([one, other]) == (["exact", "ddrm"], ": operator=pool, seed=0")
