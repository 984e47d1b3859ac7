"""diffgeo: the geometry of diffusion models, every learned denoiser held against an exact one.

`import diffgeo` imports no torch; a submodule is loaded when its name is first used:

    import diffgeo
    law = diffgeo.data.Circle()
"""

import importlib

from diffgeo.machine import torchvision_guard

torchvision_guard.install()  # a finder; it imports nothing

__version__ = "0.1.0"
__all__ = [
    "analytic",
    "core",
    "data",
    "denoiser",
    "errors",
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


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"diffgeo.{name}")
    raise AttributeError(f"module 'diffgeo' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])
