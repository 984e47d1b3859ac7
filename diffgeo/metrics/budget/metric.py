"""The metric: which samples and grids an error budget is made of, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgeo.core import Data, ImageSet, Known, Run, Schedule
from diffgeo.data.gaussian import Gaussian
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.budget.clouds import ROWS, Clouds, Kept, clouds
from diffgeo.metrics.budget.parts import jackknife
from diffgeo.metrics.budget.process import Process
from diffgeo.metrics.budget.sums import AXES, coupled, sums
from diffgeo.metrics.budget.text import WAYS, text
from diffgeo.metrics.points import points
from diffgeo.schedule.below import grid_below
from diffgeo.simulation import Simulation, fitting, ranges

FACTORS = (0.25, 0.5, 1, 2, 4)  # of the run's steps, where steps=null
POINTS = 1_000  # samples, where n=null
IMAGES = 64  # the same of images, whose exact denoiser reads the whole set


@dataclass(frozen=True)
class Budget(Measure):
    """For the rows truncation, initialization, discretization, score, interaction and total, each
    with its `_se`,

        budget/ROW                    |u_c|, alone
        budget/ROW_part, _share       of the total
        budget/ROW_normal_share, _tangential_share, _distance, _w2, _at_least
        budget/STEPS/ROW_part         on every grid

    n: samples (null: 1000 points, 64 images, whose exact denoiser reads the whole set).
    groups: of samples, for the standard errors.
    fine: RK4 steps of a flow down all levels, 4 evaluations each.
    steps: other numbers of steps of `schedule` (null: a quarter, half, two and four times the
        run's; []: none). The sampler's other options stay as in the run; an adaptive one has its
        own steps.
    by: paths, w2, moments, or auto: moments for a sampler with noise on a Gaussian, else paths,
        with W2 in up to 64 dimensions.

    Returns {} without a run. Raises UsageError where the law has no exact denoiser; DiffgeoError
    where a cloud is not finite.
    """

    n: int | None = None
    groups: int = 8
    fine: int = 64
    steps: Sequence[int] | None = None
    by: str = "auto"
    schedule: Schedule | None = None

    floors = False
    needs_run = True
    prefix = "budget/"

    def __post_init__(self):
        few = self.groups < 2 or (self.n is not None and self.n < 2 * self.groups)
        if few or self.fine < 8 or (self.n is not None and self.n % self.groups):
            raise UsageError(
                f"metrics.budget.n={self.n} groups={self.groups} fine={self.fine}: write 2 groups "
                "or more, n a multiple of groups with 2 samples in each or more, and fine=8 or more"
            )
        if self.by not in ("auto", *WAYS):
            raise UsageError(f"metrics.budget.by={self.by}: write auto, {', '.join(WAYS)}")
        if isinstance(self.steps, int):
            raise UsageError(f"metrics.budget.steps={self.steps}: write a list, [{self.steps}]")
        for k in self.steps or ():
            if not isinstance(k, int) or isinstance(k, bool) or k < 1:
                raise UsageError(
                    f"metrics.budget.steps={list(self.steps)}: write whole numbers of steps, 1 or "
                    "more, or [] for none"
                )
        if self.steps and self.schedule is None:
            raise UsageError(
                "metrics.budget.steps wants metrics.budget.schedule, whose grids they are"
            )

    def prepare(self, data: Data, n: int) -> None:
        if not isinstance(data, Known):
            raise UsageError(
                f"metrics=budget: {type(data).__name__} has no exact denoiser to hold a run "
                "against; write another metrics="
            )
        self.way(data, self.n or POINTS, False)

    def way(self, data: Data, n: int, drew: bool) -> str:
        """What u is. drew: whether the sampler draws noise. Raises UsageError on moments of too few
        samples, and on w2 of images."""
        of_points = len(data.shape) == 1
        has_moments = of_points and math.prod(data.shape) <= min(AXES, n // 8)
        if self.by == "w2" and not of_points:
            raise UsageError(
                "metrics.budget.by=w2: points are matched, images are not; write by=paths"
            )
        if self.by == "moments" and not has_moments:
            raise UsageError(
                f"metrics.budget.by=moments: for points of at most {AXES} dimensions, and 8 "
                "samples a dimension; write by=paths"
            )
        if self.by != "auto":
            return self.by
        return "moments" if has_moments and drew and isinstance(data, Gaussian) else "paths"

    def wanted(self, simulation: Simulation) -> Sequence[int]:
        """Numbers of steps beside the run's own. Raises UsageError where the sampler chooses its
        own."""
        if simulation.sampler.adaptive:
            if self.steps:
                raise UsageError(
                    f"metrics.budget.steps={list(self.steps)}: an adaptive sampler chooses its own "
                    "steps; write []"
                )
            return ()
        if self.steps is not None:
            return self.steps
        if self.schedule is None:
            return ()
        own = len(simulation.sigmas) - 1
        return [round(factor * own) for factor in FACTORS]

    def late(self, simulation: Simulation) -> bool:
        """Whether the run begins below the level that its schedule begins at."""
        if self.schedule is None or simulation.initial is None:
            return False
        try:
            whole = self.schedule.grid(len(simulation.sigmas) - 1)
        except UsageError:
            return False
        return simulation.highest < float(whole[0])

    def grids(self, simulation: Simulation) -> dict[int, Tensor]:
        """The run's grid first, then the others, by their number of steps, which a schedule of
        stages rounds."""
        made = {len(simulation.sigmas) - 1: simulation.sigmas}
        late = self.late(simulation)
        for k in self.wanted(simulation):
            if k == 0 or k in made:
                continue
            try:
                grid = self.schedule.grid(k)
                if late:  # a late start is one with any number of steps
                    grid = grid_below(self.schedule, k, simulation.highest)
            except UsageError:
                if self.steps:  # asked for by the user
                    raise
                continue  # a schedule may have grids of some steps only
            made.setdefault(len(grid) - 1, grid)
        return made

    def numbers(self, run: Run, data: Data) -> range:
        """Of the samples that are looked at: the run's first."""
        n = self.n or (POINTS if len(data.shape) == 1 else IMAGES)
        n -= n % self.groups
        return range(run.numbers.start, run.numbers.start + n)

    def make(
        self, process: Process, data: Known, numbers: range, kept: Kept
    ) -> tuple[Clouds, bool]:
        """The six clouds, float64 on the host, and whether the sampler draws noise. Raises
        DiffgeoError where one is not finite."""
        parts = []
        for piece in ranges(numbers, fitting(data.shape)):
            part, drew = clouds(process, data, piece, kept)
            parts.append(part)
        made = Clouds(*(points(torch.cat(pieces)) for pieces in zip(*parts, strict=True)))
        for name, cloud in made._asdict().items():
            if not bool(cloud.isfinite().all()):
                raise DiffgeoError(
                    f"the budget's cloud `{name}` of {len(process.simulation.sigmas) - 1} steps is "
                    "not finite: the sampler diverged on that grid; leave it out of "
                    "metrics.budget.steps"
                )
        return made, drew

    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None:
            return {}
        simulation = run.simulation
        self.prepare(data, 0)
        numbers = self.numbers(run, data)
        adaptive = simulation.sampler.adaptive
        kept = Kept()
        values: dict[str, float] = {}
        for count, sigmas in self.grids(simulation).items():
            process = Process(replace(simulation, sigmas=sigmas), run.exact, self.fine)
            made, drew = self.make(process, data, numbers, kept)
            way = self.way(data, len(numbers), drew)
            own = not values  # the run's grid comes first
            small = made.run.dim() == 2 and made.run.shape[1] <= AXES
            looked_at = coupled(made) if way == "w2" else made
            held = sums(looked_at, data, self.groups, match=own and small and way == "paths")
            report = jackknife(held, moments=way == "moments")
            if own:
                values = {f"budget/{key}": value for key, value in report.items()}
                values["budget/n"] = len(numbers)
                values[f"budget/by_{way}"] = 1
                values["budget/rerun"] = rerun(made.run, run.samples, data)
                if not adaptive:
                    values["budget/steps"] = count
            if not adaptive:
                for row in ROWS:
                    for key in (f"{row}_part", f"{row}_part_se"):
                        values[f"budget/{count}/{key}"] = report[key]
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
    if isinstance(data, ImageSet):  # whose samples are bytes
        made = data.dequantize(data.quantize(made))
        samples = data.dequantize(data.quantize(samples))
    return float((points(samples) - points(made)).flatten(1).square().sum(1).mean().sqrt())
