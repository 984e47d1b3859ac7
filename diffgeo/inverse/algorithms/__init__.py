"""Algorithms, what `algorithm=` names: how a measurement is used to restore a signal.

Each is a function of its options, in a notebook `diffpir(zeta=.3)`, and returns an `Algorithm`.
"""

from diffgeo.inverse.algorithms.guided import (
    ddnm,
    dps_likelihood,
    exact,
    jfps,
    mmps,
    pigdm,
    prox,
)
from diffgeo.inverse.algorithms.optimized import constraint, reddiff, regularizer
from diffgeo.inverse.algorithms.particles import tds
from diffgeo.inverse.algorithms.stepped import (
    daps,
    ddnm_plus,
    ddrm,
    diffpir,
    dps,
    dps_yt,
    mcg,
    projection,
    repaint,
)

__all__ = [
    "constraint",
    "daps",
    "ddnm",
    "ddnm_plus",
    "ddrm",
    "diffpir",
    "dps",
    "dps_likelihood",
    "dps_yt",
    "exact",
    "jfps",
    "mcg",
    "mmps",
    "pigdm",
    "projection",
    "prox",
    "reddiff",
    "regularizer",
    "repaint",
    "tds",
]
