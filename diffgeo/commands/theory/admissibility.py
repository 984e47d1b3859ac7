"""`diffgeo theory admissibility`: is a denoiser an approximate projection along a sampler's
trajectories, and what follows?

    diffgeo theory admissibility data=curve data.ambient=64          the exact denoiser under DDIM
    diffgeo theory admissibility run=FOLDER sampler=heun             a trained network; its law comes from the run

prints eta and nu by level, the violations of the per-step inequality, whether the theorem's
assumption is met and where it is not, the grid's certificate at the measured eta, and the distance
estimators side by side. levels.csv holds every level.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from torch import Tensor

from diffgeo import plot
from diffgeo.commands.compare import markdown
from diffgeo.commands.sample import loaded
from diffgeo.commands.theory.certify import write_csv
from diffgeo.config.kinds import plain
from diffgeo.config.line import key_of
from diffgeo.metrics import table
from diffgeo.run import Experiment, assemble, begin, fitted, provenance, read_config
from diffgeo.store.files import write_json
from diffgeo.theory.admissibility import Measured, Verdict, check, denoiser_errors, measure
from diffgeo.theory.certificate import beta_star, betas
from diffgeo.theory.energy import estimates

SHOWN = 14  # levels in the printed table


def main(cfg) -> None:
    theory_admissibility(
        cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task
    )


def theory_admissibility(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Measure cfg.n trajectories into `folder`."""
    take_model(cfg, overrides)
    experiment = assemble(cfg, loaded)
    plain("legacy_offset", cfg.legacy_offset, bool)
    check(experiment.data, plain("quantile", cfg.quantile))
    beta_star(0.0, plain("nu", cfg.nu), 1)
    if begin(folder, cfg, overrides):
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
    write_csv(folder / "levels.csv", header, rows)
    if cfg.figures:
        figures(folder / "figures", experiment, verdict, guesses, cfg.seed)
    values = summary(verdict, cfg.nu)
    provenance(folder, cfg, "theory admissibility", experiment.device, **measured)
    write_json(folder / "metrics.json", values)
    kept = (
        range(len(rows))
        if len(rows) <= SHOWN
        else torch.linspace(0, len(rows) - 1, SHOWN).round().int().tolist()
    )
    print(markdown(header, [rows[i] for i in kept]))
    print(table(values))
    print(f"\n{verdict}\n{inequality(verdict.measured)}")
    print(f"written: {folder}/metrics.json, levels.csv" + (", figures/" if cfg.figures else ""))


def take_model(cfg, overrides: Sequence[str]) -> None:
    """With run= the model is the run's, where the line chooses none: this command's own default is
    the exact denoiser."""
    if cfg.run is not None and "model" not in map(key_of, overrides):
        with open_dict(cfg):
            cfg.model = read_config(Path(cfg.run)).model


def inequality(measured: Measured) -> str:
    count = int(measured.violations.sum())
    states = measured.eta.numel()
    text = f"per-step inequality with the measured eta: {count} violations in {states} steps of {measured.eta.shape[1]} trajectories"
    return text if measured.ddim else f"{text}; it is DDIM's, and this sampler takes other steps"


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


def figures(
    folder: Path, e: Experiment, verdict: Verdict, guesses: Mapping[str, Tensor], seed: int
) -> None:
    """The three empirical figures of the paper, the theorem's bound, and the estimators."""
    measured = verdict.measured
    sigma = measured.sigma[: len(measured.eta)]
    plot.noise_norm(folder / "noise_norm.png", measured)
    plot.noise_error(
        folder / "noise_error.png",
        sigma,
        denoiser_errors(e.model, e.data, sigma, seed=seed, device=e.device),
    )
    plot.relative_error(folder / "relative_error.png", measured)
    plot.distance_bounds(folder / "distance_bounds.png", verdict)
    plot.distance_estimators(
        folder / "distance_estimators.png", sigma, {k: v[: len(sigma)] for k, v in guesses.items()}
    )
