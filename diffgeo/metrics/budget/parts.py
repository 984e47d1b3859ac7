"""The numbers of an error budget: what each cause has alone, what part of the whole it is, and the
standard errors of both."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.metrics.budget.clouds import ROWS, differences
from diffgeo.metrics.budget.sums import Sums


class Products(NamedTuple):
    """<u_r, u_s> over ROWS, [6,6] each. None where the law has no such thing."""

    whole: Tensor
    tangential: Tensor | None
    moments: Tensor | None  # of (m, s) in the place of u


def products(held: Sums, moments: bool) -> Products:
    """From sums of which each is one mean (G = 1). moments: (m, s) stands for u throughout."""
    tangential = None if held.tangential is None else held.tangential[0]
    if held.mean is None or held.square is None:
        return Products(held.gram[0], tangential, None)
    deviation = (held.square - held.mean**2).clamp(min=0).sqrt()
    u = torch.stack(differences(torch.cat([held.mean, deviation], 2)[0]))  # [6,2d]
    of_moments = u @ u.mT
    if not moments:
        return Products(held.gram[0], tangential, of_moments)
    if tangential is not None:
        truth = deviation[0, 0]
        along = (truth > 1e-9 * truth.max()).repeat(2)  # the axes that the law does not vanish on
        tangential = u[:, along] @ u[:, along].mT
    return Products(of_moments, tangential, of_moments)


def matched(w2: Tensor) -> dict[str, Tensor]:
    """W2 of each cause alone, of the run from the law, and their interaction, from squares [6]."""
    *alone, _, total = w2.sqrt()
    interaction = total - sum(alone)
    rows = zip(ROWS, [*alone, interaction, total], strict=True)
    return {f"{name}_w2": value for name, value in rows}


def numbers(held: Sums, moments: bool) -> dict[str, float]:
    """Every number of a budget from sums of which each is one mean (G = 1). moments: (m, s) stands
    for u."""
    found = products(held, moments)
    gram = found.whole
    total = float(gram[-1, -1].sqrt())
    size = 1.0 if total == 0 else total
    values = {} if held.w2 is None else matched(held.w2[0])
    distance = None if held.distance is None else differences(held.distance[0])
    for r, name in enumerate(ROWS):
        values[name] = gram[r, r].sqrt()
        values[f"{name}_part"] = gram[r, -1] / size
        values[f"{name}_share"] = gram[r, -1] / size**2
        if found.tangential is not None:
            normal = gram - found.tangential
            values[f"{name}_tangential_share"] = found.tangential[r, -1] / size**2
            values[f"{name}_normal_share"] = normal[r, -1] / size**2
        if found.moments is not None:
            values[f"{name}_at_least"] = found.moments[r, r].sqrt()
        if distance is not None:
            values[f"{name}_distance"] = distance[r]
    return {key: float(value) for key, value in values.items()}


def mean_of(held: Sums, groups: slice | Tensor) -> Sums:
    """The sums of some of the groups, as one mean each (G = 1)."""
    return Sums(*(None if v is None else v[groups].mean(0, keepdim=True) for v in held))


def jackknife(held: Sums, moments: bool) -> dict[str, float]:
    """The `numbers` of all groups, and of each its standard error, `_se`, by leaving out a group at
    a time."""
    every = torch.arange(len(held.gram))
    values = numbers(mean_of(held, slice(None)), moments)
    without = [numbers(mean_of(held, every[every != g]), moments) for g in every]
    errors = {}
    for key in values:
        left_out = torch.tensor([some[key] for some in without], dtype=torch.float64)
        errors[f"{key}_se"] = math.sqrt((len(every) - 1) * float(left_out.var(correction=0)))
    return values | errors
