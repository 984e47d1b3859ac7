"""The run in motion: what the slider over sigma shows, as numbers that the page's script draws.

Of points, at some of the levels sigma_0 > .. > sigma_K that the run goes down,

    x           [levels,n,2]      the first of the run's own samples, as its simulation draws them
    denoised    [levels,n,2]      what the run's denoiser says of each there, E[x0 | x]
    exact       [levels,a*a,2]    D*(x; sigma) - x of the law on a grid of a x a points
    learned     [levels,a*a,2]    D(x; sigma) - x of the run's denoiser there

in the plane in which the law is drawn (`plot.canvas.plane`). Of images each level is two pictures,
the states and the estimates. The last level may be 0, where no denoiser is asked.

What is drawn again is compared with the run's samples.npy: where it is something else (another
machine, a changed file), the page says so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.config.build import Experiment
from diffgeo.core import Data, Known, Pictures, Trajectory
from diffgeo.denoiser import is_own
from diffgeo.errors import DiffgeoError
from diffgeo.plot.canvas import Plane, line_of, plane, points
from diffgeo.report.page.files import data_uri, first_rows
from diffgeo.simulation import Simulation

PARTICLES = 96  # samples of a law of points
LEVELS = 41  # of points, at most
ARROWS = 13  # a side of the grid of a field
SUPPORT = 600  # points of the support
FRAMES = 21  # levels of images, at most
SHEET = 1 << 18  # numbers in one picture of images, at most
SIDES = (4, 3, 2, 1)  # images a side of such a picture, the most that fit
GREY = 128  # between them
DIGITS = 5
# how near a sample drawn again is, at float32: of points in the law's spread, of pictures in bytes
ALIKE = 1e-3
ALIKE_BYTES = 2.0


class Motion(NamedTuple):
    """What the page's script is given of one run; and what a reader should know of it."""

    numbers: dict
    notes: list[str]


def motion_of(experiment: Experiment, folder: Path) -> Motion:
    """The motion of a run whose experiment has its weights. Raises DiffgeoError on a run of which
    there is none to show, in words that end a sentence."""
    data = experiment.data
    if isinstance(data, Pictures):
        if tuple(data.shape) != tuple(data.picture):
            raise DiffgeoError("its samples are latents, which are not decoded here")
        return of_images(experiment, data, folder)
    if len(data.shape) == 1:
        return of_points(experiment, folder)
    raise DiffgeoError("it is neither of points nor of pictures")


# the levels that are kept


def kept_levels(last: int, most: int) -> list[int]:
    """At most so many of the levels 0 .. last, evenly; the first and the last among them."""
    return sorted({round(float(k)) for k in np.linspace(0, last, min(most, last + 1))})


def recorded(simulation: Simulation, numbers: range, kept: Sequence[int]) -> Trajectory:
    """The samples of these numbers on their way, at some levels alone: states [levels,n,*D], and D
    at each but the last [levels-1,n,*D]."""
    start = simulation.start(numbers)
    states = [points(start.x)]
    denoised = []
    for k, step in enumerate(simulation.steps(start)):
        if k in kept:
            denoised.append(points(step.denoised))
        if k + 1 in kept:
            states.append(points(step.x))
    states[-1] = points(simulation.kept(states[-1].to(simulation.device)))
    sigma = points(simulation.sigmas)[list(kept)]
    return Trajectory(torch.stack(states), torch.stack(denoised), sigma, start.counted.nfe)


# points


def of_points(experiment: Experiment, folder: Path) -> Motion:
    """Particles and fields in the plane of a law of points."""
    simulation = experiment.simulation
    data = experiment.data
    numbers = experiment.numbers[:PARTICLES]
    paths = recorded(simulation, numbers, kept_levels(len(simulation.sigmas) - 1, LEVELS))
    view = plane(data)
    spread = spread_of(view)
    low, high = window(view, spread)
    told = {
        "kind": "points",
        "about": said_of(experiment, len(numbers), len(paths.sigma)),
        "sigma": rounded(paths.sigma),
        "spread": spread,
        "origin": rounded(view(view.origin)),
        "axes": [name.replace("$", "").replace("_", "") for name in view.names],
        "low": rounded(low),
        "high": rounded(high),
        "x": rounded(view(paths.x)),
        "denoised": rounded(view(paths.denoised)),
        "support": support_of(data, view),
        "fields": fields_of(experiment, view, paths.sigma, low, high),
    }
    return Motion(told, differs(data.store(paths.x[-1]), folder, ALIKE * spread))


def spread_of(view: Plane) -> float:
    """The law's deviation, of a coordinate of R^d."""
    return float(view.truth.std(0).norm() / view.truth.shape[1] ** 0.5) or 1.0


def window(view: Plane, spread: float) -> tuple[Tensor, Tensor]:
    """Two corners of the square that is drawn: the true samples, and a spread around them."""
    truth = torch.as_tensor(view(view.truth))
    centre = (truth.amax(0) + truth.amin(0)) / 2
    half = float((truth.amax(0) - truth.amin(0)).max()) / 2 + spread
    return centre - half, centre + half


def support_of(data: Data, view: Plane) -> dict:
    """The support, as the other pictures have it: its atoms, a line, or true samples."""
    if data.atoms is not None:
        return {"kind": "atoms", "xy": rounded(view(data.atoms)[:SUPPORT])}
    if data.coordinate is not None:
        line = line_of(data, view)
        return {"kind": "line", "xy": rounded(line[:: max(1, len(line) // SUPPORT)], gaps=True)}
    return {"kind": "samples", "xy": rounded(view(view.truth)[:SUPPORT])}


@torch.no_grad()
def fields_of(
    experiment: Experiment, view: Plane, sigmas: Tensor, low: Tensor, high: Tensor
) -> dict:
    """The fields D - x on a grid at the levels above 0, of the law and of the run's denoiser where
    that is another; and of the two the root mean square of |D - D*|/sigma over the grid."""
    denoise = experiment.model
    data = experiment.data
    grid = grid_of(low, high)
    x = view.lift(grid)
    found: dict[str, list] = {"grid": rounded(grid)}
    for sigma in sigmas[sigmas > 0].tolist():
        fields = {}
        if isinstance(data, Known):
            fields["exact"] = view(data.denoiser()(x, sigma)) - grid.numpy()
        if not is_own(denoise, data):
            fields["learned"] = view(denoise(x.to(experiment.device), sigma)) - grid.numpy()
        for name, field in fields.items():
            found.setdefault(name, []).append(rounded(field))
        if len(fields) == 2:
            squares = np.square(fields["learned"] - fields["exact"]).sum(1)
            found.setdefault("apart", []).append(rounded(squares.mean() ** 0.5 / sigma))
    return found


def grid_of(low: Tensor, high: Tensor) -> Tensor:
    """ARROWS^2 points of the plane, [a*a,2], row by row from below; half a cell off its edges."""
    cell = (high - low) / ARROWS
    first = torch.linspace(0.5, ARROWS - 0.5, ARROWS, dtype=torch.float64)
    y, x = torch.meshgrid(first, first, indexing="ij")
    return low + torch.stack([x.flatten(), y.flatten()], 1) * cell


# images


def of_images(experiment: Experiment, data: Pictures, folder: Path) -> Motion:
    """Two pictures a level: the states x/sqrt(1 + sigma^2/s^2), s the law's deviation, and D."""
    simulation = experiment.simulation
    size = int(np.prod(data.picture))
    side = next((side for side in SIDES if side**2 * size <= SHEET), 1)
    numbers = experiment.numbers[: side**2]
    paths = recorded(simulation, numbers, kept_levels(len(simulation.sigmas) - 1, FRAMES))
    scale = torch.sqrt(1 + (paths.sigma / (data.std or 1.0)) ** 2)
    middle = (data.low + data.high) / 2
    states = []
    for x, factor in zip(paths.x, scale, strict=True):
        states.append(sheet_of(data.quantize(middle + (x - middle) / factor), side))
    denoised = [sheet_of(data.quantize(x), side) for x in paths.denoised]
    told = {
        "kind": "images",
        "about": said_of(experiment, len(numbers), len(paths.sigma)),
        "sigma": rounded(paths.sigma),
        "spread": data.std,
        "x": states,
        "denoised": denoised,
    }
    return Motion(told, differs(data.store(paths.x[-1]), folder, ALIKE_BYTES))


def sheet_of(images: Tensor, side: int) -> str:
    """Images uint8 [n,C,H,W] in rows of `side`, a grey pixel around each, as the address of a
    PNG."""
    from PIL import Image

    n, channels, height, width = images.shape
    rows = -(-n // side)
    size = rows * (height + 1) + 1, side * (width + 1) + 1, channels
    page = np.full(size, GREY, np.uint8)
    for number, image in enumerate(images.cpu().movedim(1, -1).numpy()):
        top = number // side * (height + 1) + 1
        left = number % side * (width + 1) + 1
        page[top : top + height, left : left + width] = image
    content = io.BytesIO()
    Image.fromarray(page[..., 0] if channels == 1 else page).save(content, "png", optimize=True)
    return data_uri(content.getvalue(), "image/png")


# both


def said_of(experiment: Experiment, n: int, levels: int) -> str:
    """What is shown, in words."""
    every = len(experiment.simulation.sigmas)
    of_levels = f"at {levels} of its {every} levels" if levels < every else "at each of its levels"
    return f"the first {n} of {len(experiment.numbers)} samples, {of_levels}"


def rounded(values: Tensor | np.ndarray | float, gaps: bool = False):
    """Numbers as lists with DIGITS digits. gaps: nan, which parts two pieces of a line, is null.
    Raises DiffgeoError where one is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if np.isinf(array).any() or (np.isnan(array).any() and not gaps):
        raise DiffgeoError("its numbers are not finite")
    if array.ndim:
        return [rounded(part, gaps) for part in array]
    return None if np.isnan(array) else float(f"{float(array):.{DIGITS}g}")


def differs(last: np.ndarray, folder: Path, alike: float) -> list[str]:
    """A line where the ends of the paths, as samples.npy holds them, are not the samples in a run's
    folder as far as `alike`; none where they are, or there are none. Raises DiffgeoError where
    samples.npy is damaged."""
    stored = first_rows(folder, folder / "samples.npy", len(last))
    if stored is None:
        return []
    if stored.shape != last.shape:
        return ["samples.npy holds samples of another shape than the paths that are drawn here"]
    far = float(np.abs(stored.astype(np.float64) - last.astype(np.float64)).max())
    if far <= alike:
        return []
    return [
        f"the paths are drawn again and end up to {far:.2g} from the run's samples: another "
        "machine or version, or a changed folder"
    ]
