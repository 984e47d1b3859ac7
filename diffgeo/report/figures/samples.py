"""The samples: points over the support of their law, images in a grid, under each the prompt that
it was made for where there are prompts."""

from diffgeo import plot
from diffgeo.plot import prompted
from diffgeo.simulation.condition import Worded

SHOWN = 100  # images
TOLD = 16  # images with a prompt


def shows(view):
    return view.planar or view.pictures


def draw(path, view):
    data = view.experiment.data
    samples = view.run.samples
    simulation = view.run.simulation
    if view.planar:
        plot.samples(path, samples, data)
    elif simulation is not None and isinstance(simulation.condition, Worded):
        words = simulation.condition.words(view.run.numbers[:TOLD])
        prompted.under_each(path, data.quantize(samples[:TOLD]).cpu(), words)
    else:
        plot.grid(path, data.quantize(samples[:SHOWN]))
