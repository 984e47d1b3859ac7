"""Metrics: what a cloud or a denoiser has wrong, each number beside its noise.

A metric is a frozen dataclass that derives from `Measure`, `metric(run, data) ->
{"group/name": value}`, and returns {} where the law or the run lacks what it needs (a coordinate,
atoms, a denoiser). A `Suite` is a metric made of metrics that adds, beside each value of a cloud,

    key_floor, key_floor_sd    mean and spread of the same metric over pairs of fresh true samples,
                               8 of them, 32 of what is cheap: what is noise at this n
    key_floor_se               the standard error of that mean
    key_last_step_noise        the metric of fresh truth + s z, s the sampler's terminal noise: what
                               the last step alone costs
"""

from diffgeo.metrics.atoms import Atoms
from diffgeo.metrics.base import Measure
from diffgeo.metrics.blur import Blur
from diffgeo.metrics.budget import Budget
from diffgeo.metrics.denoiser import DenoiserError, denoiser_error, fixed_point
from diffgeo.metrics.distance import Distance
from diffgeo.metrics.fid import FID
from diffgeo.metrics.floor import reference
from diffgeo.metrics.flow import FlowError
from diffgeo.metrics.image_denoiser import ImageDenoiserError
from diffgeo.metrics.kid import KID, FeatureW2
from diffgeo.metrics.memorization import Memorization
from diffgeo.metrics.precision_recall import PrecisionRecall
from diffgeo.metrics.suite import Suite, check, last_step_noise, suite, table
from diffgeo.metrics.tangential import Tangential
from diffgeo.metrics.texture import TextureW2
from diffgeo.metrics.transport import Transport

__all__ = [
    "Atoms",
    "Blur",
    "Budget",
    "DenoiserError",
    "Distance",
    "FID",
    "FeatureW2",
    "FlowError",
    "ImageDenoiserError",
    "KID",
    "Measure",
    "Memorization",
    "PrecisionRecall",
    "Suite",
    "Tangential",
    "TextureW2",
    "Transport",
    "check",
    "denoiser_error",
    "fixed_point",
    "last_step_noise",
    "reference",
    "suite",
    "table",
]
