"""Where the symmetric centre of a law loses its stability, in every chart and dynamics.

Count positions from the centre c. In the chart x_t = s(sigma) x a sampler is pushed along

    D(x; sigma) - a(sigma) x,       a = 1 + share dlog s/dlog sigma,

share = 1 for the probability-flow ODE and 1/2 for the reverse SDE, whose drift has the score twice.
So the fixed points of a dynamics solve D(x; sigma) = a(sigma) x, and one is stable where every
eigenvalue of dD/dx = Cov[x0|x]/sigma^2 is below a. The push is a gradient: its potential, in nats,

    u(x; sigma) = -log p_sigma(x) - (1 - a) |x|^2 / 2 sigma^2,

has its wells at the stable fixed points. In VE a = 1 for both, u = -log p_sigma, and fixed points
are the modes of p_sigma, which no chart moves. The centre changes stability where the top
eigenvalue of Cov[x0|c] is a sigma^2: sought as a root in log sigma, nothing is typed in. For l that
eigenvalue it is (checks, not used) sigma^2 = l in VE, theta^4 + 2 l theta^2 = 1 for the VP SDE,
theta^2 = 1 - l for the VP ODE, t^2 = l (1 - t) in the flow chart (Raya and Ambrogioni 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from scipy.optimize import brentq
from torch import Tensor

from diffgeo.analytic.exact import Density
from diffgeo.core import Data, Denoiser, Known
from diffgeo.denoiser import covariance
from diffgeo.errors import UsageError
from diffgeo.geometry.charts import CHARTS
from diffgeo.schedule import VP
from diffgeo.schedule.discrete import Discrete

SYMMETRIC = 1e-7  # |D(c) - c| over the law's deviation, of a centre; a quadrature is not exact
LEVELS = 241  # at which a change of sign is looked for
NAMES = {"ve": "VE", "vp": "VP", "flow": "flow"}
CLEAR = 1e-9  # a relative excess below it has no sign
WIDEST = 256  # coordinates: a matrix of so many is made at every step


def still(sigma: Tensor) -> Tensor:
    """dlog s/dlog sigma of s = 1."""
    return torch.zeros_like(sigma)


def preserving(sigma: Tensor) -> Tensor:
    """The same of s = (1 + sigma^2)^(-1/2)."""
    return -(sigma**2) / (1 + sigma**2)


def straight(sigma: Tensor) -> Tensor:
    """The same of s = 1/(1 + sigma)."""
    return -sigma / (1 + sigma)


@dataclass(frozen=True)
class Dynamics:
    """A chart and what moves in it.

    slope: dlog s/dlog sigma of the chart. share: 1 for the ODE, 1/2 for the SDE (in VE no matter).
    """

    chart: str
    kind: str
    slope: Callable[[Tensor], Tensor]
    share: float

    @property
    def name(self) -> str:
        return f"{NAMES[self.chart]}, {self.kind}"

    @property
    def key(self) -> str:
        """Of its numbers: `vp/sde`."""
        return f"{self.chart}/{self.kind.lower().replace(' and ', '_')}"

    def scale(self, sigma: Tensor) -> Tensor:
        """s(sigma) of the chart."""
        return CHARTS[self.chart].scale(sigma)

    def gain(self, sigma: Tensor) -> Tensor:
        """a(sigma): what a fixed point is multiplied by to be D."""
        return 1 + self.share * self.slope(sigma)


VE = Dynamics("ve", "SDE and ODE", still, 1.0)
VP_SDE = Dynamics("vp", "SDE", preserving, 0.5)
VP_ODE = Dynamics("vp", "ODE", preserving, 1.0)
FLOW_ODE = Dynamics("flow", "ODE", straight, 1.0)
DYNAMICS = (VE, VP_SDE, VP_ODE, FLOW_ODE)


def own_coordinates(chart: str, sigma: float) -> dict[str, float]:
    """A level as papers of this chart write it: theta = sqrt(abar), Song's time s (beta .1 to 20)
    and the nearest of DDPM's 1000 indices; the time t of the flow chart; nothing more in VE."""
    level = torch.tensor(sigma, dtype=torch.float64)
    if chart == "flow":
        return {"t": sigma / (1 + sigma)}
    if chart == "vp":
        return {
            "theta": 1 / math.sqrt(1 + sigma**2),
            "s": float(VP().t(level)),
            "ddpm_index": round(float(Discrete().t(level))),
        }
    return {}


def top_eigenvalue(matrix: Tensor) -> Tensor:
    """The largest real part of the eigenvalues of matrices [...,d,d]."""
    if torch.equal(matrix, matrix.mT):
        return torch.linalg.eigvalsh(matrix)[..., -1]
    return torch.linalg.eigvals(matrix).real.amax(-1)


@dataclass(frozen=True, eq=False)
class Field:
    """D and its derivative of a law of flat points, counted from `origin` [d], float64.

    scale: a length of the law, the root of the top eigenvalue of its covariance.
    """

    denoise: Denoiser
    origin: Tensor
    scale: float

    @classmethod
    def of(cls, denoise: Denoiser, data: Data) -> Field:
        """The field of a denoiser, counted from the mean of its law. Raises UsageError where the
        law's points are no flat ones, or have too many coordinates, or only one place."""
        if len(data.shape) != 1 or data.shape[0] > WIDEST:
            raise UsageError(
                f"symmetry is for laws in R^d of at most {WIDEST} coordinates, and this one has "
                f"points of shape {list(data.shape)}: write data=points2 or another such law; "
                "`diffgeo trajectory phases` is for images"
            )
        if not data.std > 0:
            raise UsageError("this law is one point, which has no symmetry to break: write another")
        mean = data.mean.to(torch.float64)
        truth = data.denoiser() if isinstance(data, Known) else denoise
        # Cov[x0|x] of so much noise is the law's own covariance
        wide = cls(truth, mean, 1.0)
        highest = torch.tensor([1e3 * data.std * len(mean) ** 0.5], dtype=torch.float64)
        return replace(wide, denoise=denoise, scale=float(highest * wide.at_origin(highest).sqrt()))

    def mean(self, y: Tensor, sigma: Tensor) -> Tensor:
        """D(origin + y) - origin: y [B,d], sigma [B] -> [B,d]."""
        with torch.no_grad():
            return self.denoise(self.origin + y, sigma) - self.origin

    def jacobian(self, y: Tensor, sigma: Tensor) -> Tensor:
        """dD/dx [B,d,d]: from the law's covariances where it has them, and then symmetric to the
        last bit, else by autograd. A network's need not be symmetric."""
        x = self.origin + y
        if not isinstance(self.denoise, Density):
            return covariance(self.denoise, x, sigma) / sigma[:, None, None] ** 2
        axes = torch.eye(x.shape[1], dtype=x.dtype).repeat(len(x), 1)
        each = x.repeat_interleave(x.shape[1], 0)  # a row of x for every axis
        levels = sigma.repeat_interleave(x.shape[1])
        products = self.denoise.covariance_product(each, levels, axes)
        matrix = products.view(len(x), x.shape[1], x.shape[1]) / sigma[:, None, None] ** 2
        return (matrix + matrix.mT) / 2

    def at_origin(self, sigma: Tensor) -> Tensor:
        """The top eigenvalue of dD/dx at the origin at each level, [L] -> [L]."""
        y = self.origin.new_zeros(len(sigma), len(self.origin))
        return top_eigenvalue(self.jacobian(y, sigma))

    def asymmetry(self, sigma: Tensor) -> float:
        """How far D moves the origin at these levels, over the scale: 0 at a symmetric centre."""
        y = self.origin.new_zeros(len(sigma), len(self.origin))
        moved = torch.linalg.vector_norm(self.mean(y, sigma), dim=1)
        return float(moved.max()) / self.scale

    def levels(self) -> Tensor:
        """The levels [L] that are searched, in units in which every dynamics has its own."""
        highest = 100 * max(self.scale, self.scale**2)
        ends = math.log(0.02 * self.scale), math.log(highest)
        return torch.linspace(*ends, LEVELS, dtype=torch.float64).exp()


class Change(NamedTuple):
    """A level at which the centre changes stability."""

    sigma: float
    lost: bool  # on the way down: it was stable above; else it becomes so below
    eigenvalue: float  # of Cov[x0 | centre], the top one, a sigma^2 there


class Centre(NamedTuple):
    """The centre in one dynamics."""

    dynamics: Dynamics
    changes: list[Change]  # the highest first
    stable_above: bool  # at the highest level searched

    @property
    def lost(self) -> Change | None:
        """Where it is first lost on the way down."""
        return next((change for change in self.changes if change.lost), None)

    def __str__(self) -> str:
        if self.changes:
            return "; ".join(
                f"{'lost' if change.lost else 'regained'} at {change.sigma:.8g}"
                for change in self.changes
            )
        return "always stable" if self.stable_above else "never stable"


def centre(field: Field, dynamics: Dynamics) -> Centre:
    """The stability of the origin, a symmetric centre, by level."""
    levels = field.levels()
    top = field.at_origin(levels)
    gain = dynamics.gain(levels)
    relative = top / gain - 1

    def excess(log_sigma: float) -> float:
        level = torch.tensor([math.exp(log_sigma)], dtype=torch.float64)
        return float(field.at_origin(level) / dynamics.gain(level)) - 1

    changes = []
    clear = (relative.abs() > CLEAR).nonzero()[:, 0].tolist()
    for above, below in zip(reversed(clear[1:]), reversed(clear[:-1]), strict=True):
        if (relative[above] > 0) == (relative[below] > 0):
            continue
        ends = math.log(levels[below]), math.log(levels[above])
        sigma = math.exp(brentq(excess, *ends, xtol=1e-14, rtol=1e-14))
        level = torch.tensor([sigma], dtype=torch.float64)
        eigenvalue = sigma**2 * float(field.at_origin(level))
        changes.append(Change(sigma, bool(relative[below] > 0), eigenvalue))
    return Centre(dynamics, changes, not clear or bool(relative[clear[-1]] < 0))


def potential(field: Field, dynamics: Dynamics, y: Tensor, sigma: float) -> Tensor:
    """u at points of a line through the origin in their order, y [n,d] counted from it, less its
    value at the first of them: [n]. By the law's log-density where it has one, else by the integral
    of the push (Simpson's rule between neighbours)."""
    level = torch.full((len(y),), sigma, dtype=torch.float64)
    gain = float(dynamics.gain(level[:1]))
    if isinstance(field.denoise, Density):
        well = -field.denoise.log_density(field.origin + y, level)
        well = well - (1 - gain) * y.square().sum(1) / (2 * sigma**2)
        return well - well[0]
    step = y[1:] - y[:-1]
    middle = (y[1:] + y[:-1]) / 2

    def push(z: Tensor) -> Tensor:
        return (field.mean(z, level[: len(z)]) - gain * z) / sigma**2

    pushes = push(y)
    mean = (pushes[:-1] + 4 * push(middle) + pushes[1:]) / 6
    return torch.cat([step.new_zeros(1), -(mean * step).sum(1).cumsum(0)])
