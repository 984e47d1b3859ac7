"""`diffgeo theory restoration`: what restoration algorithms are wrong by on a Gaussian, exactly

    diffgeo theory restoration data=gaussian 'operator.entries=[[1,1]]' 'y=[1.5]' sigma_n=.3
    diffgeo theory restoration 'mean=[.5,-1]' 'covariance=[[2,.5],[.5,1]]' \\
        'operator.entries=[[1,1]]' 'y=[1.5]' sigma_n=.3
    diffgeo theory restoration mean=m.npy covariance=C.npy operator.file=A.npy y=y.npy sigma_n=.3 \\
        'algorithm=[exact,pigdm,{diffpir:{zeta:1}}]' 'sampler=[ddim,ddpm]' 'steps=[5,20,100]' \\
        out=t.csv

prints W2 to the posterior of one y, in data units, for every algorithm, sampler and number of
steps, without a random number: the mean and the covariance of the restorations are read from the
samplers' own steps (theory.affine). table.csv (and out=) has the mean error and the spread, tr Cov
over that of the posterior, beside it at full precision; inf is a run that has left the numbers.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.commands.theory.gaussian import check_out, deliver
from diffgeo.commands.theory.gaussian_options import several
from diffgeo.commands.theory.restoration_problem import (
    OWN,
    Entry,
    Problem,
    entries,
    finite,
    problem_of,
    samplers,
)
from diffgeo.config.beginning import of_schedule
from diffgeo.config.build import build
from diffgeo.config.kinds import step_count
from diffgeo.config.limits import part
from diffgeo.core import Sampler, Schedule
from diffgeo.run import Job, RunFolder
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.affine import Moments
from diffgeo.theory.restoration import Gap, gap, restored

HEADER = ("algorithm", "options", "sampler", "steps", "w2", "mean_error", "spread")
LINES = 17  # of the table that is printed, at most


class Row(NamedTuple):
    """One line of the table: an algorithm under a sampler, and its gaps by number of steps."""

    entry: Entry
    sampler: str
    gaps: dict[int, Gap]

    @property
    def label(self) -> str:
        """diffpir zeta=1, exact + ddpm."""
        name = " ".join(filter(None, (self.entry.name, self.entry.options)))
        return name if self.sampler == OWN else f"{name} + {self.sampler}"


def main(cfg, job: Job) -> None:
    """The table of cfg. Raises UsageError on whatever is no Gaussian, measurement, algorithm or
    number of steps, and on an algorithm whose law is not Gaussian."""
    check_out(cfg.out, job)
    problem = problem_of(cfg)
    asked = entries(cfg.algorithms)
    methods = samplers(cfg.samplers)
    counts = [step_count("steps", steps) for steps in several("steps", cfg.steps, int)]
    schedule = build(part(cfg, "schedule"))
    started = time.process_time()
    table = rows(problem, asked, methods, schedule, counts)
    spent = time.process_time() - started
    folder = RunFolder.of("theory restoration", cfg, job)
    if folder.begin():
        deliver(cfg.out, job.path)
        return
    write_text(job.path / "table.csv", csv_text(HEADER, lines(table)))
    deliver(cfg.out, job.path)
    folder.finish(metrics(table), table_cpu_s=spent)
    print(printed(table, counts))
    print(f"written: {job.path}/metrics.json, table.csv{f', {cfg.out}' if cfg.out else ''}")


def rows(
    problem: Problem,
    asked: list[Entry],
    methods: dict[str, Sampler],
    schedule: Schedule,
    counts: list[int],
) -> list[Row]:
    """Every line, the algorithms in the order that was asked for. Raises UsageError."""
    found = []
    for entry in asked:
        own = entry.algorithm.step is not None
        under = {OWN: next(iter(methods.values()))} if own else methods
        for name, method in under.items():
            gaps = {}
            for steps in counts:
                sigmas = schedule.grid(steps)
                law = restored(
                    problem.prior,
                    problem.measurement,
                    entry.algorithm,
                    method,
                    sigmas,
                    None if own else start_on(schedule, sigmas, problem.prior.shape),
                )
                gaps[steps] = gap(law, problem.mean, problem.covariance)
            found.append(Row(entry, name, gaps))
    return found


def start_on(schedule: Schedule, sigmas: Tensor, shape: tuple[int, ...]) -> Moments | None:
    """The law of the start that the schedule asks for; None: the sampler's own."""
    if of_schedule(schedule) is None:
        return None
    size = math.prod(shape)
    variance = 1 + float(sigmas[0]) ** 2
    return Moments(
        torch.zeros(size, dtype=torch.float64), variance * torch.eye(size, dtype=torch.float64)
    )


def lines(table: list[Row]) -> list[list[str]]:
    """Every cell of table.csv."""
    found = []
    for row in table:
        for steps, one in row.gaps.items():
            about = [row.entry.name, row.entry.options, row.sampler, str(steps)]
            found.append([*about, *map(repr, one)])
    return found


def metrics(table: list[Row]) -> dict[str, float | None]:
    """Every number by name, null where there is none."""
    found = {}
    for row in table:
        for steps, one in row.gaps.items():
            for key, value in one._asdict().items():
                found[f"{key}/{row.label}@{steps}"] = finite(value)
    return found


def printed(table: list[Row], counts: list[int]) -> str:
    """W2 of every line, a column a number of steps, and how wrong mean and spread are at the
    most."""
    last = counts[-1]
    header = ["W2 to the posterior", *map(str, counts), f"mean error @{last}", f"spread @{last}"]
    shown = []
    for row in table[:LINES]:
        w2 = [f"{row.gaps[steps].w2:.4g}" for steps in counts]
        end = row.gaps[last]
        shown.append([row.label, *w2, f"{end.mean_error:.4g}", f"{end.spread:.4g}"])
    text = markdown(header, shown)
    if len(table) > LINES:
        text += f"and {len(table) - LINES} more in table.csv\n"
    return text.rstrip()
