"""The field of the denoiser, learned and exact, around the support of a law of points."""

from diffgeo import plot


def shows(view):
    return view.planar and view.run.simulation is not None


def draw(path, view):
    learned = view.run.denoise if view.learned else None
    plot.fields(path, learned, view.experiment.data, name=view.kind)
