"""Some sampled images, and below each the nearest image of the set."""

from diffgeo import plot

PAIRS = 10


def shows(view):
    return view.of_set


def draw(path, view):
    data = view.experiment.data
    samples = data.quantize(view.run.samples[:PAIRS])
    nearest = data.project(data.dequantize(samples))
    plot.neighbours(path, samples, data.quantize(nearest))
