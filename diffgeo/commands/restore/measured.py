"""The numbers of a restoration: a row an image, their means, and the exact posterior beside them.

restore/*      of the draws: error, psnr, ssim, misfit; psnr_of_mean is that of their mean
exact/*        the same of as many draws of the exact posterior, and of its mean
posterior/*    how far the draws are from the posterior, each with its floor; ess of its weights,
               log_evidence = log p(y)
calibration/*  over problems whose truths are draws of the law; *_exact of the posterior's draws
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.core import Data, ImageSet, generator
from diffgeo.errors import UsageError
from diffgeo.inverse.posterior import Posterior, Prior
from diffgeo.metrics import calibration
from diffgeo.metrics.restoration import (
    PAIRS,
    Values,
    against,
    floors,
    misfit,
    psnr,
    rms_error,
    ssim,
    summary,
)
from diffgeo.metrics.suite import FLOOR, FLOOR_ERROR, SPREAD

COMPARED = 20  # images whose draws are compared with the posterior's
KEPT = 256  # posteriors that a sweep remembers

Row = dict[str, float | None]


@dataclass(frozen=True)
class Beside:
    """The exact posterior of one image.

    mean [*D], draws [L,*D]; ess and log_evidence where they are known; pairs: `against` of its own
    draws, which floors are made of.
    """

    law: Posterior
    mean: Tensor
    draws: Tensor
    ess: float | None
    log_evidence: float | None
    pairs: list[Values]


_known: dict[str, Beside] = {}  # of the last images: the jobs of a sweep share them


def beside(
    data: Data, measurement: Measurement, number: int, draws: int, seed: int, compared: bool
) -> Beside | None:
    """The exact posterior of an image, with as many draws of it; None where the law knows none of
    this operator. compared: with floors."""
    if not isinstance(data, Prior):
        return None
    name = named(data, measurement, number, draws, seed, compared)
    if name not in _known:
        try:
            law = data.given(measurement.operator, measurement.y, measurement.sigma_n)
        except UsageError:
            return None
        if len(_known) >= KEPT:
            _known.pop(next(iter(_known)))
        own = generator(seed, *b"posterior", number)
        cloud = law.sample(draws, own).double()
        pairs = floors(law, draws, own, PAIRS) if compared and draws > 1 else []
        mean = law.mean.double()
        _known[name] = Beside(law, mean, cloud, law.ess, law.log_evidence, pairs)
    return _known[name]


def named(
    data: Data, measurement: Measurement, number: int, draws: int, seed: int, compared: bool
) -> str:
    """A digest of what a `Beside` is made of; of the operator, what it makes of one image."""
    digest = hashlib.sha256(data.key.encode())
    digest.update(content_of(measurement).encode())
    digest.update(measurement.y.double().contiguous().numpy().tobytes())
    digest.update(repr((measurement.sigma_n, number, draws, seed, compared)).encode())
    return digest.hexdigest()


def content_of(measurement: Measurement) -> str:
    """The operator by its content: a digest of what it makes of one fixed signal."""
    operator = measurement.operator
    signal = torch.rand(
        1, *operator.shape, generator=generator(0, *b"content"), dtype=torch.float64
    )
    made = operator(signal).double().contiguous()
    return hashlib.sha256(made.numpy().tobytes()).hexdigest()


def of_image(
    data: Data, measurement: Measurement, draws: Tensor, truth: Tensor | None, exact: Beside | None
) -> Row:
    """The row of an image: draws [L,*D], truth [*D]."""
    row: Row = {}
    for name, cloud, mean in named_clouds(draws, exact):
        if truth is not None:
            row[f"{name}/error"] = float(rms_error(cloud, truth).mean())
        if truth is not None and isinstance(data, ImageSet):
            row |= seen(data, name, cloud, mean, truth)
        fits = misfit(measurement, cloud)
        row[f"{name}/misfit"] = None if fits is None else float(fits.mean())
    if exact is not None:
        row["posterior/ess"] = exact.ess
        row["posterior/log_evidence"] = exact.log_evidence
        if exact.pairs:  # of the first images alone: a floor is of the same images
            for key, value in against(draws, exact.law, exact.draws).items():
                row[f"posterior/{key}"] = value
    return row


def named_clouds(draws: Tensor, exact: Beside | None) -> list[tuple[str, Tensor, Tensor]]:
    """Clouds [L,*D] by name, each with its mean [*D]."""
    clouds = [("restore", draws, draws.mean(0))]
    if exact is not None:
        clouds.append(("exact", exact.draws, exact.mean))
    return clouds


def seen(data: ImageSet, name: str, cloud: Tensor, mean: Tensor, truth: Tensor) -> Row:
    """What a viewer would judge of draws, and of their mean where there are several or it is the
    posterior's own."""
    both = truth[None].expand_as(cloud)
    row: Row = {f"{name}/psnr": float(psnr(cloud, both, data.low, data.high).mean())}
    alike = ssim(cloud, both, data.low, data.high)
    if alike is not None:
        row[f"{name}/ssim"] = float(alike.mean())
    if len(cloud) > 1 or name == "exact":
        of_mean = psnr(mean[None], truth[None], data.low, data.high)
        row[f"{name}/psnr_of_mean"] = float(of_mean)
    return row


def means(rows: Sequence[Row], besides: Sequence[Beside | None]) -> Row:
    """The means over images, `_se` their standard errors, and the floors of what is compared."""
    values = summary(rows)
    compared = [own.pairs for own in besides if own is not None and own.pairs]
    if not compared:
        return values
    for key in compared[0][0]:
        name = f"posterior/{key}"
        if values.get(name) is None:
            continue
        several = [[pair.get(key, math.nan) for pair in pairs] for pairs in compared]
        of_pairs = torch.tensor(several, dtype=torch.float64).mean(0)  # over images, [PAIRS]
        spread = float(of_pairs.std())
        if math.isfinite(spread):
            values[name + FLOOR] = float(of_pairs.mean())
            values[name + SPREAD] = spread
            values[name + FLOOR_ERROR] = spread / math.sqrt(PAIRS)
    return values


def calibrated(
    draws: Tensor, truths: Tensor, besides: Sequence[Beside | None], seed: int
) -> dict[str, float | None]:
    """`calibration.scores` of draws [P,L,*D], and of the posterior's where all are known."""
    found: dict[str, float | None] = {}
    for key, value in calibration.scores(draws, truths, seed).items():
        found[f"calibration/{key}"] = value
    known = [own.draws for own in besides if own is not None]
    if len(known) == len(besides):
        for key, value in calibration.scores(torch.stack(known), truths, seed).items():
            name = key.removesuffix("_se")
            end = "_exact_se" if key.endswith("_se") else "_exact"
            found[f"calibration/{name}{end}"] = value
    return found
