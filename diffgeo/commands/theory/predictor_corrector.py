"""`diffgeo theory predictor_corrector`: does a corrector pay, with a right score, with a wrong one?

    diffgeo theory predictor_corrector              the exact score
    diffgeo theory predictor_corrector error=.1     a score that is wrong by a tenth
    diffgeo theory predictor_corrector variance=[1,4] levels=100

Predictors alone (P), correctors alone (C) and one of each (PC) of a variance-exploding process at
equal numbers of evaluations, in W2 on a Gaussian, without Monte Carlo. table.csv holds every number
at full precision.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diffgeo.config.kinds import numbers, plain, whole
from diffgeo.config.line import check_own
from diffgeo.errors import UsageError
from diffgeo.plot.predictor_corrector import Panel, panels
from diffgeo.run import Job, RunFolder
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.predictor_corrector import Problem, alternating, table

MOST = 20_000  # levels
LOOKS_AT = "its law is variance=, its process low=, high= and levels="


def main(cfg, job: Job) -> None:
    """The table of cfg. Raises UsageError."""
    check_own("theory predictor_corrector", job.overrides, LOOKS_AT)
    error = plain("error", cfg.error)
    if not -1 < error < 1:
        raise UsageError(f"error={error:g}: write a number between -1 and 1")
    variance = np.array(numbers("variance", cfg.variance))
    problem = Problem(
        variance,
        alternating(error, len(variance)),
        plain("low", cfg.low),
        plain("high", cfg.high),
        plain("ratio", cfg.ratio),
    )
    N = whole("levels", cfg.levels, 2, MOST)
    folder = RunFolder.of("theory predictor_corrector", cfg, job)
    if folder.begin():
        return
    found = table(problem, N)
    header = ["predictor", *next(iter(found.values()))]
    cells = [[name, *map(repr, row.values())] for name, row in found.items()]
    write_text(job.path / "table.csv", csv_text(header, cells))
    score = "the exact score" if error == 0 else f"a score wrong by {abs(error):g}"
    if cfg.figures:
        panel = Panel(f"{score}", "$W_2$ to the law", found)
        panels(job.path / "figures" / "predictor_corrector.png", [panel])
    folder.finish({f"w2/{n}/{b}": value for n, row in found.items() for b, value in row.items()})
    print(f"W2 to N(0, diag({variance.tolist()})) with {score}\n")
    print(markdown(header, shown(found)))
    print(
        f"P: predictors alone; C: two correctors at each of {N} levels; PC: one of each. All but "
        f"P{N} cost {2 * N} evaluations."
    )
    figures = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, table.csv{figures}")


def shown(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """The rows of the table that is printed."""
    return [[name, *(f"{value:.6f}" for value in row.values())] for name, row in found.items()]
