"""Conjugate gradients on batches of measurements, each row for itself.

    K u = r,   K symmetric and positive (semi)definite, known by its products.

A row that has converged stands still, so that what becomes of it does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CONVERGED = 1e-13  # |residual| over the first one
SLACK = 10  # iterations beyond one a number of y, against rounding


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each row, [B,1,...]."""
    product = (a * b).flatten(1).sum(1)
    return product.view(-1, *(1,) * (a.dim() - 1))


def solve_covariance(
    product: Callable[[Tensor], Tensor], right: Tensor, iterations: int | None = None
) -> Tensor:
    """u [B,*M] with K u = right.

    product: u -> K u. iterations: at most so many; None: until every row has converged.
    """
    most = right[0].numel() + SLACK if iterations is None else iterations
    u = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    square = inner(residual, residual)
    floor = CONVERGED**2 * square
    for _ in range(most):
        moving = square > floor
        if not bool(moving.any()):
            break
        image = product(direction)
        curvature = inner(direction, image)
        moving = moving & (curvature > 0)
        step = torch.where(moving, square / torch.where(moving, curvature, 1.0), 0.0)
        u = u + step * direction
        residual = residual - step * image
        fresh = inner(residual, residual)
        turn = torch.where(moving, fresh / torch.where(moving, square, 1.0), 0.0)
        direction = torch.where(moving, residual + turn * direction, direction)
        square = torch.where(moving, fresh, 0.0)
    return u
