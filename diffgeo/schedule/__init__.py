"""Schedules: sigma(t) in continuous, discrete and listed time, and the spacings of its levels."""

from diffgeo.schedule.continuous import OU, VE, VP, Cosine, Flow
from diffgeo.schedule.path import Path, VarianceExploding, VariancePreserving, check_steps

__all__ = [
    "check_steps",
    "Cosine",
    "Flow",
    "OU",
    "Path",
    "VarianceExploding",
    "VariancePreserving",
    "VE",
    "VP",
]
