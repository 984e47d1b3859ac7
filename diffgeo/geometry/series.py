"""The numbers of a batch of paths, by name and chart: a row a level, a column a sample.

With x_0 .. x_K the states, r_k = D(x_k) for k < K, eps_k = (x_k - r_k)/sigma_k and e = x_K the end,
in the chart x_t = scale x of the states:

    x/deviation         distance of a state from the chord of its path
    x/distance, norm    |x_k - e| and |x_k|
    r/deviation         the same of the denoising path r_0 .. r_(K-1), with its own end points
    r/distance, norm    |r_k - r_(K-1)| and |r_k|
    r/to_end            |r_k - e|: what a jump from here to D would miss
    eps/norm, cosine    |eps_k|, and the cosine between eps_k and x_k - e
    entropy, neighbours of the posterior weights; settled: whether the heaviest atom is the one of
                        the last level already (their mean is a share)

and once a sample: chord, arc, turning, `falls` and `rises` (whether a distance or a norm is
monotone), the shares of the principal components of what is off the chord, and whether the paths
are as Observations 1 and 5 say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Trajectory, expand
from diffgeo.geometry.charts import CHARTS, EVERY
from diffgeo.geometry.paths import ROUNDING, across, arc, falls, length, rises, turning
from diffgeo.geometry.record import Beside, Record, Weights

STRAIGHT = 1e-12  # a kappa below it is rounding: the path is straight
NEAR = 0.1  # of |e|: a state or an estimate is there when it is not farther off


class Name(NamedTuple):
    """Of a series, or of a number a sample: `x/deviation` in the chart `ve`."""

    series: str
    chart: str


Numbers = dict[Name, Tensor]  # of one batch: [L,B] of a series, [B] of a number a sample


def series(record: Record) -> Numbers:
    """Every number of a batch of paths, float64."""
    trajectory = record.trajectory
    found: Numbers = {}
    for chart, schedule in CHARTS.items():
        scale = schedule.scale(trajectory.sigma).to(trajectory.x)
        found |= named("x/", chart, of_path(scaled(trajectory.x, scale)))
    found |= named("x/", "ve", components(trajectory.x))
    found |= named("r/", EVERY, of_path(trajectory.denoised))
    found |= named("", EVERY, between(trajectory))
    if record.weights is not None:
        found |= named("", EVERY, of_weights(record.weights))
    for reference, beside in record.beside.items():
        found |= named(f"{reference}/", EVERY, of_beside(beside))
    found |= named("", EVERY, nearer(record.beside))
    denoising = found[Name("r/kappa", EVERY)]
    for chart in CHARTS:
        straighter = denoising > found[Name("x/kappa", chart)].clamp(min=STRAIGHT)
        found[Name("straighter", chart)] = torch.where(denoising.isnan(), torch.nan, straighter)
    return {name: value.to("cpu", torch.float64) for name, value in found.items()}


def named(prefix: str, chart: str, values: dict[str, Tensor]) -> Numbers:
    return {Name(prefix + name, chart): value for name, value in values.items()}


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """scale_k x_k, [L,N,*D]; x itself where every scale is 1."""
    if bool((scale == 1).all()):
        return x
    return x * expand(scale, x)


def of_path(x: Tensor) -> dict[str, Tensor]:
    """Of paths [L,N,*D] in one chart, sampling or denoising."""
    deviation = torch.linalg.vector_norm(across(x), dim=2)
    distance = torch.stack([length(point - x[-1]) for point in x])
    norm = torch.stack([length(point) for point in x])
    chord = distance[0]
    moves = chord > ROUNDING * norm.amax(0)
    return {
        "deviation": deviation,
        "distance": distance,
        "norm": norm,
        "chord": chord,
        "arc": arc(x),
        "turning": turning(x),
        "kappa": torch.where(moves, deviation.amax(0) / chord, torch.nan),
        "approaches": falls(distance),
        "falls": falls(norm),
        "rises": rises(norm),
    }


def components(x: Tensor) -> dict[str, Tensor]:
    """The share of the variance of what is off the chord of each path [L,N,*D] in its first
    principal component, its first two, its first three; nan of a straight path."""
    off = across(x)
    variances = torch.linalg.eigvalsh(gram(off)).flip(1).clamp(min=0)
    total = variances.sum(1)
    bent = total.sqrt() > 1e-10 * x.flatten(2).norm(dim=2).amax(0)
    found = {}
    for count, name in enumerate(("1", "1-2", "1-3"), 1):
        share = variances[:, :count].sum(1) / total
        found[f"component {name}"] = torch.where(bent, share, torch.nan)
    return found


def gram(off: Tensor) -> Tensor:
    """Of the points of each path about their mean, [L,N,d]: their inner products [N,L,L], or their
    covariance [N,d,d] where that is smaller. The eigenvalues are the same."""
    centred = (off - off.mean(0)).transpose(0, 1)
    if centred.shape[2] < centred.shape[1]:
        return centred.mT @ centred
    return centred @ centred.mT


def between(trajectory: Trajectory) -> dict[str, Tensor]:
    """Of states and estimates together."""
    end = trajectory.x[-1]
    size = length(end)
    to_end = []
    noise = []
    cosine = []
    for k, r in enumerate(trajectory.denoised):
        x = trajectory.x[k]
        eps = (x - r) / trajectory.sigma[k]
        left = x - end
        product = (eps * left).flatten(1).sum(1)
        to_end.append(length(r - end))
        noise.append(length(eps))
        cosine.append(product / (length(eps) * length(left)))  # 0/0: there is no angle
    jump = torch.stack(to_end)
    stay = torch.stack([length(x - end) for x in trajectory.x[:-1]])
    return {
        "r/to_end": jump,
        "eps/norm": torch.stack(noise),
        "cosine": torch.stack(cosine),
        "sooner": arrival(jump, size) < arrival(stay, size),
        "end": size,
    }


def arrival(distance: Tensor, size: Tensor) -> Tensor:
    """The number of the first level from which on the distance [K,B] stays within `NEAR` of
    `size` [B]; K where there is none."""
    far = distance > NEAR * size
    numbers = torch.arange(1, len(far) + 1, device=far.device)[:, None]
    return (far * numbers).amax(0)


def of_weights(weights: Weights) -> dict[str, Tensor]:
    """Of the posterior weights of a finite law."""
    return {
        "entropy": weights.entropy,
        "neighbours": weights.neighbours,
        "settled": weights.nearest == weights.nearest[-1],
    }


def of_beside(beside: Beside) -> dict[str, Tensor]:
    """The four series of the model and a reference, and whether the last of them is a bell: highest
    between its ends, and less than half as high at both."""
    bell = beside.at_star
    top = bell.amax(0)
    return beside._asdict() | {"bell": (2 * bell[0] < top) & (2 * bell[-1] < top)}


def nearer(besides: dict[str, Beside]) -> dict[str, Tensor]:
    """For each of several references, whether it is the one whose estimate at x is nearest to the
    model's, [K,B]."""
    if len(besides) < 2:
        return {}
    first = torch.stack([beside.at_x for beside in besides.values()]).argmin(0)
    return {f"{name}/nearest": first == number for number, name in enumerate(besides)}
