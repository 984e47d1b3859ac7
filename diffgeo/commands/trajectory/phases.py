"""`diffgeo trajectory phases`: when a diffusion decides on a class, and when on a point

    diffgeo trajectory phases data=mnist
    diffgeo trajectory phases data=cifar10 data.flip=false levels=[2,3,4,5,6,8,12,16]
    diffgeo trajectory phases run=FOLDER uturn=true         beside it: the network's own U-turns

noises points of the law and prints by level, of its exact posterior, the entropy, the sum of
squared weights, the exact class-return probability phi and the trace of dD/dx, each mean with its
standard error; then where the sum of squares is 1/2 and where phi is midway, beside what the
covariance's spectrum predicts. phases.csv holds every level.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from diffgeo.config import kinds
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import plain
from diffgeo.config.titles import law_name, model_name
from diffgeo.geometry.phases import Crossing, Phases, has_classes, phases
from diffgeo.geometry.uturn import check, uturn
from diffgeo.plot.geometry import phases as plot
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown

NAMES = {
    "entropy": "entropy H",
    "collision": "sum u^2",
    "phi": "phi, class return",
    "trace": "tr dD/dx",
    "uturn": "U-turn of the model",
}


def main(cfg, job: Job) -> None:
    """Measure the phases of cfg's law at cfg.n points of it. Raises UsageError, as `phases` and
    `uturn` do."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    levels = None if cfg.levels is None else kinds.numbers("levels", cfg.levels)
    turns = plain("uturn", cfg.uturn, bool)
    if turns:
        check(experiment.simulation, experiment.data)
    started = time.process_time()
    found = phases(experiment.data, cfg.n, levels, cfg.seed, cfg.batch)
    folder = RunFolder.of("trajectory phases", cfg, job)
    if folder.begin():
        return
    if turns:
        experiment = fitted(experiment)
        returned = uturn(
            experiment.simulation, experiment.data, cfg.n, found.sigma, cfg.seed, cfg.batch
        )
        found.values["uturn"] = returned
    spent = time.process_time() - started
    write_text(job.path / "phases.csv", every_level(found))
    write_json(job.path / "phases.json", record(found))
    if cfg.figures:
        figure(job.path / "figures" / "phases.png", found)
    folder.finish(numbers(found), experiment.device, measuring_cpu_s=spent)
    law = law_name(experiment.data, cfg, job.overrides)
    print(f"exact denoiser of {law}, n = {cfg.n} noised points, every chart, +- standard error\n")
    print(table(found))
    print(transitions(found))
    for line in notes(experiment, model_name(experiment.model, cfg), turns):
        print(line)
    shown = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, phases.csv, phases.json{shown}")


def table(found: Phases) -> str:
    """A row a level."""
    header = ["sigma"] + [NAMES[name] for name in found.values]
    columns = [found.mean(name) for name in found.values]
    rows = []
    for k, sigma in enumerate(found.sigma.tolist()):
        row = [f"{sigma:.4g}"]
        for column in columns:
            se = "" if column[k].se is None else f" +- {column[k].se:.2g}"
            row.append(f"{column[k].mean:.4g}{se}")
        rows.append(row)
    return markdown(header, rows)


def crossing_text(crossing: Crossing | None) -> str:
    if crossing is None:
        return "between no two of these levels"
    se = "" if crossing.se is None else f" +- {crossing.se:.2g}"
    return f"sigma = {crossing.sigma:.4g}{se}"


def transitions(found: Phases) -> str:
    """Predicted beside measured."""
    top = float(found.variance[0])
    lines = [
        f"speciation, predicted: sigma = sqrt(L) = {found.speciation:.6g}, L the top eigenvalue of "
        f"the covariance (OU time ln(L)/2 = {math.log(top) / 2:.6g})"
    ]
    if found.ends is not None:
        middle = sum(found.ends) / 2
        lines.append(
            f"  measured: phi is {middle:.4g}, midway from {found.ends[0]:.4g} to "
            f"{found.ends[1]:.4g}, at {crossing_text(found.decided)}"
        )
    if found.collapse is not None:
        lines.append(
            f"collapse, predicted: sigma = {found.collapse:.6g}, where the Gaussian spectrum's "
            f"(1/2) sum log(1 + l/sigma^2) = log n, n = {found.atoms:.6g}"
        )
        lines.append(f"  measured: sum u^2 is 1/2 at {crossing_text(found.collapsed)}")
    return "\n".join(lines)


def notes(experiment: Experiment, kind: str, turns: bool) -> list[str]:
    """What is missing, and what the numbers are not."""
    lines = []
    if not has_classes(experiment.data):
        lines.append("phi is missing: this law has no labels, so no classes to return to")
    if turns:
        simulation = experiment.simulation
        sampler = type(simulation.sampler).__name__
        if simulation.deterministic:
            lines.append(
                f"U-turn: {kind} denoiser, solver {sampler}, which draws no noise: phi is of the "
                "stochastic reverse process, and a flow's map of x_s to a class need not agree"
            )
        else:
            lines.append(
                f"U-turn: {kind} denoiser, solver {sampler}; of the exact process it is phi"
            )
    return lines


def numbers(found: Phases) -> dict[str, float]:
    """Every number by name, for metrics.json."""
    values = {"phases/speciation_predicted": found.speciation}
    if found.collapse is not None:
        values["phases/collapse_predicted"] = found.collapse
    for name, crossing in (("collapse", found.collapsed), ("classes", found.decided)):
        if crossing is not None:
            values[f"phases/{name}_measured"] = crossing.sigma
            if crossing.se is not None:
                values[f"phases/{name}_measured_se"] = crossing.se
    for name in found.values:
        for sigma, spread in zip(found.sigma.tolist(), found.mean(name), strict=True):
            values[f"phases/{name}@{sigma:.4g}"] = spread.mean
            if spread.se is not None:
                values[f"phases/{name}@{sigma:.4g}_se"] = spread.se
    return values


def record(found: Phases) -> dict:
    """phases.json."""
    return {
        "sigma": found.sigma.tolist(),
        "series": {
            name: [spread._asdict() for spread in found.mean(name)] for name in found.values
        },
        "n": next(iter(found.values.values())).shape[1],
        "top_eigenvalue": float(found.variance[0]),
        "trace_of_covariance": float(found.variance.sum()),
        "atoms": found.atoms,
        "phi_ends": found.ends,
        "speciation_predicted": found.speciation,
        "collapse_predicted": found.collapse,
        "collapse_measured": None if found.collapsed is None else found.collapsed._asdict(),
        "classes_measured": None if found.decided is None else found.decided._asdict(),
    }


def every_level(found: Phases) -> str:
    """phases.csv, in the columns of trajectory.csv: D and its weights are the same in every
    chart."""
    rows = []
    for name, values in found.values.items():
        n = values.shape[1]
        for sigma, row in zip(found.sigma.tolist(), values, strict=True):
            sd = repr(float(row.std())) if n > 1 else ""
            rows.append([name, "all", repr(sigma), repr(float(row.mean())), sd, n])
    return csv_text(["series", "chart", "sigma", "mean", "sd", "n"], rows)


def figure(path: Path, found: Phases) -> None:
    """phi, sum u^2, H and the trace, with the predicted and the measured levels."""
    lines = {}
    for name in found.values:
        spreads = found.mean(name)
        errors = [spread.se for spread in spreads if spread.se is not None]
        lines[name] = plot.Line([spread.mean for spread in spreads], errors or None)
    marks = [plot.Mark(rf"$\sqrt{{L}}$ = {found.speciation:.3g}", found.speciation)]
    if found.collapse:
        marks.append(plot.Mark(rf"$\sigma_C$ = {found.collapse:.3g}", found.collapse))
    if found.collapsed is not None:
        label = rf"$\Sigma u^2$ = 1/2 at $\sigma$ = {found.collapsed.sigma:.3g}"
        marks.append(plot.Mark(label, found.collapsed.sigma, "collision", 0.5))
    if found.decided is not None and found.ends is not None:
        label = rf"$\varphi$ midway at $\sigma$ = {found.decided.sigma:.3g}"
        marks.append(plot.Mark(label, found.decided.sigma, "phi", sum(found.ends) / 2))
    plot.phases(path, found.sigma.tolist(), lines, marks)
