"""What Permenter and Yuan's theorem says of measured runs (theory/admissibility.py): whether its
assumption holds on them, and what then follows for the grid (theory/certificate.py).

The theorem multiplies the per-step inequalities along a run with one eta < 1 for all of it, and
asks that dist stays in the band sigma sqrt(n)/nu .. nu sigma sqrt(n). What is measured is a number
of drawn runs: that all N of them satisfy it says with 95 % confidence that fewer than 3/N of all
runs do not (.95 = 1 - (1 - 3/N)^N, nearly), and no more; the largest eta of N runs grows with N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from diffgeo.theory import certificate
from diffgeo.theory.admissibility import Measured

SLACK = 1e-12  # relative, of the band: rounding does not leave it


@dataclass(frozen=True)
class Verdict:
    """The theorem's assumption on measured runs, over the positive levels (no grid may step into 0:
    beta = 1 >= 1/(1+eta)).

    quantile: the share of the runs that must satisfy it at each level; 1: all of them.
    """

    measured: Measured
    quantile: float = 1.0

    @cached_property
    def sigmas(self) -> list[float]:
        """The positive levels."""
        return [s for s in self.measured.sigma.tolist() if s > 0]

    @cached_property
    def eta_by_level(self) -> list[float]:
        return self.measured.eta.quantile(self.quantile, dim=1).tolist()

    @cached_property
    def nu_by_level(self) -> list[float]:
        return self.measured.nu.quantile(self.quantile, dim=1).tolist()

    @property
    def eta(self) -> float:
        return max(self.eta_by_level)

    @property
    def nu(self) -> float:
        return max(self.nu_by_level)

    @cached_property
    def nu_min(self) -> float:
        """The certificate of the positive levels at the measured eta."""
        return certificate.nu_min(self.sigmas, self.eta)

    @cached_property
    def eta_of_steps(self) -> list[float]:
        """eta at the levels from which a step leads to another of the positive ones."""
        return self.eta_by_level[: len(self.sigmas) - 1]

    @cached_property
    def nu_min_by_level(self) -> float:
        """The same with each level's own eta: sharper, and as true."""
        return certificate.nu_min(self.sigmas, self.eta_of_steps)

    @property
    def runs(self) -> int:
        """How many runs were measured."""
        return self.measured.eta.shape[1]

    @property
    def of_runs(self) -> str:
        """On how many runs the assumption was seen to hold, and what that says of others."""
        if self.quantile < 1:
            return f"on {self.quantile:g} of {self.runs} runs at each level"
        if self.runs <= 3:
            return f"on each of {self.runs} runs, too few to say more"
        return (
            f"on each of {self.runs} runs (so, 95 % sure, on all but {3 / self.runs:.1g} of others)"
        )

    @property
    def fails(self) -> list[float]:
        """The levels at which eta >= 1."""
        levels = zip(self.measured.sigma.tolist(), self.eta_by_level, strict=False)
        return [sigma for sigma, eta in levels if eta >= 1]

    @property
    def leaves(self) -> list[float]:
        """The levels at which the band nu_min, widened by the start's own distance from it, is
        left."""
        widest = self.nu_min * self.nu_by_level[0] * (1 + SLACK)
        levels = zip(self.measured.sigma.tolist(), self.nu_by_level, strict=False)
        return [sigma for sigma, nu in levels if nu > widest]

    @property
    def met(self) -> bool:
        return not self.fails and math.isfinite(self.nu_min) and not self.leaves

    def bounds(self) -> dict[str, tuple[list[float], list[float]]]:
        """The theorem's (lower, upper) bounds on dist(x_t)/dist(x_N) at the positive levels, with
        one eta for the whole grid and with each level's own; none where the assumption fails."""
        if not self.met:
            return {}
        return {
            f"eta = {self.eta:.3g}": certificate.bounds(self.sigmas, self.eta),
            "each level's eta": certificate.bounds(self.sigmas, self.eta_of_steps),
        }

    def metrics(self, nu: float) -> dict[str, float]:
        """The verdict in numbers; beta_star is for the width nu. A median peak is the largest, over
        the levels, of the median over the trajectories."""
        measured = self.measured
        eta = measured.eta.median(1).values
        width = measured.nu.median(1).values
        values = {
            "met": float(self.met),
            "eta": self.eta,
            "eta_median_peak": eta.max(),
            "eta_median_peak_sigma": measured.sigma[eta.argmax()],
            "eta_above_1": (measured.eta >= 1).double().mean(),
            "nu": self.nu,
            "nu_start": self.nu_by_level[0],
            "nu_median_peak": width.max(),
            "nu_median_peak_sigma": measured.sigma[width.argmax()],
            "violations": measured.violations.sum(),
            "nu_min": self.nu_min,
            "nu_min_by_level": self.nu_min_by_level,
            "beta_max": max(certificate.betas(self.sigmas)),
            "beta_star": certificate.beta_star(self.eta, nu, len(self.sigmas) - 1),
        }
        return {f"admissibility/{key}": float(value) for key, value in values.items()}

    def __str__(self) -> str:
        if self.fails:
            return (
                f"assumption not met: eta >= 1 at {len(self.fails)} of {len(self.eta_by_level)} "
                f"levels, sigma from {max(self.fails):.3g} to {min(self.fails):.3g}; worst "
                f"{self.eta:.3g} at sigma = {self.where_largest(self.eta_by_level):.3g}"
            )
        if math.isinf(self.nu_min):
            beta = certificate.betas(self.sigmas)
            return (
                f"grid not admissible: eta = {self.eta:.3g} < 1 holds, but beta = {max(beta):.3g} "
                f"at sigma = {self.where_largest(beta):.3g} is not below 1/(1 + eta) = "
                f"{1 / (1 + self.eta):.3g}; write more steps"
            )
        if self.leaves:
            return (
                f"assumption not met: the band nu = {self.nu_min:.3g} is left at sigma from "
                f"{max(self.leaves):.3g} to {min(self.leaves):.3g}"
            )
        return (
            f"assumption met {self.of_runs}: eta = {self.eta:.3g} at most, at sigma = "
            f"{self.where_largest(self.eta_by_level):.3g}; the grid is admissible with nu = "
            f"{self.nu_min:.4g} ({self.nu_min_by_level:.4g} with each level's own eta)"
        )

    def where_largest(self, values: Sequence[float]) -> float:
        """The level of the largest value."""
        largest = max(range(len(values)), key=values.__getitem__)
        return float(self.measured.sigma[largest])


def by_level(measured: Measured, guesses: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Columns, a row a level: quantiles of eta, nu and the distance over the runs, violations, and
    the median of each estimator over the distance (`energy.estimates`, "exact" among them)."""
    steps = len(measured.eta)
    columns = {"sigma": measured.sigma[:steps].tolist()}
    for name, values in (("eta", measured.eta), ("nu", measured.nu)):
        for title, share in (("median", 0.5), ("q99", 0.99), ("max", 1.0)):
            columns[f"{name} {title}"] = values.quantile(share, dim=1).tolist()
    columns["violations"] = measured.violations.tolist()
    columns["distance median"] = measured.distance[:steps].median(1).values.tolist()
    for name, guess in guesses.items():
        if name != "exact":
            ratio = guess[:steps] / guesses["exact"][:steps]
            columns[f"{name} / it"] = ratio.median(1).values.tolist()
    return columns
