"""`diffgeo theory singularity`: how the score blows up as t -> 0, at fixed points and at samples

    diffgeo theory singularity data=line        the exact denoiser: rates beside the proved ones
    diffgeo theory singularity data=normal      the control: a density, and a bounded score
    diffgeo theory singularity run=FOLDER       a network beside the exact denoiser of its law

prints the rate of score, drift, epsilon and f in 1 - e^-t, fitted, beside what Theorem 3.5 of Lu,
Wang and Bal says at a fixed x, and what follows for samples of p_t. levels.csv holds every norm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from diffgeo.config.build import assemble
from diffgeo.config.kinds import numbers, plain, whole
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Known, Manifold
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.plot import singularity as picture
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.singularity import (
    CLOUDS,
    QUANTITIES,
    TOLD,
    Expected,
    Norms,
    expected,
    expected_of,
    limit,
    measure,
    times,
)

Measured = Mapping[str, list[Norms]]  # of exact, and of another model where there is one


def main(cfg, job: Job) -> None:
    """Measure cfg.n points at cfg.levels times."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    ends = numbers("t", cfg.t)
    if len(ends) != 2:
        raise UsageError(f"t={ends}: write two times, as t=[1e-7,1]")
    below = plain("fit_below", cfg.fit_below)
    t = times(*ends, whole("levels", cfg.levels, 3, 10_000), below)
    data = experiment.data
    if not isinstance(data, Known) or not isinstance(data, Manifold):
        raise UsageError("this law has no exact denoiser to hold anything against: write another")
    folder = RunFolder.of("theory singularity", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    exact = data.denoiser()
    n = len(experiment.numbers)
    seed = experiment.simulation.seed
    models = {"exact": exact}
    if not is_own(experiment.model, data):
        models[model_name(experiment.model, cfg)] = experiment.model
    measured = {name: measure(model, data, t, n, seed) for name, model in models.items()}
    proved = expected(exact, data, t, n, seed)
    ratio = limit(exact, data, t, n, seed)
    spent = time.process_time() - started

    write_text(job.path / "levels.csv", levels_csv(measured, n))
    if cfg.figures:
        draw(job.path / "figures" / "singularity.png", measured, proved, below)
    values = numbers_of(measured, proved, below)
    values["singularity/limit"] = float(ratio.mean()) if len(ratio) else None
    folder.finish(values, experiment.device, measuring_cpu_s=spent)

    print(
        f"{law_name(data, cfg, job.overrides)}, n = {n}, chart OU (x_t), t from {ends[0]:g} to "
        f"{ends[1]:g}, fitted up to {below:g}; rms norms, rate of (1 - e^-t)"
    )
    print(markdown(*table(measured, proved, below)))
    print(what_to_see(measured, proved, ratio, below))
    drawn = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, levels.csv{drawn}")


def of_cloud(proved: Expected, cloud: str) -> float:
    return proved.fixed if cloud == CLOUDS[0] else proved.sampled


def table(measured: Measured, proved: Expected, below: float) -> tuple[list[str], list[list[str]]]:
    """A row a quantity of each cloud; only the exact denoiser has rates that are proved."""
    header = ["model", "at", "quantity", "at the lowest t", "at the highest", "fitted", "proved"]
    rows = []
    for model, clouds in measured.items():
        for norms in clouds:
            for name, rates in norms.rates(below).items():
                own = expected_of(name, of_cloud(proved, norms.cloud))
                rate = rates.rms
                error = "" if rate.error is None else f" +- {rate.error:.1g}"
                row = [model, norms.cloud, name]
                row += [f"{float(norms.rms[name][k]):.4g}" for k in (0, -1)]
                row += [f"{rate.slope:.4f}{error}", f"{own:g}" if model == "exact" else "-"]
                rows.append(row)
    return header, rows


def what_to_see(measured: Measured, proved: Expected, ratio: torch.Tensor, below: float) -> str:
    """The limits beside the rates."""
    sampled = measured["exact"][1]
    s2 = -torch.expm1(-sampled.t[0])
    counted = float(s2 * sampled.rms["score"][0] ** 2)
    lines = []
    if len(ratio):
        lines.append(
            f"At the fixed points, {proved.off:.3g} off the support on average, (1 - e^-t) |S| is "
            f"{float(ratio.mean()):.6g} of that distance at the lowest t (worst "
            f"{float(ratio[(ratio - 1).abs().argmax()]):.6g})."
        )
    else:
        lines.append("The law has a density wherever the fixed points lie: the control.")
    lines.append(
        f"At samples (1 - e^-t) E|S|^2 is {counted:.4g} at the lowest t; the codimension by the "
        f"trace of the Jacobian is {proved.codimension:.4g}."
    )
    if proved.sampled == -0.5:
        lines.append(
            "The theorem is about a fixed x. Samples of p_t lie only (1 - e^-t)^(1/2) off the "
            "support: there the score grows at half the rate, and epsilon not at all."
        )
    elif proved.sampled == -0.25:
        lines.append(
            "The density ends at an edge: a few samples, about (1 - e^-t)^(1/2) of them, see it, "
            "and their score grows."
        )
    if proved.fixed == 0 and proved.codimension > TOLD:
        lines.append(
            "A part of the law is of lower dimension: the fixed points are not on it, but those "
            "near it still see it at these t, and make the rms."
        )
    rates = [norms.rates(below)["score"].median for norms in measured["exact"]]
    told = ["below rounding" if rate is None else f"rate {rate.slope:.4f}" for rate in rates]
    lines.append(f"The median of |S| instead: {told[0]} at fixed x, {told[1]} at samples.")
    return "\n".join(lines)


def levels_csv(measured: Measured, n: int) -> str:
    """Every norm at full precision."""
    header = [
        "model",
        "cloud",
        "quantity",
        "t",
        "one_minus_exp_minus_t",
        "rms",
        "median",
        "sup",
        "n",
    ]
    rows = []
    for model, clouds in measured.items():
        for norms in clouds:
            for name in QUANTITIES:
                for k, t in enumerate(norms.t):
                    values = [t, -torch.expm1(-t)]
                    values += [norms.rms[name][k], norms.median[name][k], norms.sup[name][k]]
                    rows.append([model, norms.cloud, name, *map(exact, values), str(n)])
    return csv_text(header, rows)


def exact(value: torch.Tensor) -> str:
    return repr(float(value))


def numbers_of(measured: Measured, proved: Expected, below: float) -> dict[str, float | None]:
    values: dict[str, float | None] = {
        "singularity/codimension": proved.codimension,
        "singularity/off_support": proved.off,
    }
    for model, clouds in measured.items():
        for norms in clouds:
            place = norms.cloud.replace(" ", "_")
            for name, (rms, median, sup) in norms.rates(below).items():
                key = f"singularity/{model}/{place}/{name}"
                values[f"{key}/rate"] = rms.slope
                values[f"{key}/rate_se"] = rms.error
                values[f"{key}/rate_of_median"] = None if median is None else median.slope
                values[f"{key}/rate_of_sup"] = sup.slope
                values[f"{key}/lowest"] = float(norms.rms[name][0])
                if model == "exact":
                    values[f"{key}/proved"] = expected_of(name, of_cloud(proved, norms.cloud))
    return values


def draw(path: Path, measured: Measured, proved: Expected, below: float) -> None:
    clouds = {}
    others = [norms for model, norms in measured.items() if model != "exact"]
    for number, norms in enumerate(measured["exact"]):
        curves = {}
        for name, rates in norms.rates(below).items():
            curves[name] = picture.Curve(
                norms.rms[name],
                rates.rms.slope,
                expected_of(name, of_cloud(proved, norms.cloud)),
                others[0][number].rms[name] if others else None,
            )
        clouds[norms.cloud] = curves
    s2 = -torch.expm1(-measured["exact"][0].t)
    titles = [f"at {cloud}" for cloud in clouds]
    picture.norms(path, s2, clouds, below, titles)
