"""The metrics of a cloud, as a plain dict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from diffgeo.config.recipe import Recipe
from diffgeo.core import Data, Metric, Run, Schedule
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.library.drawing import stepping_of
from diffgeo.library.laws import LawLike, law, slots_for
from diffgeo.library.result import Result
from diffgeo.library.surroundings import undisturbed
from diffgeo.metrics import Suite
from diffgeo.simulation import Drawn, Simulation

CloudLike = Tensor | np.ndarray | Drawn | Simulation | Result
MetricsLike = str | Metric | Mapping[str, Metric]


def evaluate(
    cloud: CloudLike,
    law_: LawLike | None = None,
    metrics: MetricsLike | None = None,
    *,
    n: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """What a cloud of samples has wrong, {"transport/w2": .051, "transport/w2_floor": ..., ...}.

    cloud: samples [m,*D], an array or what `simulation.draw` returned; or a simulation, of which n
        samples are drawn now and whose denoiser is measured too; or a `Result`, its simulation
        with the samples that it has stored.
    law_: what it is held against, a law or what stands for one (`law`); of a `Result` its own.
    metrics: a name of conf/metrics, "quick"; one metric or several by name; None: the law's own.
        Of "budget": it looks at other numbers of steps where the simulation goes down the levels
        that are usual for its law; elsewhere say which, `metrics.Budget(schedule=...)`.
    n: the samples drawn of a simulation.
    seed: of the true samples that a metric draws; of a simulation its own.

    The numbers of metrics.json of `diffgeo evaluate samples=cloud.npy data=...`. Beside each value
    of a cloud, as far as its metric has them: `_floor`, the same metric on fresh true samples of
    the same size, with the floor's standard error `_floor_se` and the deviation of one cloud about
    it, `_floor_sd`. A metric that needs what a law lacks (a denoiser, a coordinate) has no value.
    Raises UsageError on samples of another shape, DiffgeoError where some are not finite.
    """
    if law_ is not None:
        data = law(law_)
    elif isinstance(cloud, Result):
        data = cloud.data
    else:
        raise UsageError("samples are held against a law: write evaluate(cloud, law)")
    if isinstance(cloud, Result):
        run = run_of(cloud.simulation, data, n, cloud.samples, cloud.first)
    elif isinstance(cloud, Simulation):
        run = run_of(cloud, data, n)
    else:
        run = Run(samples_of(cloud), seed)
    suite = suite_of(metrics, data, run)
    with undisturbed(data):
        suite.prepare(data, len(run.samples))
        values = suite(run, data)
    if run.nfe is not None:
        values["sampling/nfe"] = run.nfe
    return values


def samples_of(cloud: Tensor | np.ndarray | Drawn) -> Tensor:
    """The samples of a cloud, a tensor."""
    if isinstance(cloud, Drawn):
        return cloud.samples
    return torch.as_tensor(cloud).detach()


def run_of(
    simulation: Simulation, data: Data, n: int, samples: Tensor | None = None, first: int = 0
) -> Run:
    """A simulation as a metric looks at it: with its samples, drawn now where there are none."""
    nfe = None
    if samples is None:
        with undisturbed(data):
            samples, nfe = simulation.draw(range(first, first + n))
    return Run(
        samples,
        seed=simulation.seed,
        numbers=range(first, first + len(samples)),
        simulation=simulation,
        exact=is_own(simulation.denoise, data),
        nfe=nfe,
    )


def suite_of(metrics: MetricsLike | None, data: Data, run: Run) -> Metric:
    """The metrics as one."""
    if isinstance(metrics, Mapping):
        return Suite(dict(metrics))
    if metrics is None or isinstance(metrics, str):
        slots = slots_for(data)
        levels = schedule_of(data, run)
        chosen = {"metrics": metrics or slots["metrics"], "sampler": slots["sampler"]}
        return Recipe({**chosen, "sampler.schedule": levels}).make("metrics")
    return metrics if isinstance(metrics, Suite) else Suite({"metric": metrics})


def schedule_of(data: Data, run: Run) -> Schedule | None:
    """The schedule that is usual for a law, where the run goes down its levels; else None: a
    simulation keeps its levels and not what has laid them."""
    if run.simulation is None:
        return None
    sigmas = run.simulation.sigmas
    usual = stepping_of(data, {}).chart
    return usual if torch.equal(usual.grid(len(sigmas) - 1), sigmas) else None
