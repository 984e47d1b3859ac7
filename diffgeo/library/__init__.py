"""diffgeo from Python: no command line, no config, no run folder unless you read one.

    import diffgeo
    law = diffgeo.law("curve")
    trained = diffgeo.train(law, model="cem", steps=1000)
    drawn = trained.simulation.draw(2000)
    numbers = diffgeo.evaluate(drawn, law)

The functions are those of the commands, with objects in the place of options: the same names and
seeds give the same numbers. `load` alone imports Hydra, which wrote the folder that it reads.
"""

from diffgeo.config.recipe import names as choices
from diffgeo.library.drawing import simulate
from diffgeo.library.folders import admit, load
from diffgeo.library.laws import law
from diffgeo.library.learning import train
from diffgeo.library.measuring import evaluate
from diffgeo.library.result import Result

__all__ = ["Result", "admit", "choices", "evaluate", "law", "load", "simulate", "train"]
