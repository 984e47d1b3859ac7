"""The first of the run's own samples on their way."""

from diffgeo import plot

PATHS = 64


def shows(view):
    return view.planar and view.run.simulation is not None


def draw(path, view):
    run = view.run
    paths = run.simulation.trajectory(run.numbers[:PATHS])
    plot.trajectories(path, paths, view.experiment.data, PATHS)
