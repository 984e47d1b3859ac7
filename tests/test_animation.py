"""Sampling as a film: every frame shows what the sampler did at that place, and the file holds the
frames."""

import importlib.util
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from diffgeo.core import Trajectory
from diffgeo.data import Circle
from diffgeo.errors import UsageError
from diffgeo.plot import animation, film

f64 = torch.float64
SIGMA = torch.tensor([8.0, 2.0, 0.5, 0.0], dtype=f64)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(animation, "FRAMES", 7)


@pytest.fixture
def seen(monkeypatch):
    """What stood on the page at each frame: the moving artists' contents, and the level."""
    found = []

    def look(page, moment, level):
        moving = [artist for artist in page.moving if artist not in (page.filled, page.said)]
        found.append((moment, float(level), moving))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(animation.Page, "frame", look)
    return found


def test_every_state_has_a_frame_and_every_step_as_many():
    for steps in (1, 3, 50, 90):
        found = animation.moments(steps)
        assert [m.step for m in found if m.part == 0] == list(range(steps + 1))
        counts = np.bincount([m.step for m in found])[:-1]
        assert len(set(counts)) == 1 and animation.FRAMES <= len(found) <= animation.MOST
    many = animation.moments(1000)
    assert len(many) == animation.MOST and (many[0].step, many[-1].step) == (0, 1000)
    states = torch.tensor([[0.0], [4.0], [6.0]])
    assert animation.Moment(1, 0.25).between(states).item() == 4.5


def test_particles_are_where_the_sampler_had_them(few, seen):
    """Of states x0 + sigma e the film shows (x0 + sigma e)/sqrt(1 + sigma^2/s^2) at every level
    between two of them too, s = sqrt(1/2) the spread of a circle; in another chart the states."""
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(5, 2, generator=g, dtype=f64)
    noise = torch.randn(5, 2, generator=g, dtype=f64)
    x = x0 + SIGMA[:, None, None] * noise
    paths = Trajectory(x=x, denoised=x[:-1], sigma=SIGMA, nfe=3, chart="ve")
    offsets = []
    for _ in animation.points(paths, Circle()):
        ((cloud,),) = [moving for _, _, moving in seen[-1:]]
        offsets.append(np.array(cloud.get_offsets()))
    levels = [level for _, level, _ in seen]
    assert levels == [8, 5, 2, 1.25, 0.5, 0.25, 0]
    for level, shown in zip(levels, offsets, strict=True):
        expected = (x0 + level * noise) / (1 + level**2 / 0.5) ** 0.5
        assert np.allclose(shown, expected, rtol=0.03)  # s is that of 4 000 points
    assert np.array_equal(offsets[-1], x0.numpy())
    seen.clear()
    for k, _ in enumerate(animation.points(paths._replace(chart="ou"), Circle())):
        (cloud,) = seen[-1][2]
        if seen[-1][0].part == 0:
            assert np.allclose(cloud.get_offsets(), x[k // 2])


def test_images_are_blended_and_estimates_change_at_the_states(few, seen):
    states = torch.tensor([0, 100, 200, 50], dtype=torch.uint8).reshape(4, 1, 1, 1, 1)
    states = states.expand(4, 3, 1, 2, 2).clone()
    estimates = states[:3] + 7
    shown = []
    for _ in animation.images(states, estimates, SIGMA, ("left", "right")):
        left, right = seen[-1][2]
        shown.append((int(left.get_array()[0, 0]), int(right.get_array()[0, 0])))
    assert shown == [(0, 7), (50, 7), (100, 107), (150, 107), (200, 207), (125, 207), (50, 50)]


def test_a_mosaic_puts_images_in_the_order_of_reading():
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 2, 2)
    assert animation.mosaic(images)[::3, ::3].tolist() == [[0, 1, 2], [3, 4, 255]]
    colours = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    colours[:, 2] = 9
    assert animation.mosaic(colours)[0, 0].tolist() == [0, 0, 9]


def test_the_bar_is_as_long_as_the_noise_has_fallen():
    page = animation.Page(1, SIGMA, 2.0)
    (head,) = page.axes
    page.heads(["a"])
    for level, end in ((8.0, 8.0), (2.0, 2.0), (0.0, 0.5)):
        pixels = page.frame(animation.Moment(1, 0.5), torch.tensor(level))
        left, right = page.filled.get_x(), page.filled.get_x() + page.filled.get_width()
        assert (left, right) == (end, 8.0)
        low, high = (page.bar.get_window_extent().x0, page.bar.get_window_extent().x1)
        y = pixels.shape[0] - int(page.bar.get_window_extent().y0 + 5)
        grey = (pixels[y, int(low) : int(high)] == 154).all(-1).mean()
        assert grey == pytest.approx(np.log(8 / end) / np.log(8 / 0.5), abs=0.03)
    assert page.said.get_text().endswith("= 0,  step 2 of 3")


def colours(n: int = 4) -> list[np.ndarray]:
    return [np.full((20, 30, 3), (20 * k, 80, 255 - 30 * k), np.uint8) for k in range(n)]


def test_a_gif_holds_its_frames(tmp_path):
    film.write(tmp_path / "a.gif", iter(colours()))
    film.write(tmp_path / "b.gif", colours())
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    found = Image.open(tmp_path / "a.gif")
    times = []
    for k, frame in enumerate(colours()):
        found.seek(k)
        times.append(found.info["duration"])
        assert np.abs(np.asarray(found.convert("RGB")).astype(int) - frame).max() <= 4
    assert found.n_frames == 4 and found.info["loop"] == 0 and times == [50, 50, 50, 2000]
    for path, frames, told in (("c.gif", [], "one frame"), ("c.avi", colours(), "ends in .gif")):
        with pytest.raises(UsageError, match=told):
            film.write(tmp_path / path, frames)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gif", "b.gif"]


def test_the_page_of_a_gif_is_white(tmp_path):
    frame = np.full((40, 40, 3), 255, np.uint8)
    frame[:3] = 251  # what a palette would take a mean with
    page = Image.open(BytesIO(film.gif([frame, frame[::-1].copy()]))).convert("RGB")
    assert page.getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not here"
)
def test_an_mp4_holds_its_frames(tmp_path):
    import imageio_ffmpeg

    for name in "ab":
        film.write(tmp_path / f"{name}.mp4", colours())
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", tmp_path / "a.mp4"]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True
    )
    found = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 20, 30, 3).astype(int)
    assert len(found) == 4 + 40  # the last stands for two seconds
    for frame, shown in zip(colours(), found, strict=False):
        assert np.abs(shown - frame).mean() < 4


def test_a_film_is_drawn_by_name_alone(few, inside, tmp_path, monkeypatch):
    run = ("sample", "model=exact", "data=points2", "n=20", "metrics=none", "sampler.steps=3")
    done = inside(*run, "figures=[animation]", "figures.format=svg", "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "a" / "figures").iterdir()
    assert made.name == "animation.gif" and Image.open(made).n_frames == 7
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused = inside(*run, "figures=[animation]", "figures.animation=mp4", "hydra.run.dir=b")
    assert refused.returncode == 2 and not (tmp_path / "b").exists()
    assert "needs imageio-ffmpeg: pip install 'diffgeo[video]'" in refused.line
