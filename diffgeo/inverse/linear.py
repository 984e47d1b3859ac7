"""What rules and steps ask of an operator and of a batch before they begin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Decomposed, Linear, Measurement, Operator
from diffgeo.core import Noise
from diffgeo.errors import DiffgeoError, UsageError


def name_of(operator: Operator) -> str:
    """An operator in a message."""
    return type(operator).__name__


def linear(measurement: Measurement, what: str) -> Linear:
    """The operator, if it is a matrix. Raises UsageError; `what` is who needs it."""
    operator = measurement.operator
    if not isinstance(operator, Linear):
        raise UsageError(
            f"algorithm={what} is for linear operators, and {name_of(operator)} is none: write "
            "algorithm=dps or algorithm=daps"
        )
    return operator


def decomposed(measurement: Measurement, what: str) -> Decomposed:
    """The operator, if its singular vectors are known. Raises UsageError."""
    operator = linear(measurement, what)
    if not isinstance(operator, Decomposed):
        raise UsageError(
            f"algorithm={what} needs the singular vectors of the operator, and "
            f"{name_of(operator)} does not have them: write algorithm=diffpir or algorithm=pigdm"
        )
    return operator


def noisy(measurement: Measurement, what: str, instead: str) -> None:
    """Raise UsageError where nothing is left of a division by sigma_n."""
    if not measurement.sigma_n > 0:
        raise UsageError(
            f"algorithm={what} divides by sigma_n, and sigma_n=0: write sigma_n above 0, or "
            f"algorithm={instead}"
        )


def not_tall(measurement: Measurement, what: str) -> None:
    """Raise UsageError where a measurement has more numbers than the signal, so that no signal
    agrees with a noisy one."""
    operator = measurement.operator
    rows = math.prod(operator.measured)
    columns = math.prod(operator.shape)
    if rows > columns:
        raise UsageError(
            f"algorithm={what} replaces what is measured, and {name_of(operator)} has more rows "
            f"than columns, {rows} > {columns}: write algorithm=ddrm"
        )


def matching(measurement: Measurement, x: Tensor) -> None:
    """Raise UsageError unless there is one y for each row of x."""
    if not measurement.shared and len(measurement.y) != len(x):
        raise UsageError(
            f"the sampler asks for {len(x)} rows of a batch of {len(measurement.y)} measurements: "
            "write a sampler that moves a batch as a whole, such as sampler=ddim or sampler=heun"
        )


def pullback(operator: Operator, x0: Tensor, residual: Tensor) -> Tensor:
    """A' r, [B,*M] -> [B,*D]; of an operator that is not linear, its derivative at x0 [B,*D]."""
    if isinstance(operator, Linear):
        return operator.adjoint(residual)
    with torch.enable_grad():
        point = x0.detach().requires_grad_()
        measured = operator(point)
        (gradient,) = torch.autograd.grad(measured, point, residual)
    return gradient


def measured_noise(noise: Noise, operator: Operator, like: Tensor) -> Tensor:
    """Unit normal noise of a measurement, [B,*M], from draws of the size of a signal."""
    wanted = math.prod(operator.measured)
    drawn: list[Tensor] = []
    size = 0
    while size < wanted:
        drawn.append(noise().flatten(1))
        size += drawn[-1].shape[1]
    return torch.cat(drawn, 1)[:, :wanted].reshape(len(like), *operator.measured).to(like)


def finite(x: Tensor) -> Tensor:
    """x itself. Raises DiffgeoError where an explicit step has left the numbers."""
    if not bool(x.isfinite().all()):
        raise DiffgeoError(
            "diverged: an explicit step was longer than its likelihood is stable for; write an "
            "implicit step (algorithm=dps_yt) or more steps (sampler.steps=)"
        )
    return x
