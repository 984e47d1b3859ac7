"""`diffgeo theory mcgdiff`: restoration algorithms on random mixtures whose posterior is known

    diffgeo theory mcgdiff                                  d = 8, one number measured
    diffgeo theory mcgdiff d_y=4 problems=4 algorithms=[exact,mmps,ddrm]
    diffgeo theory mcgdiff d=80 d_y=4 n=200                 the largest of the paper's

prints the sliced W2 of every algorithm's samples to the exact posterior, mean and standard error
over the problems, beside the noise floor: two sets of true samples. modes is the total variation
between the shares of the 25 modes. problems.csv holds every problem.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from diffgeo.config.beginning import of_schedule
from diffgeo.config.build import grid_of, method_of
from diffgeo.config.kinds import choices, plain, whole
from diffgeo.config.line import check_own
from diffgeo.config.named import algorithm, algorithm_options, names
from diffgeo.errors import UsageError
from diffgeo.run import Job, RunFolder
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.mcgdiff import FLOOR, Found, compared, mean_of, problem_of

LOOKS_AT = "its laws are mixtures of its own, d=, d_y= and problems="


def main(cfg, job: Job) -> None:
    """Run every algorithm on every problem. Raises UsageError on names, options and sizes that
    there are not."""
    check_own("theory mcgdiff", job.overrides, LOOKS_AT)
    torch.set_num_threads(plain("threads", cfg.threads or 1, int))
    asked = choices("algorithms", cfg.algorithms, names("algorithm"))
    if not asked:
        raise UsageError("algorithms=[] asks for none: write some, as algorithms=[exact,pigdm]")
    options = algorithm_options(cfg.options)
    chosen = {name: algorithm(name, options.get(name, {})) for name in asked}
    sampler = method_of(cfg.sampler)
    chart, sigmas = grid_of(cfg.sampler)
    n = whole("n", cfg.n, 2, 100_000)
    d = whole("d", cfg.d, 2, 10**6)
    d_y = whole("d_y", cfg.d_y, 1, 10**6)
    problems = []
    for number in range(whole("problems", cfg.problems, 1, 1000)):
        problems.append(problem_of(d, d_y, cfg.seed + number))
    folder = RunFolder.of("theory mcgdiff", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    found = compared(problems, chosen, sampler, sigmas, n, cfg.seed, of_schedule(chart))
    spent = time.process_time() - started
    write_text(job.path / "problems.csv", every(found))
    folder.finish(numbers_of(found), measuring_cpu_s=spent)
    print(
        f"MCGdiff's mixture, d = {d}, {d_y} measured, {len(problems)} problems, {n} samples, "
        f"{len(sigmas) - 1} steps\n"
    )
    print(markdown(*table(found, len(problems))))
    print("+- is the standard error of the mean over the problems that did not diverge")
    print(f"written: {job.path}/metrics.json, problems.csv")


def numbers_of(found: Mapping[str, Found]) -> dict[str, float | None]:
    """Means and standard errors by name; null where every problem diverged."""
    values: dict[str, float | None] = {}
    for name, own in found.items():
        for key, series in (("sliced_w2", own.distance), ("modes", own.modes)):
            mean, error = mean_of(series)
            values[f"{key}/{name}"] = mean
            if error is not None:
                values[f"{key}/{name}_se"] = error
        if name != FLOOR:
            values[f"diverged/{name}"] = float(own.distance.count(None))
            values[f"nfe/{name}"] = own.nfe[0] if own.nfe else None
    return values


def table(found: Mapping[str, Found], count: int) -> tuple[list[str], list[list[str]]]:
    """A row an algorithm."""
    rows = []
    for name, own in found.items():
        row = [name, f"{own.nfe[0]:g}" if own.nfe and name != FLOOR else "-"]
        for series in (own.distance, own.modes):
            mean, error = mean_of(series)
            spread = "" if error is None else f" +- {error:.2g}"
            row.append("-" if mean is None else f"{mean:.3g}{spread}")
        row.append(f"{own.distance.count(None)} of {count}" if None in own.distance else "")
        rows.append(row)
    return ["algorithm", "evaluations", "sliced W2", "modes", "diverged"], rows


def every(found: Mapping[str, Found]) -> str:
    """problems.csv: a row an algorithm and problem, every number at full precision."""
    rows = []
    for name, own in found.items():
        for number, (distance, modes) in enumerate(zip(own.distance, own.modes, strict=True)):
            values = ["" if value is None else repr(value) for value in (distance, modes)]
            rows.append([name, number, *values])
    return csv_text(["algorithm", "problem", "sliced_w2", "modes"], rows)
