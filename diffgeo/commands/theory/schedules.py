"""`diffgeo theory schedules`: what the exponential schedule is the best of, and what it is not

    diffgeo theory schedules                        T = 10, t_1 = 1e-4, 50 and 200 points
    diffgeo theory schedules t_1=1e-3 points=20
    diffgeo theory schedules T=6 points=20,50,100

Lu, Wang and Bal's schedule (41) has the least largest relative step (t_k - t_(k-1))/t_k of all
grids from t_1 to T. It has the largest sum of them, and is not the best where the drift's scale is
taken whole, 1/(1 - e^-t). table.csv holds every time of every grid, with its noise level.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from omegaconf import ListConfig

from diffgeo.config.kinds import plain, step_count
from diffgeo.config.line import check_own
from diffgeo.errors import UsageError
from diffgeo.plot.schedules import schedules as figure
from diffgeo.run import Job, RunFolder
from diffgeo.schedule import OU
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.schedules import BALANCED, Cost, grids

MOST = 4  # numbers of points: a table of 20 lines
COLUMNS = ("schedule", "N", "k", "t", "sigma", "relative_step", "scaled_step")
LOOKS_AT = "its grids are T=, t_1= and points="


def main(cfg, job: Job) -> None:
    """The grids of cfg at every number of points. Raises UsageError."""
    check_own("theory schedules", job.overrides, LOOKS_AT)
    T = plain("T", cfg.T)
    t_1 = plain("t_1", cfg.t_1)
    found = {N: grids(t_1, T, N) for N in counts("points", cfg.points)}
    folder = RunFolder.of("theory schedules", cfg, job)
    if folder.begin():
        return
    write_text(job.path / "table.csv", csv_text(COLUMNS, rows(found)))
    if cfg.figures:
        most = max(found)
        series = {
            name: (cost.times[1:], cost.ratios, cost.scaled) for name, cost in found[most].items()
        }
        figure(job.path / "figures" / "schedules.png", series, most)
    folder.finish(metrics(found))
    print(f"grids of the OU process from T = {T:g}; their own t_1, or {t_1:g}\n")
    print(shown(found))
    print(
        "max, sum: of the relative steps (t_k - t_(k-1))/t_k, k = 2..N; scaled max: the largest "
        "step over 1 - e^-t, and the time that it sets out from.\n"
        "(41) has the least largest relative step and the largest sum; over 1 - e^-t it is not the "
        "best."
    )
    print(f"written: {job.path}/metrics.json, table.csv{', figures/' if cfg.figures else ''}")


def counts(key: str, value) -> list[int]:
    """Numbers of points, increasing, each once. Raises UsageError."""
    values = value if isinstance(value, ListConfig) else [value]
    found = sorted({step_count(key, N) for N in values})
    if not 1 <= len(found) <= MOST:
        raise UsageError(f"{key}={values} has {len(found)} numbers: write 1 to {MOST}, as [50,200]")
    return found


def rows(found: Mapping[int, Mapping[str, Cost]]) -> list[list]:
    """Every line of table.csv: the times t_1 .. t_N, the first without a step."""
    table = []
    for N, costs in found.items():
        for name, cost in costs.items():
            sigmas = OU().sigma(cost.times).tolist()
            nothing = torch.full((1,), torch.nan, dtype=torch.float64)
            ratios = torch.cat([nothing, cost.ratios]).tolist()
            scaled = torch.cat([nothing, cost.scaled]).tolist()
            for k, t in enumerate(cost.times.tolist()):
                steps = [repr(ratios[k]), repr(scaled[k])] if k else ["", ""]
                table.append([name, N, k + 1, repr(t), repr(sigmas[k]), *steps])
    return table


def metrics(found: Mapping[int, Mapping[str, Cost]]) -> dict[str, float]:
    """Every number by name."""
    values = {}
    for N, costs in found.items():
        for name, cost in costs.items():
            at = f"{name}@{N}"
            values[f"schedules/ratio_max/{at}"] = cost.ratio_max
            values[f"schedules/ratio_sum/{at}"] = cost.ratio_sum
            values[f"schedules/scaled_max/{at}"] = cost.scaled_max
            if name != BALANCED:
                values[f"schedules/worst_at/{at}"] = cost.worst
    return values


def shown(found: Mapping[int, Mapping[str, Cost]]) -> str:
    """The table that is printed."""
    header = ["N", "schedule", "t_1", "max", "sum", "scaled max", "at t"]
    lines = []
    for N, costs in found.items():
        for name, cost in costs.items():
            first = f"{float(cost.times[0]):.4g}"
            words = [f"{value:.6f}" for value in (cost.ratio_max, cost.ratio_sum, cost.scaled_max)]
            worst = "all" if name == BALANCED else f"{cost.worst:.4g}"
            lines.append([str(N), name, first, *words, worst])
    return markdown(header, lines)
