"""Operators, what `operator=` names: how a measurement is made of a signal.

Each is a function of the signal's shape, in a notebook `pool(shape=(1, 28, 28), factor=4)`. All
compute in the dtype of what they are given, and on its device.
"""

from diffgeo.inverse.operators.circular import blur, kernel, motion
from diffgeo.inverse.operators.fourier import fourier
from diffgeo.inverse.operators.inpainting import inpaint_box, inpaint_random, mask
from diffgeo.inverse.operators.matrices import gaussian_rows, matrix
from diffgeo.inverse.operators.nonlinear import hdr, phase_retrieval
from diffgeo.inverse.operators.pooling import grey, pool
from diffgeo.inverse.operators.resizing import bicubic, sr

__all__ = [
    "bicubic",
    "blur",
    "fourier",
    "gaussian_rows",
    "grey",
    "hdr",
    "inpaint_box",
    "inpaint_random",
    "kernel",
    "mask",
    "matrix",
    "motion",
    "phase_retrieval",
    "pool",
    "sr",
]
