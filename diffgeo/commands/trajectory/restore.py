"""`diffgeo trajectory restore`: what a measurement moves, the denoising or the sampling path

    diffgeo trajectory restore                          DiffPIR and DPS-y_t on a mixture
    diffgeo trajectory restore data=gaussian algorithms=[exact,mmps,ddrm] sampler.steps=100
    diffgeo trajectory restore data=digits operator=pool operator.factor=4 y=FILE.npy

runs every algorithm from the same noise and prints, beside the geometry of both of its paths, by
how much the data moves, over all levels, the denoised estimate (|D^ - D|) and the state itself
(against the same step with the same noise that is told nothing; in the chart vp). moves.csv holds
every level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.config.build import Experiment, assemble
from diffgeo.config.restoring import measurement_of, simulations_of
from diffgeo.core import Manifold
from diffgeo.errors import UsageError
from diffgeo.geometry.restoration import BLIND, Moves, moves, posterior_draws
from diffgeo.machine import memory
from diffgeo.metrics.transport import sliced_w2
from diffgeo.plot.geometry import restoration as picture
from diffgeo.plot.geometry import starts
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.simulation import Simulation
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

CLOUD = 500  # draws of the posterior in a picture


@dataclass(frozen=True)
class Found:
    """What an algorithm did, and how far its samples are from the exact posterior, sliced W2; None
    where that is not known."""

    moves: Moves
    distance: float | None
    misfit: float  # |y - A x|^2/(sigma_n^2 m), mean


def main(cfg, job: Job) -> None:
    """Run every algorithm on one measurement. Raises UsageError on names, options and measurements
    that there are not, and on algorithms that do not look at sigma_n."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    told = measurement_of(cfg, experiment)
    simulations = simulations_of(cfg, experiment, told)
    check_algorithms(simulations)
    check_room(experiment, len(simulations))
    folder = RunFolder.of("trajectory restore", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    n = len(experiment.numbers)
    posterior = posterior_draws(experiment.data, told, n, experiment.simulation.seed)
    found = {}
    for name, simulation in simulations.items():
        found[name] = run(simulation, experiment.numbers, told, posterior)
    spent = time.process_time() - started
    floor = None if posterior is None else sliced(posterior[0], posterior[1])
    write_text(job.path / "moves.csv", every(found))
    if cfg.figures:
        figures(job, experiment, found, posterior)
    folder.finish(numbers_of(found, floor), experiment.device, measuring_cpu_s=spent)
    steps = len(experiment.simulation.sigmas) - 1
    print(
        f"{len(experiment.numbers)} paths an algorithm, {steps} steps; geometry in the chart ve\n"
    )
    print(markdown(*summary(found)))
    if floor is not None:
        print(f"noise floor of sliced W2: {floor:.3g}; a posterior draw has misfit 1 on average")
    drawn = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, moves.csv{drawn}")


def check_algorithms(simulations: Mapping[str, Simulation]) -> None:
    """Raise UsageError on an algorithm whose steps cannot be taken apart."""
    if blind := [name for name in simulations if name in BLIND]:
        raise UsageError(
            f"algorithms={blind[0]}: its step does not look at sigma_n, so it cannot be told that "
            "the data is worth nothing; leave it out"
        )
    for simulation in simulations.values():
        moves(replace(simulation, sigmas=simulation.sigmas[-2:]), range(1))  # says so itself


def check_room(experiment: Experiment, algorithms: int) -> None:
    """Raise UsageError where the paths are more than the machine has."""
    levels = len(experiment.simulation.sigmas)
    one = 16 * algorithms * levels * math.prod(experiment.data.shape)
    n = len(experiment.numbers)
    memory.check_fits(f"n={n}", n * one, f"write n={max(1, memory.total() // (2 * one))} or less")


def sliced(x: Tensor, y: Tensor) -> float:
    return sliced_w2(x.flatten(1).cpu().numpy(), y.flatten(1).cpu().numpy())


def run(simulation: Simulation, numbers: range, told: Measurement, posterior) -> Found:
    """One algorithm."""
    found = moves(simulation, numbers)
    end = found.states[-1]
    if not bool(end.isfinite().all()):
        raise UsageError("a path is not finite: write more steps, or an implicit step")
    misfit = told.square(end).mean() / (told.sigma_n**2 * math.prod(told.operator.measured))
    distance = None if posterior is None else sliced(end, posterior[0])
    return Found(found, distance, float(misfit))


def total(moved: Tensor) -> float:
    """The way that the data moves a path in all, mean over the paths: sum over the levels."""
    return float(moved.sum(0).mean())


def numbers_of(found: Mapping[str, Found], floor: float | None) -> dict[str, float | None]:
    """Every number by name."""
    values: dict[str, float | None] = {}
    for name, own in found.items():
        values[f"moved/estimate/{name}"] = total(own.moves.of_estimate)
        values[f"moved/state/{name}"] = total(own.moves.of_state)
        for path, states in (("x", own.moves.states), ("r", own.moves.estimates)):
            off, chord = own.moves.bend(states)
            values[f"bend/{path}/{name}"] = off / chord if chord else None
        values[f"misfit/{name}"] = own.misfit
        values[f"sliced_w2/{name}"] = own.distance
        values[f"nfe/{name}"] = own.moves.nfe
    values["sliced_w2/floor"] = floor
    return values


def summary(found: Mapping[str, Found]) -> tuple[list[str], list[list[str]]]:
    """A row an algorithm."""
    rows = []
    for name, own in found.items():
        row = [name]
        for moved in (own.moves.of_estimate, own.moves.of_state):
            row.append(f"{total(moved):.4g}")
        for states in (own.moves.states, own.moves.estimates):
            off, chord = own.moves.bend(states)
            row.append(f"{off:.3g}/{chord:.3g}")
        row.append(f"{own.misfit:.3g}")
        row.append("-" if own.distance is None else f"{own.distance:.3g}")
        rows.append(row)
    header = ["algorithm", "D moved by", "x moved by", "x off its chord", "D^ off its chord"]
    return [*header, "misfit", "sliced W2"], rows


def every(found: Mapping[str, Found]) -> str:
    """moves.csv: a row an algorithm and level, means over the paths and their deviations."""
    header = ["algorithm", "sigma", "estimate", "estimate_sd", "state", "state_sd", "n"]
    rows = []
    for name, own in found.items():
        levels = own.moves.sigma[:-1].tolist()
        for k, level in enumerate(levels):
            row = [name, repr(level)]
            n = own.moves.of_state.shape[1]
            for moved in (own.moves.of_estimate[k], own.moves.of_state[k]):
                row += [repr(float(moved.mean())), repr(float(moved.std())) if n > 1 else ""]
            rows.append([*row, n])
    return csv_text(header, rows)


def figures(job: Job, experiment: Experiment, found: Mapping[str, Found], posterior) -> None:
    """What is moved by level, and the paths of a law that can be drawn."""
    panels: dict[str, dict[str, starts.Line]] = {
        r"denoising path moved, $|\hat D - D|$": {},
        r"sampling path moved, $|x' - x'_0|/\sqrt{1+\sigma'^2}$": {},
    }
    for name, own in found.items():
        levels = own.moves.sigma[:-1].tolist()
        both = (own.moves.of_estimate, own.moves.of_state)
        for lines, moved in zip(panels.values(), both, strict=True):
            lines[name] = starts.Line(levels, moved.mean(1).tolist())
    folder = job.path / "figures"
    starts.quality(folder / "moves.png", panels, r"noise level $\sigma$", log_x=True)
    data = experiment.data
    if len(data.shape) == 1 and isinstance(data, Manifold):
        cloud = torch.empty(0, *data.shape) if posterior is None else posterior[0][:CLOUD]
        states = {name: own.moves.states for name, own in found.items()}
        estimates = {name: own.moves.estimates for name, own in found.items()}
        sigma = experiment.simulation.sigmas
        picture.paths(folder / "paths.png", states, estimates, sigma, data, cloud)
