"""What `diffgeo restore` says: the row of every image as CSV, a table of the means, and in words
what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffgeo.commands.restore.problem import Problem
from diffgeo.config.line import value_of
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Manifold
from diffgeo.errors import UsageError
from diffgeo.inverse.posterior import Prior
from diffgeo.metrics.suite import table
from diffgeo.run import Job
from diffgeo.tables import aligned, csv_text

Row = Mapping[str, float | None]

# beside each other: of the draws and of the exact posterior's; what is to be expected
BESIDE = {
    "error": "",
    "psnr": "",
    "psnr_of_mean": "",
    "ssim": "",
    "misfit": "1",
    "coverage_50": "0.5",
    "coverage_90": "0.9",
    "crps": "",
    "energy_score": "",
    "rank_p": "above .001",
}
FEW = 2.0  # effective images below which a posterior on points is one image


def csv_of(images: range, rows: Sequence[Row]) -> str:
    """images.csv: a row an image, at full precision; empty where a number does not exist."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = []
    for number, row in zip(images, rows, strict=True):
        cells = ["" if row.get(name) is None else repr(row[name]) for name in names]
        lines.append([str(number), *cells])
    return csv_text(["image", *names], lines)


def title(cfg, job: Job, problem: Problem, nfe: float) -> str:
    """What was restored, by what, in one line."""
    law = law_name(problem.experiment.data, cfg, job.overrides)
    model = model_name(problem.experiment.model, cfg)
    steps = len(problem.restoration.simulation.sigmas) - 1
    draws = problem.restoration.draws
    return (
        f"{chosen(cfg, job, 'algorithm')} of {chosen(cfg, job, 'operator')}, sigma_n "
        f"{problem.restoration.sigma_n:g}: {counted(len(problem.asked.images), 'image')}, "
        f"{counted(draws, 'draw')} each, {steps} steps, {nfe:.4g} evaluations; prior {law}, "
        f"{model} denoiser"
    )


def counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def chosen(cfg, job: Job, group: str) -> str:
    """A choice of a group as it was typed, else the name of what it builds."""
    typed = value_of(group, list(job.overrides))
    return typed or cfg[group]["_target_"].rpartition(".")[2]


def text(heading: str, values: Row, problem: Problem) -> str:
    """What is printed."""
    distances = {}
    for key, value in values.items():
        if value is not None and key.startswith(("posterior/", "algorithm/")):
            distances[key] = value
    parts = [heading, "", *side_by_side(values)]
    if distances:
        parts += ["", table(distances)]
    return "\n".join([*parts, *sentences(values, problem)])


def side_by_side(values: Row) -> list[str]:
    """A table: what was restored, and draws of the exact posterior."""
    lines = [["", "restored", "exact posterior", "expected"]]
    for name, expected in BESIDE.items():
        own = [f"restore/{name}", f"calibration/{name}"]
        exact = [f"exact/{name}", f"calibration/{name}_exact"]
        cells = [cell(values, own), cell(values, exact)]
        if any(cells):
            lines.append([name, *cells, expected])
    return aligned(lines, left=(0, 1, 2, 3))


def cell(values: Row, keys: Sequence[str]) -> str:
    """The value of the first key that has one, with its standard error."""
    for key in keys:
        value = values.get(key)
        error = values.get(f"{key}_se")
        if value is not None:
            return f"{value:.4g}" + (f" +- {error:.2g}" if error is not None else "")
    return ""


def sentences(values: Row, problem: Problem) -> list[str]:
    """What the numbers mean, where they are easily misread."""
    lines = []
    ess = values.get("posterior/ess")
    data = problem.experiment.data
    of_atoms = isinstance(data, Manifold) and data.dim == 0  # blurred images spread all the same
    if ess is not None and ess < FEW and of_atoms:
        lines.append(
            f"effective sample size {ess:.3g}: the exact posterior of this law is all but one "
            "image, so it has no spread to be right about"
        )
    if problem.posterior and problem.asked.images and "exact/misfit" not in values:
        lines.append(f"no exact posterior beside: {why_none(problem)}")
    null = [key for key, value in values.items() if value is None]
    told = [key for key in null if key not in ("posterior/ess", "posterior/log_evidence")]
    if told:
        lines.append(f"without a number: {', '.join(told)}")
    return lines


def why_none(problem: Problem) -> str:
    """Why there is no exact posterior of the first image."""
    data = problem.experiment.data
    if not isinstance(data, Prior):
        return "none is known of this law"
    first = problem.measurement(problem.asked.images.start)
    try:
        data.given(first.operator, first.y, first.sigma_n)
    except UsageError as error:
        return str(error)
    return "none is known of some image"


def step_of_its_own(cfg, job: Job, problem: Problem) -> list[str]:
    """A line where a sampler was chosen for an algorithm that takes its levels alone."""
    typed = value_of("sampler", list(job.overrides))
    if typed is None or problem.restoration.algorithm.step is None:
        return []
    name = chosen(cfg, job, "algorithm")
    return [f"algorithm={name} has a step of its own: sampler={typed} gives it the levels alone"]


def written(folder: Path, drawn: bool) -> str:
    """What lies where."""
    pictures = ", figures/" if drawn else ""
    return f"written: {folder}/metrics.json, restored.npy, measurement.npy, images.csv{pictures}"
