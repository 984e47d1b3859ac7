"""What posterior weights p_i of atoms a_i say, for weights [B,G,n]: n atoms in G orientations each.

The trace of the posterior covariance, sum_i p_i |a_i - D|^2, is the difference of two sums of size
|a|^2 where it is taken as E|a|^2 - |D|^2, and loses every digit at small sigma. Counted from the
heaviest atom b, with the step D - b = sum_i p_i (a_i - b) and the weights' own logarithms,

    |y - a_i|^2 = |y - b|^2 + 2 sigma^2 log(p_b/p_i),      so

    tr dD/dx = 2 sum_i p_i log(p_b/p_i) + (2 (D - b).(y - b) - |D - b|^2)/sigma^2 .

Every term of the sum is positive, and the step is 0 where one atom has all the weight. The sum is
H + log p_b, which the entropy has already: no further pass over the atoms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLASSED = 4096  # atoms of which the classes are added up at a time


def total(weight: Tensor) -> Tensor:
    """sum_i p_i, 1 but for rounding, float64 [B]."""
    return weight.sum((1, 2), dtype=torch.float64)


def entropy(weight: Tensor) -> Tensor:
    """-sum_i p_i log p_i in nats, float64 [B]."""
    return torch.special.entr(weight).sum((1, 2), dtype=torch.float64)


def collision(weight: Tensor) -> Tensor:
    """sum_i p_i^2, float64 [B]."""
    return weight.square().sum((1, 2), dtype=torch.float64) / total(weight).square()


def log_heaviest(weight: Tensor) -> Tensor:
    """log p_b of the heaviest atom, as the others' weights add up: float64 [B]."""
    return weight.amax((1, 2)).double().log()


def shares(weight: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The weight of each class, float64 [B,C]; labels [n] of the atoms in 0..C-1."""
    held = weight.sum(1)
    found = torch.zeros(len(held), classes, dtype=torch.float64, device=held.device)
    for part, names in zip(held.split(CLASSED, 1), labels.split(CLASSED), strict=True):
        member = torch.nn.functional.one_hot(names, classes).to(part)
        found += part @ member
    return found / found.sum(1, keepdim=True)


def trace(excess: Tensor, step: Tensor, residual: Tensor, sigma: Tensor) -> Tensor:
    """tr dD/dx, [B]: excess [B] is sum_i p_i log(p_b/p_i), step [B,d] is D - b, residual [B,d] is
    y - b."""
    turned = (step * (2 * residual - step)).sum(1)
    return (2 * excess + turned / sigma**2).clamp(min=0)


def log_density(nearest: Tensor, log_mass: Tensor, sigma: Tensor, d: int) -> Tensor:
    """log of sum_i w_i N(y; a_i, sigma^2 I) in R^d, [B].

    nearest [B]: |y - b|^2. log_mass [B]: of sum_i w_i exp(-(|y - a_i|^2 - |y - b|^2)/2 sigma^2).
    """
    return log_mass - nearest / (2 * sigma**2) - d / 2 * (2 * math.pi * sigma**2).log()
