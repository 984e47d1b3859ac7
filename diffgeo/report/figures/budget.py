"""The parts of an error budget against the number of steps."""

from diffgeo import plot
from diffgeo.metrics.budget.text import by_steps


def shows(view):
    return bool(by_steps(view.values))


def draw(path, view):
    plot.budget(path, by_steps(view.values))
