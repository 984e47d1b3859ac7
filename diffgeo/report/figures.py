"""The pictures of a run: of points in the plane and in R^n, and of images."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from diffgeo import plot
from diffgeo.core import Run, expand, generator
from diffgeo.metrics import denoiser_error
from diffgeo.metrics.budget_text import by_steps
from diffgeo.run import Experiment
from diffgeo.schedule import OU

# trajectories and noise levels in a picture of points
PATHS = 64
LEVELS = 40
# images in a grid, and beside their neighbours
SHOWN = 100
PAIRS = 10
NOISE = (0.2, 0.5, 1.0, 2.0, 5.0)  # at which images are denoised, in units of the data


def figures(
    experiment: Experiment, run: Run, folder: Path, values: Mapping[str, float]
) -> list[Path]:
    """Draw what there is to draw of a run and of its metrics `values`, into folder/figures; the
    paths written."""
    drawn = []
    kinds = {1: of_points, 3: of_images}

    def draw_to(name: str, figure, *arguments, **options) -> None:
        drawn.append(folder / "figures" / f"{name}.png")
        figure(drawn[-1], *arguments, **options)

    if (rank := len(experiment.data.shape)) in kinds:
        kinds[rank](experiment, run, draw_to)
    if parts := by_steps(values):
        draw_to("budget", plot.budget, parts)
    if run.denoise is not None and (folder / "metrics.jsonl").exists():
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        draw_to("loss", plot.loss, [(r["step"], r["loss"]) for r in records if "loss" in r])
    return drawn


def of_points(experiment: Experiment, run: Run, draw_to: Callable) -> None:
    """The cloud; with a denoiser its fields, trajectories and, for a learned one, its errors."""
    data = experiment.data
    draw_to("samples", plot.samples, run.samples, data)
    if run.denoise is None:
        return
    draw_to("fields", plot.fields, None if run.exact else run.denoise, data)
    with torch.no_grad():
        draw_to(
            "trajectories",
            plot.trajectories,
            run.simulation.trajectory(run.numbers[:PATHS]),
            data,
            PATHS,
        )
    if not run.exact:
        positive = run.simulation.positive
        levels = torch.logspace(
            *(math.log10(float(positive[i])) for i in (-1, 0)), LEVELS, dtype=torch.float64
        )
        chart = OU()
        trained = float(chart.t(experiment.schedule.draw(4096, generator(0)).min()))
        curves = denoiser_error(run.denoise, data, levels, chart, 500, run.seed, experiment.device)
        draw_to("errors", plot.errors, {"learned": curves}, trained)


@torch.no_grad()
def of_images(experiment: Experiment, run: Run, draw_to: Callable) -> None:
    """A grid of samples, the nearest image of the set beside some of them, and images denoised at a
    few levels, learned and exact."""
    data = experiment.data
    device = experiment.device
    samples = data.quantize(run.samples[:SHOWN])
    draw_to("samples", plot.grid, samples)
    some = samples[:PAIRS]
    draw_to("neighbours", plot.neighbours, some, data.quantize(data.project(data.float(some))))
    if run.denoise is None or run.exact:
        return
    g = generator(run.seed, *b"figure", device=device)
    x0 = data.sample(len(NOISE), g)
    sigma = data.std * torch.tensor(NOISE, dtype=torch.float64, device=device)
    x = x0 + expand(sigma, x0) * torch.randn(
        x0.shape, generator=g, device=device, dtype=torch.float64
    )
    rows = (
        data.quantize(row.cpu()) for row in (x, run.denoise(x, sigma), data.denoiser()(x, sigma))
    )
    draw_to("denoised", plot.denoised, *rows, sigma.tolist())
