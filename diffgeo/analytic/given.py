"""The posterior p(x0 | y) of Gaussians and of atoms, y = A x0 + s n.

x = x0 + sigma z and y are independent given x0, so E[x0 | x, y] is the plain denoiser of the law
p(x0 | y): once that law is written down, every sampler and metric works on it unchanged.

Gaussian  N(m, F F'), and the singular value decomposition A F = P diag(t) W':
          mean        m + F W diag(t/(t^2 + s^2)) P' (y - A m)
          covariance  F W diag(s^2/(t^2 + s^2)) W' F'
          log p(y)    log N(y; A m, P diag(t^2) P' + s^2 I)
          Nothing is subtracted, so a singular covariance and s = 0 keep their digits.
Mixture   component k as above, of weight w_k N(y; A m_k, R_k)
Atoms     the same atoms, of weight w_i exp(-|y - A(a_i)|^2 / 2 s^2): any operator

s = 0 is the limit s -> 0: what y contradicts is out, and of what it allows, that which it had the
least freedom to miss wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic import atoms, normal
from diffgeo.analytic.exact import Posterior, check_direction, checked
from diffgeo.analytic.measurement import Linear, Operator
from diffgeo.core import Sigma, column
from diffgeo.errors import UsageError

EXACT = 1e-6  # of |y|: how near a noiseless measurement must be met; it may come from float32
NEVER = -1e15  # the logarithm of the weight of an atom that cannot be
BLOCK = 1 << 18  # numbers of a signal or of a measurement that are looked at at a time


def check(operator: Operator, y: Tensor, sigma_n: float, shape: Sequence[int]) -> None:
    """Raise UsageError unless y [*M] is a measurement of signals of this shape by the operator."""
    if tuple(operator.shape) != tuple(shape):
        raise UsageError(
            f"the operator measures signals of shape {list(operator.shape)} and the law's have "
            f"shape {list(shape)}: write an operator for {list(shape)}"
        )
    if tuple(y.shape) != tuple(operator.measured):
        raise UsageError(
            f"y has shape {list(y.shape)} and the operator measures {list(operator.measured)}: "
            "write one y of that shape"
        )
    if not bool(y.isfinite().all()):
        raise UsageError("y has entries that are not finite: write finite numbers")
    if not 0 <= sigma_n < math.inf:
        raise UsageError(f"sigma_n={sigma_n:g}: the noise is 0 or more; write sigma_n=0.1, say")


def matrix(operator: Linear) -> Tensor:
    """A by its entries, float64 [m,d]."""
    size = math.prod(operator.shape)
    axes = torch.eye(size, dtype=torch.float64).view(size, *operator.shape)
    return operator(axes).flatten(1).mT


class Through:
    """An operator behind a linear map x0 = Q p, Q [n,d] with orthonormal columns."""

    def __init__(self, operator: Operator, frame: Tensor):
        self.operator = operator
        self.frame = frame
        self.shape = (frame.shape[1],)
        self.measured = tuple(operator.measured)

    def __call__(self, x0: Tensor) -> Tensor:
        """A(Q x0), [B,d] -> [B,*M]."""
        return self.operator(x0 @ self.frame.to(x0).mT)


class LinearThrough(Through):
    """A Q by its entries."""

    operator: Linear

    def adjoint(self, y: Tensor) -> Tensor:
        """Q' A' y, [B,*M] -> [B,d]."""
        return self.operator.adjoint(y) @ self.frame.to(y)

    def solve(self, y: Tensor, rho: Sigma) -> Tensor:
        """(A Q Q' A' + rho)^-1 y, [B,*M] -> [B,*M]."""
        left, values, _ = torch.linalg.svd(matrix(self).to(y), full_matrices=False)
        held = values > torch.finfo(values.dtype).eps * max(self.frame.shape) * values[0]
        left = left[:, held]
        shift = column(rho, y)[:, None]
        found = y.flatten(1) @ left / (values[held] ** 2 + shift) @ left.mT
        return found.view_as(y)


def through(operator: Operator, frame: Tensor) -> Through:
    """The operator as it sees the coordinates of a plane; linear where it is."""
    if isinstance(operator, Linear):
        return LinearThrough(operator, frame)
    return Through(operator, frame)


# Gaussians


@dataclass(frozen=True, eq=False)
class Update:
    """What y = A x0 + s n makes of N(mean, basis diag(variance) basis').

    mean [d], predicted [m]: A mean, gain [d,m], root [d,d]: root root' is the covariance.
    left [m,r], total [r]: the axes and the variances of y where A x0 varies, s^2 elsewhere.
    """

    mean: Tensor
    predicted: Tensor
    gain: Tensor
    root: Tensor
    left: Tensor
    total: Tensor
    sigma_n: float

    @property
    def covariance(self) -> Tensor:
        """Of x0 given y, whatever y is, [d,d]."""
        return self.root @ self.root.mT

    @property
    def fixed(self) -> int:
        """In how many directions only noise makes y vary."""
        return len(self.predicted) - len(self.total)

    @property
    def has_density(self) -> bool:
        """Whether y has a density: noise, or no direction that x0 leaves alone."""
        return self.sigma_n > 0 or not self.fixed

    def mean_of(self, y: Tensor) -> Tensor:
        """E[x0 | y], [n,m] -> [n,d]."""
        return self.mean + (y - self.predicted) @ self.gain.mT

    def of(self, y: Tensor) -> tuple[Tensor, float | None]:
        """E[x0 | y] [d] and log p(y) in nats (None where y has no density) of one y [*M]. Raises
        UsageError where no x0 has this y."""
        row = y.double().reshape(1, -1)
        log_evidence = self.log_evidence(row)
        check_possible(log_evidence[:, None])
        known = float(log_evidence) if self.has_density else None
        return self.mean_of(row)[0], known

    def log_evidence(self, y: Tensor) -> Tensor:
        """log p(y) in nats, [n,m] -> [n]. Without noise the density on the plane of all A x0, and
        -inf off it."""
        residual = y - self.predicted
        along = residual @ self.left
        off = torch.linalg.vector_norm(residual - along @ self.left.mT, dim=1)
        found = normal.log_normal(along, self.total)
        if self.sigma_n > 0:
            square = self.sigma_n**2
            return found - off**2 / (2 * square) - self.fixed / 2 * math.log(2 * math.pi * square)
        size = torch.linalg.vector_norm(y, dim=1) + torch.linalg.vector_norm(self.predicted)
        return torch.where(off <= EXACT * size, found, -torch.inf)


def update(a: Tensor, sigma_n: float, mean: Tensor, basis: Tensor, variance: Tensor) -> Update:
    """The update by a matrix a [m,d]; mean [d], basis [d,d], variance [d]."""
    factor = basis * variance.sqrt()
    left, t, right = torch.linalg.svd(a @ factor)
    rank = 0
    if len(t):
        rank = int((t > torch.finfo(t.dtype).eps * max(a.shape) * t[0]).sum())
    t = t[:rank]
    total = t**2 + sigma_n**2
    # of the coordinates z = W' F^-1 (x0 - mean), which are N(0, 1) before y is known
    kept = torch.ones_like(variance)
    kept[:rank] = sigma_n / total.sqrt()
    turned = factor @ right.mT
    left = left[:, :rank]
    gain = turned[:, :rank] * (t / total) @ left.mT
    return Update(mean, a @ mean, gain, turned * kept, left, total, sigma_n)


def mixture_weights(updates: Sequence[Update], log_weights: Tensor, y: Tensor) -> Tensor:
    """log w_k p_k(y), [n,m] -> [n,k]. Raises UsageError where no component gives a y."""
    logs = torch.stack([part.log_evidence(y) for part in updates], 1) + log_weights
    if updates[0].sigma_n == 0:
        # s -> 0: a component with more directions that only noise varies is the denser one
        fixed = torch.tensor([part.fixed for part in updates])
        most = torch.where(logs.isneginf(), -1, fixed).amax(1, keepdim=True)
        logs = torch.where(fixed < most, -torch.inf, logs)
    check_possible(logs)
    return logs


def check_possible(logs: Tensor) -> None:
    """Raise UsageError where every log weight of a row is -inf."""
    if bool(logs.isneginf().all(1).any()):
        raise UsageError(
            "sigma_n=0: no signal of this law has the measurement y; write sigma_n above 0, or the "
            "y of a signal of the law"
        )


# atoms


def log_likelihood(operator: Operator, x0: Tensor, y: Tensor, sigma_n: float) -> Tensor:
    """log p(y | x0) but for -m/2 log 2 pi s^2: signals [k,*D] and measurements [n,*M] -> [n,k],
    by differences, in float64. Without noise 0 where y is met and -inf elsewhere."""
    y = y.double().flatten(1)
    largest = max(math.prod(operator.shape), math.prod(operator.measured))
    found = []
    for part in x0.split(max(1, BLOCK // largest)):
        measured = operator(part.double()).flatten(1)
        # a row of y at a time: the block stays in the cache
        square = torch.stack([(measured - own).square_().sum(1) for own in y])
        if sigma_n > 0:
            found.append(-square / (2 * sigma_n**2))
        else:
            size = y.norm(dim=1)[:, None] + measured.norm(dim=1)
            found.append(torch.where(square.sqrt() <= EXACT * size, 0.0, -torch.inf))
    return torch.cat(found, 1)


class Reweighted(NamedTuple):
    """What a measurement makes of weights: n measurements, k atoms."""

    log_weight: Tensor  # of sum 1, finite, [n,k]
    log_evidence: Tensor  # log p(y), nats, [n]; without noise the logarithm of a probability

    @property
    def ess(self) -> Tensor:
        """How many atoms of equal weight are as uneven, 1/sum w^2, [n]."""
        return 1 / self.log_weight.flatten(1).exp().square().sum(1)

    def shaped(self, shape: Sequence[int]) -> Reweighted:
        """The atoms in another order of axes, [n,...]."""
        return self._replace(log_weight=self.log_weight.view(*shape))


def reweighted(
    operator: Operator, x0: Tensor, log_weights: Tensor | None, y: Tensor, sigma_n: float
) -> Reweighted:
    """Atoms x0 [k,*D] of log weights [k] of sum 1, or equal ones, given measurements y [n,*M].
    Raises UsageError where none has a y."""
    likely = log_likelihood(operator, x0, y, sigma_n)
    return normalized(likely, y, sigma_n, log_weights)


def normalized(
    likely: Tensor, y: Tensor, sigma_n: float, log_weights: Tensor | None = None
) -> Reweighted:
    """The weights of k atoms from the `log_likelihood` [n,k] of measurements y [n,*M]; log_weights
    [k] of sum 1 before, equal if None. Raises UsageError where none has a y."""
    logs = likely - math.log(likely.shape[1]) if log_weights is None else likely + log_weights
    check_possible(logs)
    total = logs.logsumexp(1, keepdim=True)
    evidence = total[:, 0]
    if sigma_n > 0:
        evidence = evidence - y[0].numel() / 2 * math.log(2 * math.pi * sigma_n**2)
    return Reweighted((logs - total).clamp(min=NEVER), evidence)


# denoisers of rows that each have their own y


def check_rows(x: Tensor, y: Tensor) -> None:
    """Raise UsageError unless there is one row of x for each of y."""
    if len(x) != len(y):
        raise UsageError(
            f"the sampler asks for {len(x)} rows of a batch of {len(y)} measured samples; each has "
            "its own y, so take a sampler that moves a batch as a whole, such as sampler=heun"
        )


@dataclass(frozen=True, eq=False)
class RowMixture:
    """E[x0 | x, y_b] of row b: an `exact.Density`.

    weights [B,k] of sum 1, means [B,k,d]; bases [k,d,d] and variances [k,d], which no y changes.
    """

    weights: Tensor
    means: Tensor
    bases: Tensor
    variances: Tensor

    classes = 0

    def _local(self, x: Tensor, sigma: Sigma) -> normal.Local:
        wide, levels = checked(x, sigma, self.means.shape[2:])
        check_rows(x, self.weights)
        parts = (self.weights, self.means, self.bases, self.variances)
        return normal.Local(wide, levels, *(part.to(wide) for part in parts))

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self._local(x, sigma).mean().to(x.dtype)

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self._local(x, sigma).log_density()

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self._local(x, sigma).trace()

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        check_direction(v, x)
        return self._local(x, sigma).covariance_product(v.double()).to(x)


@dataclass(frozen=True, eq=False)
class RowAtoms:
    """E[x0 | x, y_b] of row b: an `exact.Finite`. points [k,d], weights [B,k] of sum 1."""

    points: Tensor
    weights: Tensor

    classes = 0

    def _parts(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide, levels = checked(x, sigma, self.points.shape[1:])
        check_rows(x, self.weights)
        return wide, levels, self.points.to(wide), self.weights.to(wide)

    def posterior(self, x: Tensor, sigma: Sigma, **cond) -> Posterior:
        found = atoms.weighed(*self._parts(x, sigma))
        return found._replace(mean=found.mean.to(x.dtype))

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self.posterior(x, sigma).mean

    def log_density(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return atoms.log_density(*self._parts(x, sigma))

    def trace(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self.posterior(x, sigma).trace

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        check_direction(v, x)
        return atoms.covariance_product(*self._parts(x, sigma), v.double()).to(x)
