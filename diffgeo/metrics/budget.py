"""The error budget of a run: where its distance from the law comes from.

Six clouds come from the same draws of noise (`budget_clouds`): truth, fine, start, grid, net and run. Their differences are

    truncation = fine - truth    initialization = start - fine    discretization = grid - fine    score = net - fine    total = run - truth,

so each of three causes is switched on alone, with the run's ending on, and {fine, grid, net, run} are the four combinations {exact,
learned} x {fine, own grid}. Displacements add: total u = sum of the causes u_c + interaction, what is left. So do, exactly,

    part_c = <u_c, u>/|u|,        sum_c part_c + part_interaction = |u|,        <a,b> = mean_i a_i . b_i,

each cause's share of |u| (it is negative where a cause mends what others broke), beside the size |u_c| that the cause has alone. W2 is
not additive, and 'alone' sizes neither add up linearly (two causes may cancel) nor squared (they may agree): the interaction of the
parts is what is not linear in them, and of second order. |u_c| is an upper bound on W2, and is W2 where the shared noise couples
optimally, as a flow without noise does on a Gaussian. Bounds: for means and deviations (m, s) along orthogonal axes, and for n points,

    sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) = at_least <= W2 <= at_most = W2 of the coupled points (mean over groups) <= |u_c|;

at_least is W2 for Gaussians along their axes. The vector (m, s) can stand for u in the same algebra (`by: moments`): that is the choice for
a sampler with noise on a Gaussian, where the coupling is not optimal. Normal and tangential: u_c split by the tangent space at the truth;
a sample that jumps to another branch of the support moves normally without leaving it, and the distance to the support says which it did.

Standard errors are those of the delete-one jackknife over groups of samples.
"""
from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Run, Schedule
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.budget_clouds import Clouds, Process, clouds
from diffgeo.metrics.points import points
from diffgeo.metrics.transport import w2
from diffgeo.sample import fitting, ranges

CAUSES = ("truncation", "initialization", "discretization", "score")
ROWS = (*CAUSES, "interaction", "total")
FACTORS = (0.25, 0.5, 1, 2, 4)          # of the run's steps, where steps=null
AXES = 64                               # dimensions up to which moments and matchings are worth their noise


class Sums(NamedTuple):
    """What a budget is computed from: means over each of G groups of samples. None where the law has no such thing."""

    gram: Tensor                    # <u_r, u_s>, [G,6,6], r and s over ROWS
    tangential: Tensor | None       # the same of their tangential parts
    distance: Tensor | None         # mean distance of the clouds to the support, [G,6]
    mean: Tensor | None             # of the clouds along d axes, [G,6,d]
    square: Tensor | None


def sums(made: Clouds, data: Data, groups: int) -> Sums:
    made = Clouds(*(points(cloud) for cloud in made))
    split = lambda v: v.unflatten(-1 if v.dim() == 1 else 0, (groups, -1))
    u = torch.stack(made.between(lambda cloud: cloud.flatten(1)))                           # [6,n,d]
    gram = lambda v: torch.einsum("rgnd,sgnd->grs", *2 * [v.unflatten(1, (groups, -1))]) / (v.shape[1] // groups)
    n, d = u.shape[1:]
    dim = getattr(data, "dim", d)
    tangential = distance = mean = square = None
    if 0 < dim < d and hasattr(data, "tangent"):
        basis = data.tangent(data.project(made.truth))
        tangential = gram(torch.einsum("nik,njk,rnj->rni", basis, basis, u))
    if dim < d and hasattr(data, "distance"):
        distance = torch.stack([split(points(data.distance(cloud))).mean(1) for cloud in made], 1)
    if d <= min(AXES, n // 8):
        axes = data.basis if hasattr(data, "basis") else torch.linalg.eigh(torch.cov(made.truth.mT).reshape(d, d)).eigenvectors
        along = torch.stack([split(cloud @ axes) for cloud in made])                        # [6,G,m,d]
        mean, square = along.mean(2).transpose(0, 1), along.square().mean(2).transpose(0, 1)
    return Sums(gram(u), tangential, distance, mean, square)


def budget(held: Sums, moments: bool) -> dict[str, float]:
    """Every number of a budget from sums of which each is one mean (G = 1). moments: (m, s) stands for u."""
    gram, tangential = held.gram[0], None if held.tangential is None else held.tangential[0]
    least, values = None, {}
    if held.mean is not None:
        deviation = (held.square - held.mean**2).clamp(min=0).sqrt()
        v = torch.stack(Clouds(*torch.cat([held.mean, deviation], 2)[0]).between(lambda row: row))
        least = v @ v.mT
        if moments and tangential is not None:
            on = (deviation[0, 0] > 1e-9 * deviation[0, 0].max()).repeat(2)
            tangential = v[:, on] @ v[:, on].mT
    if moments:
        gram = least
    whole = float(gram[-1, -1].sqrt()) or 1.0
    far = None if held.distance is None else Clouds(*held.distance[0]).between(lambda value: value)
    for r, name in enumerate(ROWS):
        values[name], values[f"{name}_part"], values[f"{name}_share"] = gram[r, r].sqrt(), gram[r, -1] / whole, gram[r, -1] / whole**2
        if tangential is not None:
            values[f"{name}_tangential"], values[f"{name}_tangential_part"] = tangential[r, r].sqrt(), tangential[r, -1] / whole
            normal = (gram - tangential)[r]
            values[f"{name}_normal"], values[f"{name}_normal_part"] = normal[r].clamp(min=0).sqrt(), normal[-1] / whole
            values[f"{name}_tangential_share"], values[f"{name}_normal_share"] = tangential[r, -1] / whole**2, normal[-1] / whole**2
        if least is not None:
            values[f"{name}_at_least"] = least[r, r].sqrt()
        if far is not None:
            values[f"{name}_distance"] = far[r]
    return {key: float(value) for key, value in values.items()}


def jackknife(held: Sums, moments: bool) -> dict[str, float]:
    """`budget` of all groups, and of each number its standard error, `_se`, by leaving out a group at a time."""
    groups = len(held.gram)
    some = lambda keep: budget(Sums(*(None if v is None else v[keep].mean(0, keepdim=True) for v in held)), moments)
    values, every = some(slice(None)), torch.arange(groups)
    without = [some(every[every != g]) for g in range(groups)]
    spread = {key: torch.tensor([w[key] for w in without], dtype=torch.float64).var(correction=0) for key in values}
    return values | {f"{key}_se": math.sqrt((groups - 1) * float(v)) for key, v in spread.items()}


def matched(made: Clouds, groups: int) -> dict[str, float]:
    """`at_most` of each cause and of the total: the root of the mean over groups of W2^2 between the coupled points."""
    truth, fine, *ends = (points(cloud).flatten(1).unflatten(0, (groups, -1)).numpy() for cloud in made)
    pairs = dict(zip((*CAUSES, "total"), ((fine, truth), *((end, fine) for end in ends[:3]), (ends[3], truth)), strict=True))
    return {f"{name}_at_most": math.sqrt(sum(w2(a, b) ** 2 for a, b in zip(*pair, strict=True)) / groups) for name, pair in pairs.items()}


@dataclass(frozen=True)
class Budget:
    """`budget/<row>` (alone), `_part`, `_share` (of the total), `_normal`, `_tangential` (and their `_part`, `_share`), `_distance`,
    `_at_least`, each with `_se`, and `_at_most`, for the rows truncation, initialization, discretization, score, interaction, total;
    `budget/<steps>/<row>` and its `_part`, each with `_se`, on every grid.

    n: samples (null: 2000 points, 64 images, whose exact denoiser reads the whole set).    groups: of samples, for the standard errors.
    fine: RK4 steps of a flow down all levels, 4 evaluations each.    steps: other numbers of steps of `schedule` (null: a quarter, half,
    two and four times the run's; []: none). The sampler's other options stay as in the run.
    by: paths, moments, or auto: moments for a sampler with noise on a Gaussian, else paths.
    Returns {} without a run. Raises UsageError where the law has no exact denoiser; DiffgeoError where a cloud is not finite.
    """

    n: int | None = None
    groups: int = 8
    fine: int = 64
    steps: Sequence[int] | None = None
    by: str = "auto"
    schedule: Schedule | None = None

    floors = False
    needs_run = True                    # of evaluate, which has said so before a metric is asked
    prefix = "budget/"                  # of the keys that `text` shows

    def __post_init__(self):
        if self.groups < 2 or self.fine < 8 or (self.n is not None and (self.n < 2 * self.groups or self.n % self.groups)):
            raise UsageError(f"metrics.budget.n={self.n} groups={self.groups} fine={self.fine}: write 2 groups or more, n a multiple of "
                             "groups with 2 samples in each or more, and fine=8 or more")
        if self.by not in ("auto", "paths", "moments"):
            raise UsageError(f"metrics.budget.by={self.by}: write auto, paths or moments")
        if any(not isinstance(k, int) or isinstance(k, bool) or k < 1 for k in self.steps or ()):
            raise UsageError(f"metrics.budget.steps={list(self.steps)}: write whole numbers of steps, 1 or more, or [] for none")
        if self.steps and self.schedule is None:
            raise UsageError("metrics.budget.steps wants metrics.budget.schedule, whose grids they are")

    def prepare(self, data: Data, n: int) -> None:
        if not hasattr(data, "denoiser"):
            raise UsageError(f"metrics=budget: {type(data).__name__} has no exact denoiser to hold a run against; write another metrics=")

    def grids(self, run: Run) -> dict[int, Tensor]:
        """The run's grid first, then the others, by their number of steps."""
        count = len(run.sigmas) - 1
        made = {count: run.sigmas}
        wanted = self.steps if self.steps is not None else [round(f * count) for f in FACTORS] if self.schedule else ()
        for k in wanted:
            with contextlib.suppress(*(() if self.steps else (UsageError,))):           # a schedule may have grids of some steps only
                if k > 0 and k not in made:
                    made[k] = self.schedule.grid(k)
        return made

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.denoise is None or run.sampler is None or run.sigmas is None:
            return {}
        self.prepare(data, 0)
        n, held, values = self.n or (2_000 if len(data.shape) == 1 else 64), {}, {}
        n -= n % self.groups
        for count, sigmas in self.grids(run).items():
            process = Process(run, sigmas, self.fine)
            parts, drew = zip(*(clouds(process, data, numbers, held) for numbers in ranges(range(n), fitting(data.shape))), strict=True)
            made = Clouds(*(torch.cat(rows) for rows in zip(*parts, strict=True)))
            for name, cloud in zip(made._fields, made, strict=True):
                if not bool(cloud.isfinite().all()):
                    raise DiffgeoError(f"the budget's cloud `{name}` of {count} steps is not finite: the sampler diverged on that grid; "
                                       "leave it out of metrics.budget.steps")
            found = sums(made, data, self.groups)
            if self.by == "moments" and found.mean is None:
                raise UsageError(f"metrics.budget.by=moments is for at most {AXES} dimensions, and 8 samples a dimension; write by=paths")
            moments = self.by == "moments" or (self.by == "auto" and drew[0] and hasattr(data, "variance") and found.mean is not None)
            report = jackknife(found, moments)
            if not values:
                if made.run.shape[1] <= AXES and made.run.dim() == 2:
                    report |= matched(made, self.groups)
                same = min(n, len(run.samples))
                report |= {"steps": count, "moments": float(moments)}
                report["rerun"] = float((points(run.samples[:same]) - points(made.run[:same])).flatten(1).square().sum(1).mean().sqrt())
                values = {f"budget/{key}": value for key, value in report.items()}
            values |= {f"budget/{count}/{key}": report[key] for row in ROWS for key in (row, f"{row}_se", f"{row}_part", f"{row}_part_se")}
        return values

    def text(self, values: Mapping[str, float]) -> str:
        """The tables of a budget: the run's own, and the parts against the number of steps."""
        return text(values)


def number(value: float, error: float | None = None) -> str:
    value, error = (0.0 if v is not None and abs(v) < 1e-8 else v for v in (value, error))
    return f"{value:.4g}" if error is None else f"{value:.3g} +- {error:.1g}"


def percent(value: float, error: float) -> str:
    return f"{100 * value:.1f} +- {100 * error:.1g} %"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns without an entry left out, the first to the left, the others to the right."""
    kept = [column for column in zip(*lines, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    return ["  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in zip(*kept, strict=True)]


def by_steps(values: Mapping[str, float]) -> dict[int, dict[str, tuple[float, float]]]:
    """Of each number of steps, increasing, the part of every row and its standard error."""
    counts = sorted({int(key.split("/")[1]) for key in values if key.startswith("budget/") and key.split("/")[1].isdigit()})
    return {k: {row: (values[f"budget/{k}/{row}_part"], values[f"budget/{k}/{row}_part_se"]) for row in ROWS} for k in counts}


def text(values: Mapping[str, float]) -> str:
    get = lambda row, what: values.get(f"budget/{row}{what}")
    lines = []
    for row in ROWS:
        shown = ["" if (v := get(row, what)) is None else number(v, get(row, what + "_se"))
                 for what in ("_part", "_normal_part", "_tangential_part", "", "_distance")]
        bounds = ["" if (v := get(row, what)) is None else number(v) for what in ("_at_least", "_at_most")]
        lines.append([row, percent(get(row, "_share"), get(row, "_share_se")), *shown[:4], *bounds, shown[4]])
    head = ["cause", "share", "part", "of it normal", "tangential", "alone", "W2 >=", "W2 <=", "distance to the support"]
    way = "the means and deviations of the clouds" if values["budget/moments"] else "the displacements of coupled samples, at least W2"
    out = [f"error budget at {values['budget/steps']:.0f} steps, by {way}; data units, +- one standard error", *aligned([head, *lines])]
    if values["budget/rerun"] > 1e-3 * get("total", ""):
        out.append(f"the run's samples are others, by {values['budget/rerun']:.2g} (first=, noise=, label=, seed=?): this is the budget of "
                   "unlabelled samples 0, 1, ... of its seed")
    if len(parts := by_steps(values)) > 1:
        grid = [[str(k), *(number(*parts[k][row]) for row in ROWS)] for k in parts]
        out += ["parts by number of steps", *aligned([["steps", *ROWS], *grid])]
    return "\n".join(out)
