"""The error budget of a run: where its distance from the law comes from.

Six clouds come from the same draws of noise (`budget_clouds`): truth, fine, start, grid, net and
run. Their differences are

    truncation = fine - truth    initialization = start - fine    discretization = grid - fine    score = net - fine    total = run - truth,

so each of three causes is switched on alone, with the run's ending on, and {fine, grid, net, run}
are the four combinations {exact, learned} x {fine, own grid}. Displacements u add over causes:
total u = sum of the causes u_c + interaction, what is left. So do, exactly,

    part_c = <u_c, u>/|u|,        sum_c part_c + part_interaction = |u|,        <a,b> = mean_i a_i . b_i,

each cause's share of |u| (it is negative where a cause mends what others broke), beside the size
|u_c| that the cause has alone. Those sizes add up neither linearly (two causes may cancel) nor
squared (they may agree). What u is, the option `by` says:

    paths    between the points of the same noise: |u_c| >= W2, and much more where samples jump from one branch of the support to another
    w2       from a point of truth (fine) to the point of the other cloud that it is matched with; so |u_c| is W2 of the two clouds
    moments  of the means and deviations (m, s) along orthogonal axes: |u_c| is W2 if both clouds are Gaussian along them, and

    at_least = sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) <= W2 <= |u_c| of w2 <= |u_c| of paths.

W2 is not additive; beside the parts of paths stand W2 of each cause alone, W2 of the run from the
law, and their interaction, the latter less the former. The clouds share their noise, so that an
absent cause measures 0 and not the distance of two samples of one law; but two matchings of nearly
equal clouds may differ, and the parts of w2 are noisier than those of paths. Where nothing is
random but the start, paths on a Gaussian are matched already and all three agree; a sampler with
noise moves its points beyond what the law needs, which matching n of them cannot undo: there, on a
Gaussian, it is moments. Normal and tangential: u_c split by the tangent space at the truth; a jump
to another branch is normal in paths, and no distance from the support.

Standard errors are those of the delete-one jackknife over groups of samples, matched all together.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Run, Schedule
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.budget_clouds import ROWS, Clouds, Process, clouds
from diffgeo.metrics.budget_text import WAYS, text
from diffgeo.metrics.points import points
from diffgeo.metrics.transport import matched
from diffgeo.simulation import fitting, ranges

FACTORS = (0.25, 0.5, 1, 2, 4)  # of the run's steps, where steps=null
AXES = 64  # dimensions up to which moments and matchings are worth their noise


class Sums(NamedTuple):
    """What a budget is computed from: means over each of G groups of samples. None where the law
    has no such thing."""

    gram: Tensor  # <u_r, u_s>, [G,6,6], r and s over ROWS
    tangential: Tensor | None  # the same of their tangential parts
    distance: Tensor | None  # mean distance of the clouds to the support, [G,6]
    mean: Tensor | None  # of the clouds along d axes, [G,6,d]
    square: Tensor | None
    # squared distances of matched points, [G,6]; that of the interaction means nothing
    w2: Tensor | None = None


def coupled(made: Clouds) -> Clouds:
    """The clouds [n,d] renumbered: fine and run as truth's points are matched with theirs, start,
    grid and net as fine's are."""
    to = lambda cloud, place: torch.from_numpy(matched(cloud.numpy(), place.numpy()))
    fine = to(made.fine, made.truth)
    return Clouds(
        made.truth,
        fine,
        *(to(cloud, fine) for cloud in (made.start, made.grid, made.net)),
        to(made.run, made.truth),
    )


def sums(made: Clouds, data: Data, groups: int, match: bool = False) -> Sums:
    split = lambda v: v.unflatten(-1 if v.dim() == 1 else 0, (groups, -1))
    displacements = lambda made: torch.stack(made.between(lambda cloud: cloud.flatten(1)))
    u = displacements(made)  # [6,n,d]
    gram = lambda v: (
        torch.einsum("rgnd,sgnd->grs", *2 * [v.unflatten(1, (groups, -1))]) / (v.shape[1] // groups)
    )
    n, d = u.shape[1:]
    dim = getattr(data, "dim", d)
    tangential = distance = mean = square = None
    if 0 < dim < d and hasattr(data, "tangent"):
        basis = data.tangent(data.project(made.truth))
        tangential = gram(torch.einsum("nik,njk,rnj->rni", basis, basis, u))
    if dim < d and hasattr(data, "distance"):
        distance = torch.stack([split(points(data.distance(cloud))).mean(1) for cloud in made], 1)
    if d <= min(AXES, n // 8):
        axes = (
            data.basis
            if hasattr(data, "basis")
            else torch.linalg.eigh(torch.cov(made.truth.mT).reshape(d, d)).eigenvectors
        )
        along = torch.stack([split(cloud @ axes) for cloud in made])  # [6,G,m,d]
        mean = along.mean(2).transpose(0, 1)
        square = along.square().mean(2).transpose(0, 1)
    return Sums(
        gram(u),
        tangential,
        distance,
        mean,
        square,
        gram(displacements(coupled(made))).diagonal(dim1=1, dim2=2) if match else None,
    )


def budget(held: Sums, moments: bool) -> dict[str, float]:
    """Every number of a budget from sums of which each is one mean (G = 1). moments: (m, s) stands
    for u."""
    gram = held.gram[0]
    tangential = None if held.tangential is None else held.tangential[0]
    least = None
    values = {}
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
    if held.w2 is not None:
        *alone, _, total = held.w2[0].sqrt()
        values |= {
            f"{name}_w2": v
            for name, v in zip(ROWS, (*alone, total - sum(alone), total), strict=True)
        }
    for r, name in enumerate(ROWS):
        values[name] = gram[r, r].sqrt()
        values[f"{name}_part"] = gram[r, -1] / whole
        values[f"{name}_share"] = gram[r, -1] / whole**2
        if tangential is not None:
            values[f"{name}_tangential_share"] = tangential[r, -1] / whole**2
            values[f"{name}_normal_share"] = (gram - tangential)[r, -1] / whole**2
        if least is not None:
            values[f"{name}_at_least"] = least[r, r].sqrt()
        if far is not None:
            values[f"{name}_distance"] = far[r]
    return {key: float(value) for key, value in values.items()}


def jackknife(held: Sums, moments: bool) -> dict[str, float]:
    """`budget` of all groups, and of each number its standard error, `_se`, by leaving out a group
    at a time."""
    groups = len(held.gram)
    some = lambda keep: budget(
        Sums(*(None if v is None else v[keep].mean(0, keepdim=True) for v in held)), moments
    )
    values = some(slice(None))
    every = torch.arange(groups)
    without = [some(every[every != g]) for g in range(groups)]
    spread = {
        key: torch.tensor([w[key] for w in without], dtype=torch.float64).var(correction=0)
        for key in values
    }
    return values | {f"{key}_se": math.sqrt((groups - 1) * float(v)) for key, v in spread.items()}


@dataclass(frozen=True)
class Budget:
    """`budget/<row>` (|u_c|, alone), `_part`, `_share` (of the total), `_normal_share`,
    `_tangential_share`, `_distance`, `_w2`, `_at_least`, each with `_se`, for the rows truncation,
    initialization, discretization, score, interaction, total; `budget/<steps>/<row>_part` and its
    `_se` on every grid.

    n: samples (null: 1000 points, 64 images, whose exact denoiser reads the whole set).    groups: of samples, for the standard errors.
    fine: RK4 steps of a flow down all levels, 4 evaluations each.    steps: other numbers of steps of `schedule` (null: a quarter, half,
    two and four times the run's; []: none). The sampler's other options stay as in the run; an
    adaptive one has its own steps.
    by: paths, w2, moments, or auto: moments for a sampler with noise on a Gaussian, else paths,
    with W2 in up to 64 dimensions. Returns {} without a run. Raises UsageError where the law has no
    exact denoiser; DiffgeoError where a cloud is not finite.
    """

    n: int | None = None
    groups: int = 8
    fine: int = 64
    steps: Sequence[int] | None = None
    by: str = "auto"
    schedule: Schedule | None = None

    floors = False
    needs_run = True  # of evaluate, which has said so before a metric is asked
    prefix = "budget/"  # of the keys that `text` shows

    def __post_init__(self):
        if (
            self.groups < 2
            or self.fine < 8
            or (self.n is not None and (self.n < 2 * self.groups or self.n % self.groups))
        ):
            raise UsageError(
                f"metrics.budget.n={self.n} groups={self.groups} fine={self.fine}: write 2 groups "
                "or more, n a multiple of "
                "groups with 2 samples in each or more, and fine=8 or more"
            )
        if self.by not in ("auto", *WAYS):
            raise UsageError(f"metrics.budget.by={self.by}: write auto, {', '.join(WAYS)}")
        if isinstance(self.steps, int):
            raise UsageError(f"metrics.budget.steps={self.steps}: write a list, [{self.steps}]")
        if any(not isinstance(k, int) or isinstance(k, bool) or k < 1 for k in self.steps or ()):
            raise UsageError(
                f"metrics.budget.steps={list(self.steps)}: write whole numbers of steps, 1 or "
                "more, or [] for none"
            )
        if self.steps and self.schedule is None:
            raise UsageError(
                "metrics.budget.steps wants metrics.budget.schedule, whose grids they are"
            )

    def prepare(self, data: Data, n: int) -> None:
        if not hasattr(data, "denoiser"):
            raise UsageError(
                f"metrics=budget: {type(data).__name__} has no exact denoiser to hold a run "
                "against; write another metrics="
            )
        self.way(data, self.n or 1_000, False)

    def grids(self, run: Run) -> dict[int, Tensor]:
        """The run's grid first, then the others, by their number of steps, which a schedule of
        stages rounds."""
        sigmas = run.simulation.sigmas
        count = len(sigmas) - 1
        made = {count: sigmas}
        wanted = (
            self.steps
            if self.steps is not None
            else [round(f * count) for f in FACTORS]
            if self.schedule
            else ()
        )
        if run.simulation.sampler.adaptive:
            if self.steps:
                raise UsageError(
                    f"metrics.budget.steps={list(self.steps)}: an adaptive sampler chooses its own "
                    "steps; write []"
                )
            wanted = ()
        for k in wanted:
            # a schedule may have grids of some steps only
            with contextlib.suppress(*(() if self.steps else (UsageError,))):
                if k > 0 and k not in made:
                    grid = self.schedule.grid(k)
                    made.setdefault(len(grid) - 1, grid)
        return made

    def way(self, data: Data, n: int, drew: bool) -> str:
        """What u is. Raises UsageError on moments of too few samples, and on w2 of images."""
        small = len(data.shape) == 1
        d = math.prod(data.shape)
        moments = small and d <= min(AXES, n // 8)
        if self.by == "moments" and not moments or self.by == "w2" and not small:
            raise UsageError(
                f"metrics.budget.by={self.by}: "
                + (
                    "points are matched, images are not; write by=paths"
                    if self.by == "w2"
                    else f"for points of at most {AXES} dimensions, and 8 samples a dimension; write "
                    "by=paths"
                )
            )
        return (
            self.by
            if self.by != "auto"
            else "moments"
            if moments and drew and hasattr(data, "variance")
            else "paths"
        )

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None:
            return {}
        self.prepare(data, 0)
        n = self.n or (1_000 if len(data.shape) == 1 else 64)
        held = {}
        values = {}
        n -= n % self.groups
        numbers = range(run.numbers.start, run.numbers.start + n)
        for count, sigmas in self.grids(run).items():
            process = Process(replace(run.simulation, sigmas=sigmas), run.exact, self.fine)
            parts, drew = zip(
                *(
                    clouds(process, data, piece, held)
                    for piece in ranges(numbers, fitting(data.shape))
                ),
                strict=True,
            )
            made = Clouds(*(points(torch.cat(rows)) for rows in zip(*parts, strict=True)))
            for name, cloud in zip(made._fields, made, strict=True):
                if not bool(cloud.isfinite().all()):
                    raise DiffgeoError(
                        f"the budget's cloud `{name}` of {count} steps is not finite: the sampler "
                        "diverged on that grid; "
                        "leave it out of metrics.budget.steps"
                    )
            way = self.way(data, n, drew[0])
            match = (
                way == "paths" and not values and made.run.dim() == 2 and made.run.shape[1] <= AXES
            )
            report = jackknife(
                sums(coupled(made) if way == "w2" else made, data, self.groups, match),
                way == "moments",
            )
            if not values:
                values = {f"budget/{key}": value for key, value in report.items()}
                values |= {
                    "budget/n": n,
                    f"budget/by_{way}": 1,
                    "budget/rerun": rerun(made.run, run.samples, data),
                }
            if not run.simulation.sampler.adaptive:
                values.setdefault("budget/steps", count)
                values |= {
                    f"budget/{count}/{key}": report[key]
                    for row in ROWS
                    for key in (f"{row}_part", f"{row}_part_se")
                }
        return values

    def text(self, values: Mapping[str, float]) -> str:
        """The tables of a budget: the run's own, and the parts against the number of steps."""
        return text(values)


def rerun(made: Tensor, samples: Tensor, data: Data) -> float:
    """How far the run's samples are from the budget's, which its simulation draws again, as a mean
    square root."""
    same = min(len(made), len(samples))
    made = made[:same]
    samples = samples[:same]
    if hasattr(data, "quantize"):  # samples of images are bytes
        made, samples = (data.dequantize(data.quantize(images)) for images in (made, samples))
    return float((points(samples) - points(made)).flatten(1).square().sum(1).mean().sqrt())
