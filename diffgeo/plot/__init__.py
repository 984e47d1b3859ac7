"""Figures: small PNG files, drawn without a display and written whole or not at all.

matplotlib is imported when the first figure is drawn, never by `import diffgeo.plot`. The colours
are Okabe and Ito's, which stay apart for colour-blind readers: grey is the truth's support, black
the exact denoiser, colours are what was learned.
"""

from diffgeo.plot.budget import budget
from diffgeo.plot.curves import comparison, errors, fixed_point, loss, work
from diffgeo.plot.images import denoised, grid, neighbours
from diffgeo.plot.space import cloud, fields, samples, trajectories
from diffgeo.plot.theory import (
    distance_bounds,
    distance_estimators,
    noise_error,
    noise_norm,
    relative_error,
)

__all__ = [
    "budget",
    "cloud",
    "comparison",
    "denoised",
    "distance_bounds",
    "distance_estimators",
    "errors",
    "fields",
    "fixed_point",
    "grid",
    "loss",
    "neighbours",
    "noise_error",
    "noise_norm",
    "relative_error",
    "samples",
    "trajectories",
    "work",
]
