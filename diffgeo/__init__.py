"""diffgeo: the geometry of diffusion models, every learned denoiser held against an exact one.

    import diffgeo
    law = diffgeo.law("curve")                                   # or an object of yours
    trained = diffgeo.train(law, model="cem", steps=1000)
    drawn = trained.simulation.draw(2000)
    print(diffgeo.evaluate(drawn, law))

What is public stands in one list, `__all__`: the functions of the command line in Python, and the
rooms that hold laws, samplers, schedules, networks, metrics and pictures. Everything else may
change without a word. `import diffgeo` imports no torch; a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from diffgeo.machine import torchvision_guard

if TYPE_CHECKING:  # what the names below are, for editors and mypy
    from diffgeo import (
        analytic,
        core,
        data,
        denoiser,
        errors,
        inverse,
        metrics,
        nn,
        parameterization,
        plot,
        sampler,
        schedule,
        simulation,
        theory,
        training,
    )
    from diffgeo.errors import DiffgeoError, UsageError
    from diffgeo.library import (
        Result,
        admit,
        choices,
        evaluate,
        law,
        load,
        simulate,
        train,
    )

torchvision_guard.install()  # a finder; it imports nothing

__version__ = "0.1.0"
__all__ = [
    # what the commands do, with objects in the place of options
    "law",
    "train",
    "simulate",
    "evaluate",
    "load",
    "Result",
    "choices",
    "admit",
    # what is raised
    "DiffgeoError",
    "UsageError",
    # the rooms
    "analytic",
    "core",
    "data",
    "denoiser",
    "errors",
    "inverse",
    "metrics",
    "nn",
    "parameterization",
    "plot",
    "sampler",
    "schedule",
    "simulation",
    "theory",
    "training",
]
ROOM_OF = {"DiffgeoError": "errors", "UsageError": "errors"} | dict.fromkeys(
    ("law", "train", "simulate", "evaluate", "load", "Result", "choices", "admit"), "library"
)


def __getattr__(name: str):
    if name in ROOM_OF:
        return getattr(importlib.import_module(f"diffgeo.{ROOM_OF[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"diffgeo.{name}")
    raise AttributeError(f"module 'diffgeo' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])
