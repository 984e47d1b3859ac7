"""Steps that look at a measurement: a `Guide` makes a `Sampler` for rows with a y each."""

from diffgeo.inverse.steps.daps import DAPS
from diffgeo.inverse.steps.gradient import DPS
from diffgeo.inverse.steps.measured_path import MeasuredPath
from diffgeo.inverse.steps.renoise import DiffPIR, Renoise
from diffgeo.inverse.steps.replacement import Replacement
from diffgeo.inverse.steps.spectral import DDRM, DDNMPlus

__all__ = ["DAPS", "DDNMPlus", "DDRM", "DPS", "DiffPIR", "MeasuredPath", "Renoise", "Replacement"]
