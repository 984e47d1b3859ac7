"""Finitely many points: a few weighted atoms, or a whole data set.

D(x) = sum_i p_i a_i,  p = softmax(log w_i - |x - a_i|^2 / 2 sigma^2).  The logit of atom i against a reference atom r is

    (a_i - a_r).(x - (a_i + a_r)/2) / sigma^2,

a product of differences: nothing of size |x|^2/sigma^2 is ever formed and cancelled. `atoms` takes the nearest atom as r (exact at
ties too); `cloud` takes the mean of the data and streams: with q = (x, 1)/sigma^2 and k_i = (a_i, -|a_i|^2/2) the logits are an
inner product, so D is scaled dot product attention, whose kernel holds only blocks of the B x N matrix.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def nearest(x: Tensor, points: Tensor, block: int = 1 << 20) -> Tensor:
    """Index of the nearest point for each row, [B] (argmax of x.a - |a|^2/2, centred); memory bounded by `block` products."""
    centre = points.mean(0)
    a = points - centre
    bias = -(a**2).sum(1) / 2
    return torch.cat([torch.addmm(bias, part - centre, a.mT).argmax(1) for part in x.split(1 + block // len(a))])


def atoms(x: Tensor, sigma: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """E[x0|x] of sum_i weights_i delta(points_i): points [k,d], weights [k] -> [B,d]. For few atoms: O(B k d) memory."""
    reference = points[nearest(x, points)][:, None]                                     # [B,1,d]
    step = points - reference
    logit = (step * (x[:, None] - (points + reference) / 2)).sum(-1) / sigma[:, None] ** 2 + weights.log()
    return reference[:, 0] + torch.einsum("bk,bkd->bd", logit.softmax(-1), step)


def cloud(x: Tensor, sigma: Tensor, points: Tensor) -> Tensor:
    """E[x0|x] of the empirical law of points [N,d]: streaming, O((B + N) d) memory."""
    centre = points.mean(0)
    a = points - centre
    query = torch.cat([x - centre, torch.ones_like(x[:, :1])], 1) / sigma[:, None] ** 2
    key = torch.cat([a, -(a**2).sum(1, keepdim=True) / 2], 1)
    value = torch.cat([a, torch.zeros_like(a[:, :1])], 1)                               # the kernel wants equal widths
    out = scaled_dot_product_attention(query[None, None], key[None, None], value[None, None], scale=1.0)
    return centre + out[0, 0, :, :-1]
