"""Learning rates, and Muon: steepest descent in the spectral norm for weight matrices (Jordan et
al. 2024; Bernstein and Newhouse 2024).

    M <- mu M + (1-mu) G
    W <- W - lr polar(mu M + (1-mu) G),      polar(U S V^T) = U V^T

Adam scales single entries; Muon makes every singular direction of a step equally long. The fine
structure of a projection lives in small singular directions, which Adam leaves for last: on the
curve the same 15 CPU seconds end at a mean distance of .036 or of .001. Vectors, and matrices too
thin to have directions, stay with Adam. (torch.optim.Muon takes no stacks of matrices and iterates
in bfloat16, which a CPU emulates.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError

THIN = 16  # the shorter side of the smallest matrix that Muon takes


@dataclass(frozen=True)
class Cosine:
    """The share of the peak rate after a fraction u of the training: a half cosine from 1 to `end`;
    end = 1 is a constant rate."""

    end: float = 0.0

    def __post_init__(self):
        if not 0 <= self.end <= 1:
            raise UsageError(
                f"trainer.rate.end={self.end:g} is out of range: write a share of trainer.lr from "
                "0 to 1"
            )

    def __call__(self, u: float) -> float:
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * u))


@dataclass(frozen=True)
class Geometric:
    """end^u: the same factor every step, down to `end` of the peak."""

    end: float = 1e-3

    def __post_init__(self):
        if not 0 < self.end <= 1:
            raise UsageError(
                f"trainer.rate.end={self.end:g} is out of range: write a share of trainer.lr above "
                "0, at most 1"
            )

    def __call__(self, u: float) -> float:
        return self.end**u


# Minimax quintics x -> a x + b x^3 + c x^5, applied in turn (Amsel et al. 2025, "The Polar
# Express"): singular values from .01 of the largest on come within 13 % of 1, and only the
# direction of a step matters.
QUINTICS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)


def polar(g: Tensor) -> Tensor:
    """The orthogonal factor U V^T of g = U S V^T, to 13 %; g [...,m,n], all matrices of a stack at
    once."""
    if g.shape[-2] > g.shape[-1]:
        return polar(g.mT).mT
    x = g / (1.01 * torch.linalg.matrix_norm(g, keepdim=True) + 1e-20)
    x = x.reshape(-1, *g.shape[-2:])
    for a, b, c in QUINTICS:
        s = x @ x.mT
        even = torch.baddbmm(s, s, s, beta=b, alpha=c)  # b s + c s^2
        x = torch.baddbmm(x, even, x, beta=a)  # a x + (b s + c s^2) x
    return x.view(g.shape)


def takes(w: Tensor) -> bool:
    """Whether Muon takes a parameter: a matrix, or a stack of them, with at least THIN rows and
    columns."""
    return w.dim() >= 2 and min(w.shape[-2:]) >= THIN


class Muon:
    """Muon for `matrices` (parameters [...,m,n] whose .grad is set), which take no other step.

    momenta: its whole state, one buffer.
    """

    def __init__(self, matrices: Sequence[Tensor], momentum: float = 0.95):
        self.matrices = matrices
        self.momentum = momentum
        self.momenta = torch.cat([torch.zeros_like(w).flatten() for w in matrices])

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step of every matrix along its gradient, which is zero afterwards: Adam, on the whole
        flat buffer, is to see none here."""
        pieces = self.momenta.split([w.numel() for w in self.matrices])
        for w, piece in zip(self.matrices, pieces, strict=True):
            m = piece.view_as(w)
            m.lerp_(w.grad, 1 - self.momentum)
            ahead = w.grad.lerp(m, self.momentum)
            w.sub_(polar(ahead), alpha=lr)
            w.grad.zero_()
