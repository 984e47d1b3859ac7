"""The density p_sigma of a law on a plane curve, and the covariance of its posterior.

On the leaves that `curve.leaves` finds, with weights w at the nodes and c = g - g* the chords from
each row's own reference point,

    log p_sigma(x) = log sum w - E(g*) - log int exp(-V) - log 2 pi sigma^2,
    Cov[x0 | x] = <(c - <c>) (c - <c>)^T>:

sums of positive terms, and squares of differences that keep their digits however small sigma is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from diffgeo.analytic.arcs import Arc
from diffgeo.analytic.curve import BLOCK, NODES, Leaves, leaves


def log_density(x: Tensor, sigma: Tensor, arc: Arc) -> Tensor:
    """log p_sigma(x): x [B,2], sigma [B] -> [B], float64."""
    return torch.cat([_whole(arc, *part)[0] for part in _parts(x, sigma)])


def covariance(x: Tensor, sigma: Tensor, arc: Arc) -> Tensor:
    """Cov[x0 | x], [B,2,2]."""
    return torch.cat([_whole(arc, *part)[1] for part in _parts(x, sigma)])


def _parts(x: Tensor, sigma: Tensor):
    """As many rows at a time as fit: NODES numbers a leaf are kept at once."""
    size = BLOCK // NODES
    return zip(x.split(size), sigma.split(size), strict=True)


def _whole(arc: Arc, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """log p_sigma [B] and Cov[x0 | x] [B,2,2]."""
    found = leaves(arc, x, sigma)
    weight, chord = _nodes(arc, found)
    rows = len(x)
    none = x.new_zeros(rows)
    total = none.index_add(0, found.row, weight.sum(1))
    share = weight / total[found.row][:, None]
    mean = x.new_zeros(rows, 2).index_add(0, found.row, (share[..., None] * chord).sum(1))
    apart = chord - mean[found.row][:, None]
    square = torch.einsum("pj,pja,pjb->pab", share, apart, apart)
    covariance = x.new_zeros(rows, 2, 2).index_add(0, found.row, square)
    scale = math.log(arc.mass) + (2 * math.pi * sigma**2).log()
    return total.log() - found.least - scale, covariance


def _nodes(arc: Arc, found: Leaves) -> tuple[Tensor, Tensor]:
    """At the nodes of each leaf the weight exp(E(g*) - E) dt [P,NODES] and the chord from g*
    [P,NODES,2]."""
    rule = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (torch.as_tensor(v).to(found.exponent) for v in rule)
    half = arc.unit * torch.exp2(-found.levels / 4)
    t = half[:, None] * nodes
    basis = arc.basis(t.flatten()).view(*t.shape, -1)  # [P,NODES,K]
    rise = torch.einsum("pjk,pk->pj", basis, found.exponent) + found.gain[:, None]
    middle = found.middle[:, None].expand_as(t).flatten()
    cx, cy = arc.chords(middle, basis.flatten(0, 1))
    chord = torch.stack([cx.view_as(t), cy.view_as(t)], -1)
    chord = chord + torch.stack(found.apart, -1)[:, None]
    return half[:, None] * weights * rise.exp(), chord
