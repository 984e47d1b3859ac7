"""Whether draws tell how sure one may be: calibration over problems whose truths are drawn from the
law.

Of each problem there are a truth x0 and L draws x_1 .. x_L. If the draws are of p(x0 | y), then x0
is one more of them, and for every direction u

    rank      r = number of the u'x_i below u'x0, uniform on 0 .. L
    coverage  the central interval of mass q holds x0 with probability q

whatever L is: a rank counts to the share to which it lies within the central q (L + 1) ranks. An
over-confident sampler has its truths at the ends: less coverage, ranks heaped at 0 and L.

    crps      mean |X - x0| - 1/2 mean |X - X'| of a coordinate, X != X' two of the draws: of a
              calibrated N(., s^2) it is s/sqrt(pi) in the mean      (Gneiting and Raftery 2007)
    energy    the same with the norm of R^d for |.|: the energy score

Both are unbiased in L and smallest for the posterior: they stand beside those of its own draws.

A problem counts once: coordinates of one problem are not independent of each other, so a standard
error is over problems, and the histogram is of one random direction a problem.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import generator
from diffgeo.errors import UsageError

BINS = 20  # the most of a histogram of ranks
LEAST = 5.0  # problems that a bin is to expect, for chi^2


class Mean(NamedTuple):
    """A mean over problems and its standard error."""

    value: float
    error: float


def check(draws: Tensor, truth: Tensor) -> None:
    """Raise UsageError unless there are two draws [P,L,d] or more of each truth [P,d], and two
    truths."""
    problems, count = draws.shape[:2]
    if count < 2:
        raise UsageError(f"draws={count}: calibration takes several draws of each truth; write 19")
    if problems < 2 or len(truth) != problems:
        raise UsageError(
            f"{problems} problems and {len(truth)} truths: calibration takes several problems, "
            "each with its truth"
        )


def directions(problems: int, d: int, seed: int = 0) -> Tensor:
    """A unit direction a problem, float64 [P,d]: a function of the seed and the problem."""
    found = torch.empty(problems, d, dtype=torch.float64)
    for k in range(problems):
        found[k] = torch.randn(d, generator=generator(seed, *b"rank", k), dtype=torch.float64)
    return found / found.norm(dim=1, keepdim=True)


def ranks(draws: Tensor, truth: Tensor, seed: int = 0) -> Tensor:
    """How many draws [...,L] lie below the truth [...], 0 .. L; among draws equal to it, as a law
    of points has them, its place is a matter of chance. float64 [...]."""
    below = (draws < truth[..., None]).sum(-1).double()
    equal = (draws == truth[..., None]).sum(-1).double()
    chance = torch.rand(truth.shape, generator=generator(seed, *b"ties"), dtype=torch.float64)
    return below + torch.floor(chance.to(below.device) * (equal + 1))


def covered(rank: Tensor, count: int, mass: float) -> Tensor:
    """To what share a rank 0 .. count lies in the central `mass` of them, in [0, 1]: so that a
    uniform rank is covered with probability `mass`, exactly."""
    outside = (1 - mass) / 2 * (count + 1)  # ranks on either side, not a whole number of them
    from_below = rank + 1 - outside
    from_above = count - rank + 1 - outside
    return torch.minimum(from_below, from_above).clamp(0, 1)


def over_problems(values: Tensor) -> Mean:
    """The mean of [P] and its standard error."""
    return Mean(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def coverage(draws: Tensor, truth: Tensor, mass: float) -> Mean:
    """The share of coordinates whose truth lies in the central interval of `mass` of the draws:
    draws [P,L,d], truth [P,d]."""
    check(draws, truth)
    count = draws.shape[1]
    rank = ranks(draws.transpose(1, 2), truth)  # [P,d]
    return over_problems(covered(rank, count, mass).mean(1))


def bins_of(count: int, problems: int) -> int:
    """Into how many equal bins the ranks 0 .. count part: the largest number that divides count + 1
    and leaves a bin its LEAST problems; 1 where there is none."""
    most = min(BINS, int(problems / LEAST))
    for bins in range(most, 1, -1):
        if (count + 1) % bins == 0:
            return bins
    return 1


class Histogram(NamedTuple):
    """Ranks in equal bins."""

    counts: Tensor  # float64 [bins], of sum P
    expected: float  # in each bin
    chi2: float  # sum (counts - expected)^2/expected
    p: float  # the probability of a larger chi2 under uniform ranks; nan of one bin


def histogram(draws: Tensor, truth: Tensor, seed: int = 0) -> Histogram:
    """The ranks of the truths [P,d] among the draws [P,L,d], each along one random direction."""
    from scipy.special import chdtrc

    check(draws, truth)
    problems, count, d = draws.shape
    u = directions(problems, d, seed).to(draws.device)
    along = torch.einsum("pld,pd->pl", draws.double(), u)
    rank = ranks(along, (truth.double() * u).sum(1))
    bins = bins_of(count, problems)
    width = (count + 1) // bins
    place = (rank.long() // width).clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins).double()
    expected = problems / bins
    chi2 = float(((counts - expected).square() / expected).sum())
    p = float(chdtrc(bins - 1, chi2)) if bins > 1 else math.nan
    return Histogram(counts, expected, chi2, p)


def crps(draws: Tensor, truth: Tensor) -> Mean:
    """The continuous ranked probability score, a mean over coordinates: draws [P,L,d], truth
    [P,d]."""
    check(draws, truth)
    count = draws.shape[1]
    ordered = draws.double().sort(1).values
    away = (ordered - truth[:, None].double()).abs().mean(1)  # [P,d]
    # sum_ij |x_i - x_j| = 2 sum_k (2 k - L + 1) x_(k), k = 0 .. L-1
    weight = 2 * torch.arange(count, dtype=torch.float64, device=draws.device) - count + 1
    apart = 2 * (weight[None, :, None] * ordered).sum(1) / (count * (count - 1))
    return over_problems((away - apart / 2).mean(1))


def energy_score(draws: Tensor, truth: Tensor) -> Mean:
    """mean |x - x0| - 1/2 mean |x - x'| in the norm of R^d: draws [P,L,d], truth [P,d]."""
    check(draws, truth)
    count = draws.shape[1]
    scores = []
    for cloud, own in zip(draws.double(), truth.double(), strict=True):
        away = (cloud - own).norm(dim=1).mean()
        apart = 2 * torch.nn.functional.pdist(cloud).sum() / (count * (count - 1))
        scores.append(away - apart / 2)
    return over_problems(torch.stack(scores))


def scores(draws: Tensor, truth: Tensor, seed: int = 0) -> dict[str, float | None]:
    """Every number of calibration by name, `_se` its standard error: draws [P,L,*D], truth
    [P,*D]."""
    x = draws.flatten(2)
    x0 = truth.flatten(1)
    found: dict[str, float | None] = {}
    named = {
        "coverage_50": coverage(x, x0, 0.5),
        "coverage_90": coverage(x, x0, 0.9),
        "crps": crps(x, x0),
        "energy_score": energy_score(x, x0),
    }
    for name, mean in named.items():
        found[name] = mean.value
        found[f"{name}_se"] = mean.error
    ranked = histogram(x, x0, seed)
    found["rank_chi2"] = ranked.chi2 if len(ranked.counts) > 1 else None
    found["rank_bins"] = float(len(ranked.counts))
    found["rank_p"] = None if math.isnan(ranked.p) else ranked.p
    return found
