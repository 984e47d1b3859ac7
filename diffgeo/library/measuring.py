"""The metrics of a cloud, as a plain dict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from diffgeo.config.recipe import Recipe
from diffgeo.core import Data, Metric, Run
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.library.laws import LawLike, law, slots_for
from diffgeo.library.result import Result
from diffgeo.library.surroundings import undisturbed
from diffgeo.metrics import Suite
from diffgeo.simulation import Drawn

CloudLike = Tensor | np.ndarray | Drawn | Result
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

    cloud: samples [m,*D], an array or what `simulation.draw` returned; or a `Result`, whose
        denoiser is then measured too: its stored samples, or else n that are drawn now.
    law_: what it is held against, a law or what stands for one (`law`); of a `Result` its own.
    metrics: a name of conf/metrics, "quick"; one metric or several by name; None: the law's own.
    n: the samples drawn of a `Result` that has none stored.
    seed: of the true samples that a metric draws; of a `Result` its simulation's.

    The numbers of metrics.json of `diffgeo evaluate samples=cloud.npy data=...`. Beside each value
    of a cloud, as far as its metric has them: `_floor`, the same metric on fresh true samples of
    the same size, with the floor's standard error `_floor_se` and the deviation of one cloud about
    it, `_floor_sd`. A metric that needs what a law lacks (a denoiser, a coordinate) has no value.
    Raises UsageError on samples of another shape, DiffgeoError where some are not finite.
    """
    if isinstance(cloud, Result):
        data = cloud.data if law_ is None else law(law_)
        run = run_of(cloud, data, n)
    elif law_ is None:
        raise UsageError("a cloud is held against a law: write evaluate(cloud, law)")
    else:
        data = law(law_)
        run = Run(samples_of(cloud), seed)
    suite = suite_of(metrics, data)
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


def run_of(result: Result, data: Data, n: int) -> Run:
    """A result as a metric looks at it: with its samples, and the simulation that they are of."""
    simulation = result.simulation
    samples = result.samples
    nfe = None
    if samples is None:
        with undisturbed(data):
            samples, nfe = simulation.draw(range(result.first, result.first + n))
    return Run(
        samples,
        seed=simulation.seed,
        numbers=range(result.first, result.first + len(samples)),
        simulation=simulation,
        exact=is_own(result.model, data),
        nfe=nfe,
    )


def suite_of(metrics: MetricsLike | None, data: Data) -> Metric:
    """The metrics as one."""
    if isinstance(metrics, Mapping):
        return Suite(dict(metrics))
    if metrics is None or isinstance(metrics, str):
        return Recipe({"metrics": metrics or slots_for(data)["metrics"]}).make("metrics")
    return metrics if isinstance(metrics, Suite) else Suite({"metric": metrics})
