"""`diffgeo theory admissibility`: how good a projection a denoiser is along trajectories

    diffgeo theory admissibility data=curve data.ambient=64     the exact denoiser under DDIM
    diffgeo theory admissibility run=FOLDER sampler=heun        a network; its law is the run's

prints, along a sampler's trajectories, eta and nu by level, the violations of the per-step inequality, whether the theorem's
assumption is met and where it is not, the grid's certificate at the measured eta, and the distance
estimators side by side. levels.csv holds every level.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffgeo import plot
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import plain
from diffgeo.metrics import table
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.admissibility import (
    Measured,
    check,
    denoiser_errors,
    inequality,
    measure,
)
from diffgeo.theory.certificate import beta_star, betas
from diffgeo.theory.energy import estimates
from diffgeo.theory.verdict import Verdict

SHOWN = 14  # levels in the printed table


def main(cfg, job: Job) -> None:
    """Measure cfg.n trajectories."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    plain("legacy_offset", cfg.legacy_offset, bool)
    check(experiment.data, plain("quantile", cfg.quantile))
    beta_star(0.0, plain("nu", cfg.nu), 1)
    folder = RunFolder.of("theory admissibility", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    experiment = fitted(experiment)
    simulation = experiment.simulation
    data = experiment.data
    numbers = experiment.numbers
    verdict = Verdict(measure(simulation, data, numbers, cfg.legacy_offset), cfg.quantile)
    guesses = estimates(simulation, data, numbers[:128])
    measured = {"measuring_cpu_s": time.process_time() - started}
    header, rows = by_level(verdict.measured, guesses)
    write_text(job.path / "levels.csv", csv_text(header, rows))
    if cfg.figures:
        figures(job.path / "figures", experiment, verdict, guesses)
    values = summary(verdict, cfg.nu)
    folder.provenance(experiment.device, **measured)
    write_json(job.path / "metrics.json", values)
    kept = (
        range(len(rows))
        if len(rows) <= SHOWN
        else torch.linspace(0, len(rows) - 1, SHOWN).round().int().tolist()
    )
    print(markdown(header, [rows[i] for i in kept]))
    print(table(values))
    print(f"\n{verdict}\n{inequality(verdict.measured)}")
    print(f"written: {job.path}/metrics.json, levels.csv" + (", figures/" if cfg.figures else ""))


def summary(verdict: Verdict, nu: float) -> dict[str, float]:
    """The numbers of metrics.json. A median peak is the largest, over the levels, of the median
    over the trajectories."""
    m = verdict.measured
    eta = m.eta.median(1).values
    width = m.nu.median(1).values
    values = {
        "met": float(verdict.met),
        "eta": verdict.eta,
        "eta_median_peak": eta.max(),
        "eta_median_peak_sigma": m.sigma[eta.argmax()],
        "eta_above_1": (m.eta >= 1).double().mean(),
        "nu": verdict.nu,
        "nu_start": verdict.nu_by_level[0],
        "nu_median_peak": width.max(),
        "nu_median_peak_sigma": m.sigma[width.argmax()],
        "violations": m.violations.sum(),
        "nu_min": verdict.nu_min,
        "nu_min_by_level": verdict.nu_min_by_level,
        "beta_max": max(betas(verdict.sigmas)),
        "beta_star": beta_star(verdict.eta, nu, len(verdict.sigmas) - 1),
    }
    return {f"admissibility/{key}": float(value) for key, value in values.items()}


def by_level(
    measured: Measured, guesses: Mapping[str, Tensor]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: quantiles of eta, nu and the distance, violations, and the median of each
    estimator over the distance."""
    q = torch.tensor([0.5, 0.99, 1.0], dtype=torch.float64)
    names = [name for name in guesses if name != "exact"]
    header = [
        "sigma",
        *(f"{name} {part}" for name in ("eta", "nu") for part in ("median", "q99", "max")),
        "violations",
        "distance median",
        *(f"{n} / it" for n in names),
    ]
    rows = []
    for i in range(len(measured.eta)):
        numbers = [
            float(measured.sigma[i]),
            *measured.eta[i].quantile(q).tolist(),
            *measured.nu[i].quantile(q).tolist(),
            int(measured.violations[i]),
            float(measured.distance[i].median()),
            *(float((guesses[name][i] / guesses["exact"][i]).median()) for name in names),
        ]
        rows.append([f"{v:.4g}" for v in numbers])
    return header, rows


def figures(folder: Path, e: Experiment, verdict: Verdict, guesses: Mapping[str, Tensor]) -> None:
    """The three empirical figures of the paper, the theorem's bound, and the estimators."""
    measured = verdict.measured
    sigma = measured.sigma[: len(measured.eta)]
    plot.noise_norm(folder / "noise_norm.png", measured)
    plot.noise_error(
        folder / "noise_error.png",
        sigma,
        denoiser_errors(e.model, e.data, sigma, seed=e.simulation.seed, device=e.device),
    )
    plot.relative_error(folder / "relative_error.png", measured)
    plot.distance_bounds(folder / "distance_bounds.png", verdict)
    plot.distance_estimators(
        folder / "distance_estimators.png", sigma, {k: v[: len(sigma)] for k, v in guesses.items()}
    )
