"""The field of the denoiser, learned and exact, around the support of a law of points."""

from diffgeo import plot
from diffgeo.core import Manifold


def shows(view):
    known = isinstance(view.experiment.data, Manifold)
    return view.planar and known and view.run.simulation is not None


def draw(path, view):
    learned = view.run.denoise if view.learned else None
    plot.fields(path, learned, view.experiment.data, name=view.kind)
