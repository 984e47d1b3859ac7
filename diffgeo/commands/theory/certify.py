"""`diffgeo theory certify`: the certificate of a schedule: is it admissible at an error eta?

    diffgeo theory certify sampler.schedule=ddim sampler.steps=10 eta=0.05
    diffgeo theory certify sampler.schedule=karras sampler.steps=18 eta=.02,.05
    diffgeo theory certify sampler.schedule=ge_loglinear sampler.steps=10 nu=1.5

prints the levels with their step sizes beta, the certificate nu_min of the positive levels and of
all but the last step, and the largest constant beta that would do; levels.csv holds the levels,
with the timesteps where the schedule is discrete.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffgeo.config.build import grid_of
from diffgeo.config.kinds import numbers, plain
from diffgeo.run import Job, RunFolder
from diffgeo.schedule.discrete import Discrete
from diffgeo.schedule.rounding import TIE
from diffgeo.schedule.stages import Stages
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.certificate import betas, certify


def main(cfg, job: Job) -> None:
    """Certify the grid of cfg.sampler.schedule at every eta of cfg.eta."""
    chart, grid = grid_of(cfg.sampler)
    sigmas = grid[grid > 0].tolist()
    etas = numbers("eta", cfg.eta)
    nu = plain("nu", cfg.nu)
    values = {
        "certificate/beta_max": max(betas(sigmas)),
        "certificate/beta_last": betas(sigmas)[-1],
        "certificate/sigma_first": sigmas[0],
        "certificate/sigma_last": sigmas[-1],
    }
    header = [
        "eta",
        "nu_min",
        "without the last step",
        f"beta* (nu = {nu:g})",
        "reaches sigma_0/sigma_N",
        "log-linear steps needed",
    ]
    rows = []
    for eta in etas:
        row = certify(sigmas, eta, nu)
        values |= {f"certificate/{name}@{eta:g}": value for name, value in row.items()}
        rows.append([f"{eta:g}", *(f"{value:.4g}" for value in row.values())])
    folder = RunFolder.of("theory certify", cfg, job)
    if folder.begin():
        return
    table = levels(chart, sigmas)
    write_text(job.path / "levels.csv", csv_text(*table))
    print(markdown(*table))
    print(markdown(header, rows))
    print(
        "nu_min: the band sqrt(n) sigma/nu .. nu sqrt(n) sigma that no denoiser of relative error "
        "eta can leave; inf: beta >= 1/(1 + eta)"
        " somewhere.\nA worst case for the distance, not a rank of sample quality."
    )
    folder.finish(values)
    print(f"written: {job.path}/metrics.json, levels.csv")


def levels(chart, sigmas: Sequence[float]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: step, level, the beta of the step that leaves it, and its time where the
    schedule is discrete: a timestep that was trained as a whole number, one between two of them as
    a fraction."""
    header = ["step", "sigma", "beta"]
    rows = zip(
        range(len(sigmas)),
        map("{:.6g}".format, sigmas),
        [*map("{:.4g}".format, betas(sigmas)), ""],
        strict=True,
    )
    rows = [list(map(str, row)) for row in rows]
    if not isinstance(chart, Discrete | Stages):
        return header, rows
    # of the grid itself: the published list may repeat a timestep
    times = chart.t(torch.tensor(sigmas, dtype=torch.float64)).tolist()
    return [*header, "timestep"], [[*row, timestep(t)] for row, t in zip(rows, times, strict=True)]


def timestep(t: float) -> str:
    return f"{t:.0f}" if abs(t - round(t)) < TIE else f"{t:.6g}"
