"""How samples are drawn, said once: a `Simulation`, the options of its loop, its condition, and
noise that belongs to a sample.

    simulation = Simulation(Heun(), law.denoiser(), VE().grid(18), law.shape, seed=0)
    drawn = simulation.draw(range(1000))         # samples 0 .. 999, and what one took
    paths = simulation.trajectory(range(8))      # the same samples 0 .. 7 on their way
"""

from diffgeo.simulation.batches import fitting, ranges
from diffgeo.simulation.condition import ClassLabel
from diffgeo.simulation.options import Loop
from diffgeo.simulation.simulation import Drawn, Simulation, Start

__all__ = ["ClassLabel", "Drawn", "Loop", "Simulation", "Start", "fitting", "ranges"]
