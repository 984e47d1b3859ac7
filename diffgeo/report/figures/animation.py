"""A film of the first samples on their way from noise to the law; by name only. GIF, or with
figures.animation=mp4 an MP4."""

from collections.abc import Iterator

import numpy as np
import torch

from diffgeo.machine import progress
from diffgeo.plot import animation, film
from diffgeo.store.drawing import now

PARTICLES = 500
IMAGES = 16


def shows(view):
    named = view.experiment.figures is not True
    return named and view.run.simulation is not None and (view.planar or view.pictures)


def draw(path, view):
    """Draw the film beside `path`; where it is."""
    file = path.with_suffix(f".{now().animation}")
    if view.planar:
        paths = view.run.simulation.trajectory(view.run.numbers[:PARTICLES])
        frames = animation.points(paths, view.experiment.data)
    else:
        paths = view.run.simulation.trajectory(view.run.numbers[:IMAGES])
        frames = of_images(paths, view.experiment.data)
    film.write(file, told(frames, len(animation.moments(len(paths.x) - 1))))
    return file


@torch.no_grad()
def of_images(paths, data) -> Iterator[np.ndarray]:
    """Frames of images: the states, in the "ve" chart as x/sqrt(1 + sigma^2/s^2), s the law's
    deviation, whose noise is then as strong as the images are; and D of them."""
    states = []
    for x, sigma in zip(paths.x, paths.sigma.tolist(), strict=True):
        scale = (1 + (sigma / data.std) ** 2) ** 0.5 if paths.chart == "ve" else 1.0
        states.append(data.quantize(x / scale).cpu())
    estimates = [data.quantize(denoised).cpu() for denoised in paths.denoised]
    heads = ("the state, scaled", "what the denoiser makes of it")
    return animation.images(torch.stack(states), torch.stack(estimates), paths.sigma, heads)


def told(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The frames, with a bar."""
    with progress.bar(count, "animation", "frame", leave=False) as bar:
        for frame in frames:
            yield frame
            bar.update(1)
