"""Error-controlled integrators of the flow in lambda = -log sigma, each sample with its own level
and its own step.

Between two levels of the grid a row steps by h = log(sigma/s): an embedded pair gives x' and a
solution of one order less, x'_low, and

    E = rms over the coordinates of (x' - x'_low)/(atol + rtol max(|x|, |x'|))

    E <= 1:    x' is taken,     h' = h clip(.9 E^(-.7/p) E_prev^(.4/p), .2, 5),    p the order of x'
    else:      x' is refused,   h' = h clip(.9 E^(-1/p), .2, 1)

(Gustafsson's PI control; Hairer and Wanner, Solving ODEs II, IV.2; p because the local error of
x'_low is of order h^p).

    RK45           Dormand and Prince 5(4) on dx/dlambda = D - x
    DPMAdaptive    DPM-Solver-12 or -23 (Lu et al. 2022)

A row that has arrived leaves the batch; nothing looks across rows. The step into sigma' = 0 is
Euler's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Step, expand
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.sampler.base import Method
from diffgeo.sampler.singlestep import Residual, dpm_solver_2, dpm_solver_3
from diffgeo.sampler.weights import combine

SMALLEST = 1e-10  # a step in log sigma
TRIALS = 20_000  # from one level of the grid to the next


@dataclass
class Rows:
    """The samples on their way to sigma', R of them, each at its own level sigma' e^left."""

    index: Tensor  # of the sample in the batch, [R]
    x: Tensor  # [R,*D]
    denoised: Tensor  # D at x, [R,*D]
    left: Tensor  # log(sigma/sigma'), [R]
    h: Tensor  # the step to try, [R]
    past: Tensor  # E of the last accepted step, [R]

    def among(self, chosen: Tensor) -> Rows:
        """The rows where `chosen` [R] is true."""
        return Rows(
            index=self.index[chosen],
            x=self.x[chosen],
            denoised=self.denoised[chosen],
            left=self.left[chosen],
            h=self.h[chosen],
            past=self.past[chosen],
        )


class Trial(NamedTuple):
    """A step of an embedded pair: x', the solution one order lower and, where the pair has
    evaluated it, D at x' (else None)."""

    x: Tensor
    lower: Tensor
    denoised: Tensor | None


@dataclass(frozen=True)
class Adaptive(Method):
    """What the pairs share. The order is that of x'; what a user sets is the tolerance, and the
    error follows it: error ~ tol.

    rtol, atol: tolerated error of a step, relative and in data units, in each coordinate.
    h_init: the first step to try below each level of the grid, in log sigma. A grid of few levels
        therefore costs least: two (steps = 2, from sigma_max to sigma_min and into 0) are one
        integration.
    Raises UsageError on tolerances that are not positive; DiffgeoError when a state is not finite
    or a step shrinks to nothing.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    h_init: float = 0.05
    adaptive = True

    def pair(
        self,
        denoise: Denoiser,
        x: Tensor,
        denoised: Tensor,
        sigma: Tensor,
        ahead: Tensor,
        h: Tensor,
    ) -> Trial:
        """The pair's step of x [R,*D], D there known, from the levels sigma [R] to `ahead` [R]; h
        is log(sigma/ahead), [R,1..]."""
        raise NotImplementedError

    def __post_init__(self):
        if self.rtol < 0 or not self.atol > 0 or not self.h_init > 0:
            raise UsageError(
                f"sampler.rtol={self.rtol}, atol={self.atol}, h_init={self.h_init}: "
                "write rtol >= 0, atol > 0 and h_init > 0"
            )

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        denoised = denoise(x, sigma)
        if sigma_next == 0 or not len(x):  # of no samples none is ever the last to arrive
            return Step(denoised, sigma_next, denoised)
        each = x.new_ones(len(x))
        rows = Rows(
            index=torch.arange(len(x), device=x.device),
            x=x,
            denoised=denoised,
            left=math.log(sigma / sigma_next) * each,
            h=self.h_init * each,
            past=each,
        )
        end = torch.empty_like(x)
        for _ in range(TRIALS):
            rows = self.attempt(denoise, rows, sigma_next)
            arrived = rows.left == 0
            if arrived.any():
                end[rows.index[arrived]] = rows.x[arrived]
                rows = rows.among(~arrived)
                if not len(rows.index):
                    return Step(end, sigma_next, denoised)
        raise DiffgeoError(
            f"{type(self).__name__}: after {TRIALS} trials {len(rows.index)} of {len(x)} samples "
            f"have not reached sigma={sigma_next:.4g}; raise sampler.atol and sampler.rtol"
        )

    def attempt(self, denoise: Denoiser, rows: Rows, sigma_next: float) -> Rows:
        """One step of every row, accepted or refused row by row."""
        # the last step ends at sigma' and leaves no crumb
        h = torch.where(1.01 * rows.h < rows.left, rows.h, rows.left)
        left = rows.left - h
        sigma = sigma_next * torch.exp(rows.left)
        ahead = sigma_next * torch.exp(left)
        trial = self.pair(denoise, rows.x, rows.denoised, sigma, ahead, expand(h, rows.x))
        error = self.error(rows.x, trial)
        self.check(error, h, sigma)

        accepted = error <= 1
        taken = expand(accepted, rows.x)
        x = torch.where(taken, trial.x, rows.x)
        left = torch.where(accepted, left, rows.left)
        if trial.denoised is None:
            denoised = rows.denoised.clone()
            fresh = accepted & (left > 0)
            if fresh.any():
                denoised[fresh] = denoise(x[fresh], ahead[fresh])
        else:
            denoised = torch.where(taken, trial.denoised, rows.denoised)
        return Rows(
            index=rows.index,
            x=x,
            denoised=denoised,
            left=left,
            h=h * self.change(error, rows.past, accepted),
            past=torch.where(accepted, error.clamp(min=1e-4), rows.past),
        )

    def change(self, error: Tensor, past: Tensor, accepted: Tensor) -> Tensor:
        """What the step is multiplied by, [R]: by PI control where it was accepted."""
        p = self.order
        e = error.clamp(min=1e-10)
        grown = e ** (-0.7 / p) * past ** (0.4 / p)
        shrunk = e ** (-1 / p)
        return (0.9 * torch.where(accepted, grown, shrunk)).clamp(0.2, 5)

    def error(self, x: Tensor, trial: Trial) -> Tensor:
        """E of every row, [R]."""
        tolerated = self.atol + self.rtol * torch.maximum(x.abs(), trial.x.abs())
        return ((trial.x - trial.lower) / tolerated).flatten(1).square().mean(1).sqrt()

    def check(self, error: Tensor, h: Tensor, sigma: Tensor) -> None:
        """Raise DiffgeoError where a row cannot go on."""
        lost = ~torch.isfinite(error)
        stuck = (error > 1) & (h < SMALLEST)
        if not (lost | stuck).any():
            return
        why = (
            "the step shrank to nothing: the denoiser is too rough for this tolerance; "
            "raise sampler.atol and sampler.rtol"
        )
        if lost.any():
            why = "the state is not finite: the denoiser diverged"
        where = float(sigma[lost | stuck].max())
        raise DiffgeoError(f"{type(self).__name__}: below sigma={where:.4g} {why}")


# Dormand and Prince 1980, RK5(4)7M: nodes, rows of the tableau (the last is x' itself), and the
# weights of x' less those of x'_low.
NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
TABLEAU = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
DIFFERENCE = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@dataclass(frozen=True)
class RK45(Adaptive):
    """Dormand-Prince 5(4) on dx/dlambda = D - x. Six evaluations a trial: D at x' serves the next
    step.

    In lambda rather than sigma, because the flow's features lie evenly in log sigma: on the unit
    circle from 20 to .02 at tolerances 1e-3 and 1e-5 a sample costs 80 and 137 evaluations for
    errors of 3e-5 and 1e-6, and in sigma 92 and 156 for 4e-3 and 9e-6, where a step that outgrows
    sigma is refused time and again.
    """

    order = 5

    def pair(self, denoise, x, denoised, sigma, ahead, h):
        slopes = [denoised - x]
        for node, weights in zip(NODES[1:], TABLEAU, strict=True):
            y = x + h * combine(weights, slopes)
            level = ahead if node == 1 else sigma * (ahead / sigma) ** node
            denoised = denoise(y, level)
            slopes.append(denoised - y)
        return Trial(y, y - h * combine(DIFFERENCE, slopes), denoised)


def dpm_12(
    residual: Residual, x: Tensor, e: Tensor, sigma: Tensor, ahead: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """x' by DPM-Solver-2 and by Euler's rule, given e = x - D at x. The levels broadcast against
    x."""
    second_order = dpm_solver_2(residual, torch.addcmul, x, e, sigma, ahead)
    return second_order, torch.addcmul(x, (ahead - sigma) / sigma, e)


def dpm_23(
    residual: Residual, x: Tensor, e: Tensor, sigma: Tensor, ahead: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """x' by DPM-Solver-3, and by DPM-Solver-2 with r = 1/3 from the same evaluations."""
    third_order, e_1 = dpm_solver_3(residual, torch.addcmul, x, e, sigma, ahead, h)
    slope = -0.5 * e + 1.5 * (sigma / ahead) ** (1 / 3) * e_1
    return third_order, x + (ahead - sigma) / sigma * slope


PAIRS = {2: dpm_12, 3: dpm_23}


@dataclass(frozen=True)
class DPMAdaptive(Adaptive):
    """Adaptive DPM-Solver (Lu et al. 2022; k-diffusion's dpm_adaptive), with a step for each sample
    and PI control.

    order: 3 is DPM-Solver-23 (three evaluations a step, two more for a refused one), 2 is
        DPM-Solver-12 (two, and one).
    """

    order: int = 3

    def __post_init__(self):
        super().__post_init__()
        if self.order not in PAIRS:
            raise UsageError(
                f"sampler.order={self.order}: write 2 (DPM-Solver-12) or 3 (DPM-Solver-23)"
            )

    def pair(self, denoise, x, denoised, sigma, ahead, h):
        def residual(y: Tensor, s: Tensor) -> Tensor:
            return y - denoise(y, s.flatten())

        now = expand(sigma, x)
        then = expand(ahead, x)
        high, low = PAIRS[self.order](residual, x, x - denoised, now, then, h)
        return Trial(high, low, None)
