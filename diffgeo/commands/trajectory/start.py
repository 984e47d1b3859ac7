"""`diffgeo trajectory start`: samples that begin at a level of one's own, and what that costs

    diffgeo trajectory start data=mixture init=gaussian_at,teleport,prior at=16,8,4
    diffgeo trajectory start run=FOLDER sampler=ddim sampler.steps=10 at=10,5,2.5
    diffgeo trajectory start init=gaussian_at,teleport at=16,8 -m data=mixture     a job a start

prints, for every start and level, what the samples are worth, beside a run of as many steps from
the top of the grid. On the line it also says what the exact flow would give: W2 as an integral, and
the share of the samples on each side of a gap. start.csv holds every number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from diffgeo.commands.trajectory import quality
from diffgeo.config.beginning import KINDS, initial_of, lowered
from diffgeo.config.build import Experiment, assemble, fitted
from diffgeo.config.kinds import choices, numbers, plain
from diffgeo.errors import UsageError
from diffgeo.geometry.late_start import (
    Line,
    affine,
    coupled_w2,
    exact_w2,
    line_of,
    share_below,
)
from diffgeo.plot.geometry import starts
from diffgeo.report.finish import ready
from diffgeo.run import Job, RunFolder, loaded, shared, take_model
from diffgeo.simulation import Simulation
from diffgeo.simulation.initial import Own
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

MOST = 18  # rows of the printed table
PLAIN = "plain"  # the run from the top of the grid
EXACT = "start/w2_exact"
COUPLED = "start/w2_coupled"


@dataclass(frozen=True)
class Begun:
    """One start: its name, its level, its simulation; and what came of it, by name."""

    init: str
    at: float
    simulation: Simulation
    values: dict[str, float] = field(default_factory=dict)


def main(cfg, job: Job) -> None:
    """Measure cfg.n samples of every start at every level. Raises UsageError on a start or a level
    that there is not, and on metrics that take a run apart."""
    take_model(cfg, job.overrides)
    inits = choices("init", cfg.init, KINDS)
    levels = sorted(numbers("at", cfg.at), reverse=True)
    beside = plain("plain", cfg.plain, bool)
    experiment = plainly(cfg, job)
    begun = list(starts_of(cfg, experiment, inits, levels))
    check_different(begun)
    if len(begun) == 1:
        beside = False
    quality.check(experiment)
    ready(experiment, len(experiment.numbers))
    folder = RunFolder.of("trajectory start", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    if beside:
        begun.insert(0, whole(experiment))
    line = line_of(experiment.data)
    for start in begun:
        measure(experiment, start, line)
    spent = time.process_time() - started
    write_text(job.path / "start.csv", table_of_all(begun))
    keys = quality.columns(begun[-1].values)
    if line is not None:
        keys = keys[:1]  # sliced W2 is W2 there
    if cfg.figures:
        figures(job.path / "figures", begun, keys)
    folder.finish(numbers_of(begun), experiment.device, measuring_cpu_s=spent)
    print(quality.title(experiment, cfg, job, len(experiment.numbers)) + "\n")
    print(table(begun, keys))
    print(sentences(begun, keys, line))
    print(f"written: {job.path}/metrics.json, start.csv" + (", figures/" if cfg.figures else ""))


def plainly(cfg, job: Job) -> Experiment:
    """The experiment without a start of its own: this command's options are lists of them."""
    asked = cfg.init, cfg.at
    cfg.init = None
    cfg.at = None
    experiment = assemble(cfg, shared if job.sweep else loaded)
    cfg.init, cfg.at = asked
    return fitted(experiment)


def starts_of(
    cfg, experiment: Experiment, inits: list[str], levels: list[float]
) -> Iterator[Begun]:
    """Every start at every level. Raises UsageError on a level outside the grid."""
    plain_one = experiment.simulation
    top = plain_one.highest
    for init in inits:
        initial = initial_of(init, experiment.data, plain_one.sampler, top, experiment.chart)
        for level in levels:
            sigmas = plain_one.sigmas
            if level != top:
                _, sigmas = lowered(experiment.chart, sigmas, level, cfg.sampler.get("steps"))
            simulation = replace(plain_one, sigmas=sigmas, initial=initial)
            yield Begun(init, float(sigmas[0]), simulation)


def check_different(begun: list[Begun]) -> None:
    """Raise UsageError where there is no start, or two are one: a level that was typed twice, or
    two that are the same trained one."""
    if not begun:
        raise UsageError(f"init=[] is empty: write some of {', '.join(KINDS)}")
    seen = set()
    for start in begun:
        if (start.init, start.at) in seen:
            raise UsageError(f"at names the level {start.at:.4g} of the grid twice: write it once")
        seen.add((start.init, start.at))


def whole(experiment: Experiment) -> Begun:
    """The run from the top of the grid."""
    return Begun(PLAIN, experiment.simulation.highest, experiment.simulation)


def measure(experiment: Experiment, start: Begun, line: Line | None) -> None:
    """Draw the samples of a start and put into it what they are worth."""
    with experiment.sampling.running(start.simulation) as simulation:
        drawn = simulation.draw(experiment.numbers, experiment.sampling.batch)
    start.values.update(quality.of_cloud(experiment, drawn.samples))
    start.values["sampling/nfe"] = drawn.nfe
    if line is not None:
        start.values.update(on_the_line(experiment, start, line, drawn.samples))


def on_the_line(
    experiment: Experiment, start: Begun, line: Line, samples: torch.Tensor
) -> dict[str, float]:
    """What the exact flow makes of a start on the line, and what these samples are beside it."""
    simulation = start.simulation
    initial = simulation.initial or Own(simulation.sampler)
    begins = affine(initial, start.at)
    unit = simulation.start(experiment.numbers).unit
    coupled, error = coupled_w2(line, samples, unit)
    values = {
        EXACT: exact_w2(line, begins, start.at),
        COUPLED: coupled,
        COUPLED + "_se": error,
    }
    shares = share_below(line, begins, start.at)
    places = line.quantile(line.gaps, 1 - line.gaps)
    for k, (place, share) in enumerate(zip(places.tolist(), shares.tolist(), strict=True)):
        values[f"start/below_gap_{k}"] = float((samples[:, 0] <= place).double().mean())
        values[f"start/below_gap_{k}_exact"] = share
    return values


def numbers_of(begun: list[Begun]) -> dict[str, float]:
    """Every number by name: of one start as `sample` names them, of several with the start."""
    if len(begun) == 1:
        return begun[0].values
    values = {}
    for start in begun:
        for key, value in start.values.items():
            values[f"{start.init}/{key}@{start.at:g}"] = value
    return values


def table_of_all(begun: list[Begun]) -> str:
    """start.csv: a row a start, every number at full precision."""
    keys = list(begun[0].values)
    rows = []
    for start in begun:
        rows.append([start.init, repr(start.at), *(repr(start.values[key]) for key in keys)])
    return csv_text(["init", "at", *keys], rows)


def table(begun: list[Begun], keys: list[str]) -> str:
    """The table that is printed: by level from the highest, the run from the top first."""
    order = sorted(begun, key=lambda start: (start.init != PLAIN, -start.at))
    on_line = EXACT in begun[0].values
    header = ["init", "at", "evaluations", *keys]
    if on_line:
        header += ["W2, same noise", "W2, exact flow"]
    rows = []
    for start in order[:MOST]:
        values = start.values
        row = [start.init, f"{start.at:.4g}", f"{values['sampling/nfe']:g}"]
        row += [quality.cell(values, key) for key in keys]
        if on_line:
            row.append(f"{values[COUPLED]:.4g} +- {values[COUPLED + '_se']:.2g}")
            row.append(f"{values[EXACT]:.7f}")
        rows.append(row)
    return markdown(header, rows)


def sentences(begun: list[Begun], keys: list[str], line: Line | None) -> str:
    """What the columns are, and which rows are left out."""
    lines = []
    if len(begun) > MOST:
        lines.append(f"{len(begun) - MOST} more rows are in start.csv")
    if line is not None:
        lines.append(
            "W2, same noise: samples against truth made of the same noise, the solver's error "
            "included; W2, exact flow: the start alone, as an integral"
        )
    lines.append(quality.stars([start.values for start in begun], keys))
    return "\n".join(text for text in lines if text)


def figures(folder: Path, begun: list[Begun], keys: list[str]) -> None:
    """Quality against the level of the start; on the line beside the exact flow's W2."""
    panels = {}
    inits = list(dict.fromkeys(start.init for start in begun if start.init != PLAIN))
    of_plain = [start for start in begun if start.init == PLAIN]
    wanted = [*keys, COUPLED] if COUPLED in begun[0].values else keys
    for key in wanted:
        lines = {}
        for init in inits:
            own = sorted((s for s in begun if s.init == init), key=lambda start: start.at)
            at = [start.at for start in own]
            lines[init] = starts.Line(at, [start.values[key] for start in own])
            if key == COUPLED:
                exact = [start.values[EXACT] for start in own]
                lines[f"{init}, exact flow"] = starts.Line(at, exact, dashed=True)
        for start in of_plain:
            lines[f"{PLAIN}, from the top"] = starts.Line([start.at], [start.values[key]])
        panels["W2 to truth of the same noise" if key == COUPLED else key] = lines
    if panels:
        tops = quality.tops([start.values for start in begun], keys)
        starts.quality(folder / "start.png", panels, r"level of the start $\sigma'$", tops, True)
