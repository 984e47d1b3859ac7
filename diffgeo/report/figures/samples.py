"""The samples: points over the support of their law, images in a grid."""

from diffgeo import plot

SHOWN = 100  # images


def shows(view):
    return view.planar or view.pictures


def draw(path, view):
    data = view.experiment.data
    samples = view.run.samples
    if view.planar:
        plot.samples(path, samples, data)
    else:
        plot.grid(path, data.quantize(samples[:SHOWN]))
