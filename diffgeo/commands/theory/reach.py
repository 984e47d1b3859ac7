"""`diffgeo theory reach`: denoising approximates projection: up to which noise, and how well

    diffgeo theory reach data=circle                            the exact denoiser
    diffgeo theory reach data=moons data.ambient=64             the same set in a larger space
    diffgeo theory reach run=FOLDER                             a network; its law is the run's

holds the reach theorem against draws: while reach > sigma sqrt(n), the projection of x0 + sigma eps
is within about sigma sqrt(d) of x0; and how far denoiser and projection are apart at each level.
levels.csv holds every level.
"""

from __future__ import annotations

import math
import time

import torch

from diffgeo.config.build import Experiment, assemble
from diffgeo.config.kinds import plain, whole
from diffgeo.config.titles import law_name, model_name
from diffgeo.errors import UsageError
from diffgeo.plot.reach import reach as figure
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.admissibility import check
from diffgeo.theory.reach import columns, measure, numbers, verdict

MOST_PAIRS = 20_000
MOST_LEVELS = 1000
SHOWN = 16  # levels in the printed table


def main(cfg, job: Job) -> None:
    """Measure cfg.n draws at cfg.levels levels."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    check(experiment.data)
    sigmas = levels_of(cfg, experiment)
    pairs = whole("pairs", cfg.pairs, 2, MOST_PAIRS)
    if cfg.n < 2:
        raise UsageError(f"n={cfg.n}: a spread takes 2 draws or more")
    folder = RunFolder.of("theory reach", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    found = measure(
        experiment.model, experiment.data, sigmas, cfg.n, pairs, cfg.seed, experiment.device
    )
    measured = {"measuring_cpu_s": time.process_time() - started}
    table = columns(found)
    rows = [list(map(repr, row)) for row in zip(*(v.tolist() for v in table.values()), strict=True)]
    write_text(job.path / "levels.csv", csv_text(list(table), rows))
    if cfg.figures:
        figure(job.path / "figures" / "reach.png", table, found.reach, found.n, found.d)
    folder.finish(numbers(found), experiment.device, **measured)
    print(f"{title(experiment, cfg, job)}\n")
    print(shown(table))
    print(verdict(found))
    print(f"written: {job.path}/metrics.json, levels.csv" + (", figures/" if cfg.figures else ""))


def levels_of(cfg, experiment: Experiment) -> torch.Tensor:
    """The levels [L], increasing by a constant factor. Raises UsageError."""
    lowest = plain("lowest", cfg.lowest)
    highest = plain("highest", cfg.highest)
    if not 0 < lowest < highest < math.inf:
        raise UsageError(
            f"lowest={lowest:g} highest={highest:g}: write two noise levels, 0 < lowest < highest"
        )
    count = whole("levels", cfg.levels, 2, MOST_LEVELS)
    ends = torch.tensor([lowest, highest], dtype=torch.float64).log10()
    grid = torch.logspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64)
    return grid.to(experiment.device)


def title(experiment: Experiment, cfg, job: Job) -> str:
    """What was measured."""
    data = experiment.data
    model = model_name(experiment.model, cfg)
    law = law_name(data, cfg, job.overrides)
    return f"{model} denoiser of {law}, of dimension d = {data.dim}, {cfg.n} draws at each level"


def shown(table: dict[str, torch.Tensor]) -> str:
    """At most `SHOWN` levels."""
    count = len(table["sigma"])
    kept = torch.linspace(0, count - 1, min(SHOWN, count)).round().int().tolist()
    header = ["sigma", "sigma sqrt(n)", "< reach", "ratio", "sd", "q99", "near x0", "gap", "se"]
    rows = []
    for i in kept:
        values = [float(column[i]) for column in table.values()]
        inside = "yes" if values[2] else "no"
        words = [f"{value:.4g}" for value in values]
        rows.append([*words[:2], inside, *words[3:6], f"{values[6]:.3g}", *words[7:]])
    return markdown(header, rows)
