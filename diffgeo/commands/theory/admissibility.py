"""`diffgeo theory admissibility`: how good a projection a denoiser is along trajectories

    diffgeo theory admissibility data=curve data.ambient=64     the exact denoiser under DDIM
    diffgeo theory admissibility run=FOLDER sampler=heun        a network; its law is the run's
    diffgeo theory admissibility data=circle quantile=.99       for all but 1 % of the trajectories

prints, along a sampler's trajectories, eta and nu by level, the violations of the per-step
inequality, whether the theorem's assumption is met and where it is not, the grid's certificate at
the measured eta, and the distance estimators side by side. levels.csv holds every level.
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
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.admissibility import check, denoiser_errors, inequality, measure
from diffgeo.theory.certificate import beta_star
from diffgeo.theory.energy import estimates
from diffgeo.theory.verdict import Verdict, by_level

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
    columns = by_level(verdict.measured, guesses)
    header = list(columns)
    rows = []
    for numbers in zip(*columns.values(), strict=True):
        rows.append([f"{value:.4g}" for value in numbers])
    write_text(job.path / "levels.csv", csv_text(header, rows))
    if cfg.figures:
        figures(job.path / "figures", experiment, verdict, guesses)
    values = verdict.metrics(cfg.nu)
    folder.finish(values, experiment.device, **measured)
    few = min(SHOWN, len(rows))
    kept = torch.linspace(0, len(rows) - 1, few).round().int().tolist()
    print(markdown(header, [rows[i] for i in kept]))
    print(table(values))
    print(f"\n{verdict}\n{inequality(verdict.measured)}")
    print(f"written: {job.path}/metrics.json, levels.csv" + (", figures/" if cfg.figures else ""))


def figures(folder: Path, e: Experiment, verdict: Verdict, guesses: Mapping[str, Tensor]) -> None:
    """The three empirical figures of the paper, the theorem's bound, and the estimators."""
    measured = verdict.measured
    sigma = measured.sigma[: len(measured.eta)]
    errors = denoiser_errors(e.model, e.data, sigma, seed=e.simulation.seed, device=e.device)
    plot.noise_norm(folder / "noise_norm.png", sigma, measured.norm)
    plot.noise_error(folder / "noise_error.png", sigma, errors)
    plot.relative_error(folder / "relative_error.png", sigma, measured.eta, measured.nu)
    plot.distance_bounds(
        folder / "distance_bounds.png",
        sigma=verdict.sigmas,
        distance=measured.distance,
        bounds=verdict.bounds(),
        fails=verdict.fails,
    )
    shown = {name: guess[: len(sigma)] for name, guess in guesses.items()}
    plot.distance_estimators(folder / "distance_estimators.png", sigma, shown)
