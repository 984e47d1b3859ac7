"""Denoisers in the place of a law's own: what a law would be if it had no more than its mean and
covariance, no more than those of each class, or no more than its mean.

    gaussian            N(mean, covariance), with its flow in closed form
    gaussian_classes    a Gaussian for each class; a label picks one
    identity            N(mean, I)

Builders, as `model=` names them: each is called with the law, and looks at nothing that a network
would need.
"""

from __future__ import annotations

import torch

from diffgeo.analytic.gaussian import GaussianClasses, GaussianDenoiser, IsotropicDenoiser
from diffgeo.core import Data, Denoiser
from diffgeo.data.moments import Moments, class_moments, moments
from diffgeo.denoiser import exact
from diffgeo.errors import UsageError


def gaussian(data: Data, **unused) -> GaussianDenoiser:
    """N(mean, covariance) of the law. Raises UsageError for images too large to have a
    covariance."""
    return denoiser_of(moments(data), data)


def gaussian_classes(data: Data, **unused) -> GaussianClasses:
    """The mixture of a Gaussian for each class. Raises UsageError where the law has no classes."""
    weights, parts = class_moments(data)
    return GaussianClasses(weights, [denoiser_of(part, data) for part in parts])


def identity(data: Data, **unused) -> IsotropicDenoiser:
    """N(mean, I): the law's mean alone."""
    return IsotropicDenoiser(data.mean.to(torch.float64))


def denoiser_of(found: Moments, data: Data) -> GaussianDenoiser:
    """The denoiser of a Gaussian in the shape of a law's points."""
    return GaussianDenoiser(found.mean, found.basis, found.variance, tuple(data.shape))


REFERENCES = {
    "exact": exact,
    "gaussian": gaussian,
    "gaussian_classes": gaussian_classes,
    "identity": identity,
}


def reference(name: str, data: Data) -> Denoiser:
    """A reference denoiser of a law by its name. Raises UsageError on another name, and where the
    law has none."""
    if name not in REFERENCES:
        raise UsageError(f"there is no reference {name}: write one of {', '.join(REFERENCES)}")
    return REFERENCES[name](data)
