"""The errors of a learned denoiser, level by level, and the level at which its training stops."""

import math

import torch

from diffgeo import plot
from diffgeo.core import Manifold, generator
from diffgeo.denoiser import trainable
from diffgeo.metrics import denoiser_error
from diffgeo.schedule import OU

LEVELS = 40
POINTS = 500  # forward samples a level
DRAWS = 4096  # of training levels, the lowest of which is marked


def shows(view):
    return view.planar and view.learned and isinstance(view.experiment.data, Manifold)


def draw(path, view):
    experiment = view.experiment
    run = view.run
    positive = run.simulation.positive
    lowest = math.log10(float(positive[-1]))
    highest = math.log10(float(positive[0]))
    levels = torch.logspace(lowest, highest, LEVELS, dtype=torch.float64)
    chart = OU()
    trained = chart.t(positive[-1])
    if trainable(experiment.model):
        trained = chart.t(experiment.schedule.draw(DRAWS, generator(0)).min())
    curves = denoiser_error(
        run.denoise, experiment.data, levels, chart, POINTS, run.seed, experiment.device
    )
    plot.errors(path, {view.kind: curves}, float(trained))
