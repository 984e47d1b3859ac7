"""The paths of a sampling as metrics: how straight they are in every chart, and which samples the
model made up.

Hallucination (Aithal et al. 2024): between the modes of a law a learned denoiser is smooth where
the exact one jumps, and a path that ends there still changes its mind when others have settled. The
flag of a sample is the spread of its estimates over the last third of its steps,

    h^2 = mean_k |r_k - r_mean|^2,      k in the last third,

in data units. Where the law has atoms, what it is to find is known: a sample is between them when
it is farther from every atom than a quarter of their smallest distance. Then

    auc    the chance that a sample between has a larger flag than one that is not,

1/2 for a flag that says nothing; its standard error is that of Hanley and McNeil (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data, Run
from diffgeo.errors import UsageError
from diffgeo.geometry.measure import measure, numbers_of
from diffgeo.geometry.paths import length
from diffgeo.metrics.base import Measure
from diffgeo.metrics.points import points
from diffgeo.simulation import Simulation, ranges


@dataclass(frozen=True)
class Paths(Measure):
    """`trajectory/<chart>/<sampling|denoising>/<number>` of the first n samples on their way, as
    `diffgeo trajectory` writes them: deviation from the chord and where it is largest, chord, kappa
    (their ratio), arc over chord, turning.

    {} for clouds from a file and for samplers that choose their own levels; a number that the paths
    do not have is left out.
    """

    n: int = 64

    floors = False  # of paths, not of a cloud

    def __post_init__(self):
        if self.n < 1:
            raise UsageError(f"metrics.paths.n={self.n}: look at 1 path or more")

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None or run.nfe is None or run.simulation.sampler.adaptive:
            return {}
        found = numbers_of(measure(run.simulation, run.numbers[: self.n]))
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Hallucination(Measure):
    """`hallucination/spread`, the mean of the flag h over the first n samples, and
    `hallucination/flagged`, the share of samples whose h is above `above` of the law's own
    deviation. Where the law has atoms also `between`, the share of samples between them, `auc` of h
    for these (left out where all or none are), and its `auc_se`.

    {} for clouds from a file and for samplers that choose their own levels.
    """

    n: int = 2000
    above: float = 0.1

    floors = False  # of paths, not of a cloud

    def __post_init__(self):
        if self.n < 1 or not self.above > 0:
            raise UsageError(
                f"metrics.hallucination.n={self.n} above={self.above}: write n=1 or more and a "
                "share of the law's deviation above 0"
            )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None or run.nfe is None or run.simulation.sampler.adaptive:
            return {}
        flag = flags(run.simulation, run.numbers[: self.n])
        found = {
            "hallucination/spread": float(flag.mean()),
            "hallucination/flagged": float((flag > self.above * data.std).double().mean()),
        }
        if data.atoms is None or len(data.atoms) < 2:
            return found
        wrong = between(points(run.samples[: self.n]), points(data.atoms))
        found["hallucination/between"] = float(wrong.double().mean())
        if bool(wrong.any()) and not bool(wrong.all()):
            auc, error = area(flag[wrong], flag[~wrong])
            found |= {"hallucination/auc": auc, "hallucination/auc_se": error}
        return found


@torch.no_grad()
def flags(simulation: Simulation, numbers: range) -> Tensor:
    """The spread of the estimates of each sample over the last third of its steps, float64 [n]."""
    steps = len(simulation.sigmas) - 1
    begin = steps - max(2, math.ceil(steps / 3))
    parts = []
    for piece in ranges(numbers, 4096):
        late = []
        for k, step in enumerate(simulation.steps(simulation.start(piece))):
            if k >= begin:
                late.append(step.denoised)
        estimates = torch.stack(late)
        off = estimates - estimates.mean(0)
        squares = torch.stack([length(one).square() for one in off])
        parts.append(squares.mean(0).sqrt().to("cpu", torch.float64))
    return torch.cat(parts)


def between(samples: Tensor, atoms: Tensor) -> Tensor:
    """Whether each sample [n,d] is farther from every atom [k,d] than a quarter of the smallest
    distance between two of them, [n]."""
    apart = float(torch.pdist(atoms).min())
    return torch.cdist(samples, atoms).amin(1) > apart / 4


def area(positive: Tensor, negative: Tensor) -> tuple[float, float]:
    """The chance that one of the positive scores is above one of the negative ones, ties half, and
    its standard error (Hanley and McNeil 1982)."""
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive)
    not_above = torch.searchsorted(ordered, positive, right=True)
    m = len(positive)
    n = len(negative)
    auc = float((below + not_above).double().sum() / (2 * m * n))
    two_positive = auc / (2 - auc)
    two_negative = 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (m - 1) * (two_positive - auc**2) + (n - 1) * (two_negative - auc**2)
    return auc, math.sqrt(max(variance, 0.0) / (m * n))
