"""Which sampler, which schedule: answered on exact denoisers, where the error of a sampler is the
whole error.

    error(sampler, grid) = rms_i |x_i - X_i| / std,

X_i the exact flow of the same noise from sigma = 80 to .002, and on by X_i <- D(X_i; .002) when the
grid ends in a jump to 0: what `diffgeo sample` reports as flow/rms, in deviations of the law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Fitted, Noise, Past, Sampler, Schedule, generator
from diffgeo.data import Law
from diffgeo.denoiser import Counted
from diffgeo.sampler import steps
from diffgeo.schedule import VE, VP, Cosine, Flow
from diffgeo.schedule.spacing import Beta, Exponential, Polyexponential, Power
from diffgeo.simulation.flow import end, flow, silence

HIGH = 80.0  # EDM's range
LOW = 0.002
GROUPS = 4  # disjoint parts of the points: does the winner win on each?
SOLVED = 1e-3  # of a law's deviation: errors below it count as equal


def run(
    sampler: Sampler,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise = silence,
    history: Sequence[Past] = (),
) -> Tensor:
    """The end of a run from the states x at the first level."""
    return end(steps(sampler, denoise, x, sigmas, noise, history), x)


@dataclass(frozen=True, eq=False)
class Truth:
    """Points of unit noise at the level `high`, and where the exact flow of `law` takes them: to
    `low`, and on by a jump to D.

    count: steps of the teacher. Its error is below `doubt`, what half of them change.
    """

    law: Law
    high: float = HIGH
    low: float = LOW
    points: int = 256
    count: int = 150
    seed: int = 0

    @cached_property
    def denoise(self) -> Denoiser:
        return self.law.denoiser()

    @cached_property
    def unit(self) -> Tensor:
        """Standard normal noise [points,*D]."""
        return torch.randn(
            self.points,
            *self.law.shape,
            generator=generator(self.seed, *b"selection"),
            dtype=torch.float64,
        )

    @cached_property
    def x(self) -> Tensor:
        return self.high * self.unit

    @cached_property
    def end(self) -> Tensor:
        return flow(self.denoise, self.x, self.high, self.low, self.count)

    @cached_property
    def limit(self) -> Tensor:
        return self.denoise(self.end, self.low)

    @cached_property
    def doubt(self) -> float:
        return float(self.rms(self.end - replace(self, count=self.count // 2).end))

    def rms(self, difference: Tensor, groups: int = 1) -> Tensor:
        """Root mean square over the points of each group [groups], in deviations of the law."""
        square = difference.flatten(1).square().sum(1)
        return square.view(groups, -1).mean(1).sqrt() / float(self.law.std)


def schedules(high: float = HIGH, low: float = LOW) -> dict[str, Schedule]:
    """What users choose from by these names, all between the same two levels: what differs is where
    they put their steps.

    All but `logsnr` and `time_uniform`, as these are published, then jump to 0, which is one of
    their steps.
    """

    def between(path, **options):
        t_min, t_max = path().t(torch.tensor([low, high], dtype=torch.float64)).tolist()
        return path(t_min=t_min, t_max=t_max, **options)

    ends = {"sigma_min": low, "sigma_max": high}
    return {
        "karras": VE(**ends),
        "logsnr": VE(**ends, spacing=Exponential(), to_zero=False),
        "polyexponential 2": VE(**ends, spacing=Polyexponential(2)),
        "cosine": between(Cosine),
        "flow": between(Flow),
        "beta": between(VP, spacing=Beta()),
        "time_uniform": VP.through(low, high, spacing=Power(2), to_zero=False),
    }


PROBE = VE(to_zero=False)  # crosses every level at which a sampler may do something special


def probe(sampler: Sampler) -> Tensor | None:
    """The end of a run of 12 steps on a denoiser that no attractor hides; None when the sampler
    draws noise."""
    drawn = False

    def noise() -> Tensor:
        nonlocal drawn
        drawn = True
        return torch.zeros(3, 1, dtype=torch.float64)

    x = 80 * torch.tensor([[0.3], [1.0], [-2.0]], dtype=torch.float64)
    last = run(sampler, lambda x, sigma: torch.sin(x) / (1 + sigma**2), x, PROBE.grid(12), noise)
    return None if drawn else last


def candidates(samplers: Mapping[str, Sampler]) -> dict[str, Sampler]:
    """Those that follow the flow (they draw no noise) in steps that are given (not adaptive), of
    twins (ddim = euler) the first name."""
    kept: dict[str, Tensor] = {}
    for name, sampler in samplers.items():
        if sampler.adaptive or isinstance(sampler, Fitted):
            continue
        last = probe(sampler)
        if last is None:
            continue
        twins = [other for other in kept.values() if torch.allclose(last, other, rtol=1e-9, atol=0)]
        if not twins:
            kept[name] = last
    return {name: samplers[name] for name in kept}


@lru_cache(maxsize=1024)
def affordable(sampler: Sampler, budget: int, to_zero: bool) -> int:
    """The most steps whose evaluations, counted, stay within the budget; 0 when even one step costs
    more."""
    path = replace(PROBE, to_zero=to_zero)
    x = torch.ones(1, 1, dtype=torch.float64)
    for n in range(budget, 0, -1):
        counted = Counted(lambda x, sigma: x / (1 + sigma**2))
        run(sampler, counted, x, path.grid(n))
        if counted.nfe <= budget:
            return n
    return 0


class Entry(NamedTuple):
    """What a sampler on a schedule makes of a budget; entries order by their error."""

    error: float  # over all points
    sampler: str
    schedule: str
    steps: int
    # of a point: far below `error` where a few points land on another part of the support
    median: float
    groups: tuple[float, ...]  # error over each group of points


@torch.no_grad()
def ranking(
    truth: Truth, samplers: Mapping[str, Sampler], budgets: Sequence[int]
) -> dict[int, list[Entry]]:
    """For each budget of evaluations every (sampler, schedule) that it affords, the best first."""
    paths = schedules(truth.high, truth.low)
    found: dict[int, list[Entry]] = {}
    for budget in budgets:
        entries = []
        for name, sampler in samplers.items():
            for label, path in paths.items():
                n = affordable(sampler, budget, path.to_zero)
                if n:
                    end = run(sampler, truth.denoise, truth.x, path.grid(n))
                    difference = end - (truth.limit if path.to_zero else truth.end)
                    entries.append(entry(truth, difference, name, label, n))
        found[budget] = sorted(entries)
    return found


def entry(truth: Truth, difference: Tensor, sampler: str, schedule: str, steps: int) -> Entry:
    """`difference` of the samples from where the flow takes them."""

    def finite(values: Tensor) -> list[float]:
        return values.nan_to_num(math.inf).tolist()

    (error,) = finite(truth.rms(difference))
    (median,) = finite(truth.rms(difference, truth.points).median()[None])
    groups = tuple(finite(truth.rms(difference, GROUPS)))
    return Entry(error, sampler, schedule, steps, median, groups)


def by_sampler(rankings: Mapping[int, Sequence[Entry]]) -> dict[str, dict[int, float]]:
    """Of one law: sampler -> budget -> its error on its best schedule, SOLVED where below."""
    found: dict[str, dict[int, float]] = {}
    for budget, entries in rankings.items():
        for e in reversed(entries):  # the least error last
            found.setdefault(e.sampler, {})[budget] = max(e.error, SOLVED)
    return found


def winners(rankings: Mapping[int, Sequence[Entry]]) -> dict[int, tuple[str, str, float]]:
    """Of one law: budget -> (sampler, schedule, error) of the winner."""
    found = {}
    for budget, entries in rankings.items():
        best = entries[0]
        found[budget] = best.sampler, best.schedule, best.error
    return found


def runner_up(entries: Sequence[Entry], family: Callable[[str], str]) -> Entry | None:
    """The best entry whose sampler is of another family than the winner's."""
    best = family(entries[0].sampler)
    for e in entries:
        if family(e.sampler) != best:
            return e
    return None


def regrets(rankings: Sequence[Sequence[Entry]]) -> list[tuple[float, str, str]]:
    """For every pair that all laws have, the geometric mean over the laws of its error over the
    best one; the least first."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for entries in rankings:
        least = max(entries[0].error, SOLVED)
        for e in entries:
            log_ratio = math.log(max(e.error, SOLVED) / least)
            ratios.setdefault((e.sampler, e.schedule), []).append(log_ratio)
    found = []
    for (sampler, schedule), logs in ratios.items():
        if len(logs) == len(rankings):
            found.append((math.exp(sum(logs) / len(logs)), sampler, schedule))
    return sorted(found)


def wins(entries: Sequence[Entry]) -> int:
    """On how many groups of points the winner is the best too, or solves them."""
    won = 0
    for g, mine in enumerate(entries[0].groups):
        least = min(e.groups[g] for e in entries)
        won += mine <= max(least, SOLVED)
    return won
