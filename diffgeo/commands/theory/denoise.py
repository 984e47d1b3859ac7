"""`diffgeo theory denoise`: denoising, Tweedie and score matching, one functional; Hessian bounds

    diffgeo theory denoise data=points2 'data.points=[[-1],[1]]'    on the line: integrals
    diffgeo theory denoise data=circle data.ambient=16              draws, with standard errors
    diffgeo theory denoise run=FOLDER                               a network of its law too

holds the loss E|r(y) - x0|^2 of the exact denoiser, of the best affine one and of a network against
E tr Cov[x0 | y] + E|r - E[x0 | y]|^2, and the latter against the error of the score, whose truth is
differences of log p; then shows how large the Hessian of log p_t is, seen from where it is largest
and from draws, and the Fisher information in two ways. table.csv holds every number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from diffgeo.analytic.exact import Density
from diffgeo.config.build import Experiment, assemble
from diffgeo.config.kinds import numbers, whole
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import Denoiser, Known
from diffgeo.data.moments import moments
from diffgeo.data.reference import denoiser_of
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.plot.denoise import denoise as figure
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory.denoise import Loss, Turning, least_affine, loss, radius_of, turning

EXACT = "exact"
AFFINE = "affine"
LEVELS = (1e-4, 1e4)  # what a noise level, and a time, may be
MOST = 64  # levels of each kind
HIGHEST_T = 50.0
ROUNDING = 1e-9  # a standard error that is none
Losses = Mapping[str, Sequence[Loss]]  # of each denoiser, a level an entry
Pair = tuple[float, float]  # a number and its standard error
COLUMNS = ("part", "denoiser", "level", "quantity", "value", "standard_error")
Row = tuple[str, str, float, str, float | None, float | None]


def main(cfg, job: Job) -> None:
    """Measure cfg's law, and its model where that is not the law's own denoiser."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    exact = density_of(experiment)
    n = whole("n", cfg.n, 2, 10**6)
    sigmas = levels_of("sigmas", cfg.sigmas, *LEVELS)
    times = levels_of("t", cfg.t, LEVELS[0], HIGHEST_T)
    law = experiment.data
    spread = moments(law)
    models: dict[str, Denoiser] = {EXACT: exact, AFFINE: denoiser_of(spread, law)}
    if not is_own(experiment.model, law):
        models[model_name(experiment.model, cfg)] = experiment.model
    folder = RunFolder.of("theory denoise", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    seed, device = cfg.seed, experiment.device
    losses = {}
    for name, model in models.items():
        found = []
        for level, sigma in enumerate(sigmas):
            found.append(loss(model, exact, law, sigma, n, seed, level, device))
        losses[name] = found
    turned = []
    for level, t in enumerate(times):
        turned.append(turning(exact, law, t, n, seed, len(sigmas) + level, device))
    spent = time.process_time() - started
    affine = [least_affine(spread.variance, sigma) for sigma in sigmas]
    rows = [*loss_rows(losses, affine), *turning_rows(turned)]
    write_text(job.path / "table.csv", csv_text(COLUMNS, [list(map(as_text, row)) for row in rows]))
    if cfg.figures:
        figure(job.path / "figures" / "denoise.png", curves(losses), turning_curves(turned))
    folder.finish(values_of(rows), device, measuring_cpu_s=spent)
    integral = "integrals over y" if turned[0].integral else "+- is the standard error"
    print(f"{law_name(law, cfg, job.overrides)}, n = {n} draws a level; {integral}\n")
    print(loss_table(losses, affine))
    print(turning_table(turned))
    print(words(turned, radius_of(law)))
    print(f"written: {job.path}/metrics.json, table.csv" + (", figures/" if cfg.figures else ""))


def density_of(experiment: Experiment) -> Density:
    """The exact denoiser of the law, with its density. Raises UsageError where it has none."""
    law = experiment.data
    exact = law.denoiser() if isinstance(law, Known) else None
    if not isinstance(exact, Density):
        raise UsageError(
            f"data={type(law).__name__} has no density in closed form to hold a loss against: "
            "write another law, such as data=mixture or data=digits"
        )
    return exact


def levels_of(key: str, value, least: float, most: float) -> list[float]:
    """Levels, increasing. Raises UsageError."""
    found = sorted(set(numbers(key, value)))
    if not least <= found[0] <= found[-1] <= most or len(found) > MOST:
        raise UsageError(f"{key}={found}: write up to {MOST} numbers from {least:g} to {most:g}")
    return found


def loss_rows(losses: Losses, affine: Sequence[float]) -> list[Row]:
    rows: list[Row] = []
    for name, found in losses.items():
        for at in found:
            pairs = {
                "loss": at.loss,
                "least": at.least,
                "excess": at.excess,
                "rest": at.rest,
                "score": at.score,
            }
            rows += [("loss", name, at.sigma, key, *pair) for key, pair in pairs.items()]
    for at, least in zip(losses[AFFINE], affine, strict=True):
        rows.append(("loss", AFFINE, at.sigma, "by_formula", least, None))
    return rows


def turning_rows(turned: Sequence[Turning]) -> list[Row]:
    rows: list[Row] = []
    for at in turned:
        pairs: dict[str, tuple[float | None, float | None]] = {
            "largest": (at.largest, None),
            "bound": (at.bound, None),
            "psi_1": at.psi,
            "root_mean_square": (at.root, None),
            "fisher_by_trace": at.by_trace,
            "fisher_by_score": at.by_score,
            "fisher_apart": at.apart,
        }
        rows += [("hessian", EXACT, at.t, key, *pair) for key, pair in pairs.items()]
    return rows


def as_text(value) -> str:
    """A cell of table.csv."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def values_of(rows: Sequence[Row]) -> dict[str, float | None]:
    """metrics.json: denoise/loss/exact/excess@0.25, denoise/hessian/psi_1@0.01, ..."""
    values: dict[str, float | None] = {}
    for part, name, level, quantity, value, error in rows:
        of = f"/{name}" if part == "loss" else ""
        key = f"denoise/{part}{of}/{quantity}@{level:g}"
        values[key] = value
        if error is not None:
            values[f"{key}_se"] = error
    return values


def shown(pair: Pair) -> str:
    """A number, and its standard error where that is more than rounding."""
    value, error = pair
    return f"{value:.6f}" if error < ROUNDING else f"{value:.6f} +- {error:.1g}"


def loss_table(losses: Losses, affine: Sequence[float]) -> str:
    """A row a level and a denoiser."""
    header = [
        "sigma",
        "r",
        "L(r) on draws",
        "by formula",
        "E|r - r*|^2",
        "L - E tr Cov - E|r - r*|^2",
        "sigma^4 E|score error|^2",
    ]
    rows = []
    for level, least in enumerate(affine):
        for name, found in losses.items():
            at = found[level]
            formula = {EXACT: shown(at.least), AFFINE: f"{least:.6f}"}.get(name, "")
            left = [f"{at.sigma:g}", name, shown(at.loss), formula]
            rows.append([*left, shown(at.excess), shown(at.rest), shown(at.score)])
    return markdown(header, rows)


def turning_table(turned: Sequence[Turning]) -> str:
    """A row a time."""
    header = ["t", "largest |H|", "bound", "t psi_1 of |H|_F", "t rms |H|_F", "J", "J - E|score|^2"]
    rows = []
    for at in turned:
        ends = [f"{value:.6g}" if value is not None else "-" for value in (at.largest, at.bound)]
        psi = (at.t * at.psi[0], at.t * at.psi[1])
        apart = f"{at.apart[0]:.2g}" + (f" +- {at.apart[1]:.1g}" if at.apart[1] > ROUNDING else "")
        information = f"{at.by_trace[0]:.6g}"
        rows.append([f"{at.t:g}", *ends, shown(psi), f"{at.t * at.root:.6f}", information, apart])
    return markdown(header, rows)


def words(turned: Sequence[Turning], radius: float | None) -> str:
    """What to see of it."""
    first = turned[0]
    lines = ["H = grad^2 log p_t; J = -E tr H is the Fisher information of p_t."]
    if radius is not None and first.largest is not None:
        lines.append(
            f"At t = {first.t:g} the largest |H| t^2 is {first.largest * first.t**2:.4g}, where "
            f"R^2/4 = {radius**2 / 4:.4g} is its limit (R = {radius:.4g}, the law's radius); at "
            f"draws t |H|_F has the psi_1 norm {first.t * first.psi[0]:.4g}."
        )
    return "\n".join(lines)


def curves(losses: Losses) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Level, loss, and standard error of each denoiser, for the figure; the exact one's loss is E
    tr Cov."""
    found = {}
    for name, parts in losses.items():
        pairs = [at.least if name == EXACT else at.loss for at in parts]
        found[name] = (
            [at.sigma for at in parts],
            [value for value, _ in pairs],
            [error for _, error in pairs],
        )
    return found


def turning_curves(turned: Sequence[Turning]) -> dict[str, list[float | None]]:
    """The sizes of the Hessian by time."""
    return {
        "t": [at.t for at in turned],
        "largest": [at.largest for at in turned],
        "bound": [at.bound for at in turned],
        "psi": [at.psi[0] for at in turned],
        "root": [at.root for at in turned],
    }
