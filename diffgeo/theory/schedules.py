"""What the exponential schedule (41) of Lu, Wang and Bal is the best of, and what it is not.

Times 0 = t_0 < t_1 < ... < t_N = T. Near t = 0 the drift of the reverse OU process grows as 1/t
(their Theorem 3.5), so what their (40) weighs is the relative step

    r_k = (t_k - t_(k-1))/t_k,      max over k = 2..N.

r_1 = 1 whatever the grid is, since t_0 = 0: it is left out. The ratios 1 - r_k multiply to t_1/T,
so the largest r is least where all are equal,

    r = 1 - (t_1/T)^(1/(N-1)),      t_k = t_1 exp(a (k-1)),  a = log(T/t_1)/(N-1)          (41)

It is a minimax and no more: by the inequality of the means sum_k r_k is the LARGEST there of all
grids with these t_1, T and N. And 1/t is the drift's scale near 0 alone. On the whole way it is
1/(1 - e^-t), and the steps

    s_k = (t_k - t_(k-1))/(1 - e^-(t_k))

are equal on another grid, t_(k-1) = t_k - c (1 - e^-(t_k)); (41) has its largest s at t = T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Cost:
    """What a grid of times costs, of k = 2..N.

    ratios, scaled: r_k and s_k above, [N-1], increasing in t.
    """

    times: Tensor  # t_1 .. t_N, [N] float64
    ratios: Tensor
    scaled: Tensor

    @property
    def ratio_max(self) -> float:
        return float(self.ratios.max())

    @property
    def ratio_sum(self) -> float:
        return float(self.ratios.sum())

    @property
    def scaled_max(self) -> float:
        return float(self.scaled.max())

    @property
    def worst(self) -> float:
        """The time t_k that the largest s_k ends at."""
        return float(self.times[1:][self.scaled.argmax()])


def cost(times: Tensor) -> Cost:
    """Of the times t_1 .. t_N, increasing."""
    high = times[1:]
    step = times.diff()
    return Cost(times, step / high, step / -torch.expm1(-high))


def exponential(t_1: float, T: float, N: int) -> Tensor:
    """(41): equal ratios from t_1 to T, [N]."""
    k = torch.arange(N, dtype=torch.float64)
    times = t_1 * torch.exp(math.log(T / t_1) / (N - 1) * k)
    times[-1] = T  # not rounded through its logarithm
    return times


def power(T: float, N: int, p: float) -> Tensor:
    """T (k/N)^p, k = 1..N: linear for p = 1, quadratic for p = 2, with a t_1 of their own, [N]."""
    k = torch.arange(1, N + 1, dtype=torch.float64)
    return T * (k / N) ** p


def linear_from(t_1: float, T: float, N: int) -> Tensor:
    """Equal steps from t_1 to T, [N]."""
    return torch.linspace(t_1, T, N, dtype=torch.float64)


def balanced(t_1: float, T: float, N: int) -> Tensor:
    """The grid from t_1 to T, [N], on which all s_k are one c: the least largest s that there is.

    Down from T, t -> t - c (1 - e^-t) increases in t for c < 1, so that of two grids with steps
    s <= c none gets below the one whose steps all are c: c is the least with which t_1 is reached,
    and is found by bisection.
    Raises UsageError where that takes c of 1 or more.
    """
    if downwards(T, N, 1.0) > t_1:
        raise UsageError(
            f"points={N}: from T={T:g} to t_1={t_1:g} some step is larger than the scale "
            "1 - e^-t, whatever the grid; write more points"
        )
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if downwards(T, N, middle) > t_1:
            low = middle
        else:
            high = middle
    times = [T]
    for _ in range(N - 1):
        times.append(times[-1] + high * math.expm1(-times[-1]))
    times[-1] = t_1  # which it is to the last digits
    return torch.tensor(times[::-1], dtype=torch.float64)


def downwards(T: float, N: int, c: float) -> float:
    """Where N - 1 steps t -> t - c (1 - e^-t) from T lead."""
    t = T
    for _ in range(N - 1):
        t += c * math.expm1(-t)
    return t


EXPONENTIAL = "exponential (41)"
LINEAR = "linear"
QUADRATIC = "quadratic"
LINEAR_FROM = "linear from t_1"
BALANCED = "equal over 1 - e^-t"


def grids(t_1: float, T: float, N: int) -> dict[str, Cost]:
    """The five grids by name. Raises UsageError unless 0 < t_1 < T and N >= 3."""
    if not 0 < t_1 < T < math.inf:
        raise UsageError(f"t_1={t_1:g} T={T:g}: write two times, 0 < t_1 < T")
    if N < 3:
        raise UsageError(f"points={N}: write 3 or more, or there is no step to choose")
    return {
        EXPONENTIAL: cost(exponential(t_1, T, N)),
        LINEAR: cost(power(T, N, 1)),
        QUADRATIC: cost(power(T, N, 2)),
        LINEAR_FROM: cost(linear_from(t_1, T, N)),
        BALANCED: cost(balanced(t_1, T, N)),
    }
