"""`diffgeo theory transport`: is the score linear, and is the probability flow optimal transport?

    diffgeo theory transport data=gaussian                       both: it is a Gaussian
    diffgeo theory transport data=points2 'data.points=[[-1],[1]]'      +-1 in R, by integrals
    diffgeo theory transport data=mixture sigma_T=3 'point=[1,2]'   the Jacobian there
    diffgeo theory transport run=FOLDER                          a network on its law

Proposition 2 of Pierret and Galerne by its defect, E|s + C^-1 (x - m)|^2, which only a Gaussian has
at 0; their Proposition 4 by the asymmetry of the flow's Jacobian, and by the cost of drawn pairs
against their best assignment. table.csv holds every time, points.csv every point.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from diffgeo.config.build import Experiment, assemble
from diffgeo.config.kinds import numbers, plain, whole
from diffgeo.config.titles import law_name, model_name
from diffgeo.data.moments import moments
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.plot import transport as picture
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown
from diffgeo.theory import transport
from diffgeo.theory.linear_score import Gap, gap
from diffgeo.theory.transport import BASIS, Transported

MOST = 5000  # pairs of a set: an assignment takes n^3
SHOWN = 12  # times in the printed table


def main(cfg, job: Job) -> None:
    """Look at the score at cfg.t, and at the flow from cfg.sigma_T to cfg.lowest."""
    take_model(cfg, job.overrides)
    t = times_of(cfg)
    sizes = sizes_of(cfg)
    first = plain("sigma_T", cfg.sigma_T)
    last = plain("lowest", cfg.lowest)
    if not 0 < last < first < math.inf:
        raise UsageError(
            f"lowest={last:g} sigma_T={first:g}: write two noise levels, 0 < lowest < sigma_T"
        )
    experiment = assemble(cfg, loaded)
    at = point_of(cfg, experiment)
    if cfg.n < 2:
        raise UsageError(f"n={cfg.n}: a spread takes 2 draws or more")
    folder = RunFolder.of("theory transport", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    data = experiment.data
    model = experiment.model
    gaussian = moments(data)
    gaps = [gap(model, data, gaussian, one, cfg.n, cfg.seed) for one in t]
    found = transport.measure(model, data, first, last, at=at, seed=cfg.seed, **sizes)
    least = transport.bound(gaussian.variance, first, last)
    measured = {"measuring_cpu_s": time.process_time() - started}
    write_text(job.path / "table.csv", gaps_csv(gaps))
    wrote = ["metrics.json", "table.csv"]
    if found.skew is not None and found.skew.each is not None:
        write_text(job.path / "points.csv", points_csv(found))
        wrote.append("points.csv")
    if cfg.figures:
        draw(job, gaps, found)
        wrote.append("figures/")
    folder.finish(values_of(gaps, found, least), experiment.device, **measured)
    model_is = model_name(model, cfg)
    print(f"{model_is} denoiser of {law_name(data, cfg, job.overrides)}; {gaussian.about}\n")
    print(f"Is the score linear? E|s + C^-1 (x - m)|^2, 0 for a Gaussian alone\n\n{told(gaps)}")
    if not is_own(model, data):
        print(
            "Only the law's own score has both columns equal: what parts them is the model's error"
        )
    print("\n".join(lines_of(found, least, first, last)))
    print(f"written: {job.path}/{', '.join(wrote)}")


# what is asked for


def times_of(cfg) -> list[float]:
    """cfg.t. Raises UsageError."""
    t = numbers("t", cfg.t)
    if not t or not all(0 < one < math.inf for one in t):
        raise UsageError(f"t={t}: write times above 0, as t=[.01,.1,1]")
    return t


def sizes_of(cfg) -> dict[str, int]:
    """The numbers of the measurement of the flow. Raises UsageError."""
    sizes = {
        "steps": whole("steps", cfg.steps, 2, 100_000),
        "pairs": whole("pairs", cfg.pairs, 2, MOST),
        "repeats": whole("repeats", cfg.repeats, 2, 1000),
        "points": whole("points", cfg.points, 2, 10**6),
    }
    if sizes["points"] > sizes["pairs"] * sizes["repeats"]:
        raise UsageError(
            f"points={sizes['points']}: they are some of the pairs, and there are "
            f"{sizes['pairs'] * sizes['repeats']} of those; write fewer points or more pairs"
        )
    return sizes


def point_of(cfg, experiment: Experiment) -> Tensor | None:
    """The point of cfg [1,d]. Raises UsageError where it is none of the law's space."""
    if cfg.point is None:
        return None
    shape = tuple(experiment.data.shape)
    point = numbers("point", cfg.point)
    if len(shape) != 1 or len(point) != shape[0] or shape[0] > BASIS:
        raise UsageError(
            f"point={point}: data= has points of shape {shape}; write one of as many numbers, in "
            f"at most {BASIS} dimensions"
        )
    if not all(map(math.isfinite, point)):
        raise UsageError(f"point={point}: write finite numbers")
    return torch.tensor([point], dtype=torch.float64)


# what is written


def gaps_csv(gaps: Sequence[Gap]) -> str:
    """A line a time."""
    rows = [["" if value is None else repr(value) for value in one] for one in gaps]
    return csv_text(Gap._fields, rows)


def points_csv(found: Transported) -> str:
    """A line a point: x at sigma_T, the asymmetry there, and where the flow takes it."""
    each = found.skew.each
    starts = found.starts[: len(each)].flatten(1)
    ends = found.ends[: len(each)].flatten(1)
    d = starts.shape[1]
    header = [*(f"x{i + 1}" for i in range(d)), "asymmetry", *(f"end{i + 1}" for i in range(d))]
    table = torch.cat([starts, each[:, None], ends], 1)
    return csv_text(header, [list(map(repr, row)) for row in table.tolist()])


def values_of(gaps: Sequence[Gap], found: Transported, least: float) -> dict[str, float | None]:
    """metrics.json."""
    values: dict[str, float | None] = {}
    for one in gaps:
        for name in ("excess", "relative", "fisher", "linear"):
            values[f"score/{name}@t={one.t:g}"] = one._asdict()[name]
        values[f"score/relative_se@t={one.t:g}"] = one.relative_se
    cost, cost_se = found.cost
    excess, excess_se = mean_of(found.pairs.excess)
    skew = found.skew
    at_a_point = None if skew is None else skew.at_a_point
    mean, mean_se = at_a_point or (None, None)
    values |= {
        "transport/asymmetry_mean": mean,
        "transport/asymmetry_mean_se": mean_se,
        "transport/asymmetry": None if skew is None else skew.total,
        "transport/asymmetry_se": None if skew is None else skew.error,
        "transport/asymmetry_worst": worst(found),
        "transport/cost": cost,
        "transport/cost_se": cost_se,
        "transport/cost_bound": least,
        "transport/assignment_excess": excess,
        "transport/assignment_excess_se": excess_se,
        "transport/integration": found.integration,
    }
    return values


def worst(found: Transported) -> float | None:
    """The largest asymmetry at a point; None where it is not known point by point."""
    if found.skew is None or found.skew.each is None:
        return None
    return float(found.skew.each.max())


def mean_of(values: Tensor) -> tuple[float, float]:
    """Mean and standard error over the sets."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def told(gaps: Sequence[Gap]) -> str:
    """At most SHOWN times."""
    header = ["t", "sigma", "excess", "se", "tr J - tr C^-1", "per dimension, C-weighed", "se"]
    rows = []
    for one in gaps[:SHOWN]:
        apart = f"{one.fisher - one.linear:.6f}"
        if one.fisher_se:
            apart += f" +- {one.fisher_se:.2g}"
        row = [f"{one.t:g}", f"{one.sigma:.4g}", f"{one.excess:.6f}", f"{one.excess_se:.2g}", apart]
        rows.append([*row, f"{one.relative:.6f}", f"{one.relative_se:.2g}"])
    return markdown(header, rows)


def lines_of(found: Transported, least: float, first: float, last: float) -> list[str]:
    """What the flow showed."""
    cost, cost_se = found.cost
    excess, excess_se = mean_of(found.pairs.excess)
    sets, pairs = len(found.pairs.cost), len(found.starts) // len(found.pairs.cost)
    lines = [f"Is the flow optimal transport, from sigma = {first:g} to {last:g}?"]
    skew = found.skew
    if skew is None:
        lines.append("In one dimension every flow is: the map is increasing.")
    else:
        lines.append(f"asymmetry of its Jacobian (0: optimal) {asymmetry_text(found)}")
    if found.jacobians is not None:
        shown = "; ".join(
            " ".join(f"{value:.4f}" for value in row) for row in found.jacobians[0].tolist()
        )
        lines.append(f"at that point J = [{shown}], asymmetry {one_asymmetry(found):.4g}")
    lines += [
        f"cost of a pair {cost:.6g} +- {cost_se:.2g}; no map costs less than {least:.8g} "
        "(Gelbrich), a Gaussian's flow just that",
        f"drawn pairs over their best assignment - 1: {excess:.2g} +- {excess_se:.1g} "
        f"({sets} sets of {pairs})",
        f"half the steps change an end by {found.integration:.2g} (rms)",
    ]
    return lines


def asymmetry_text(found: Transported) -> str:
    """At a point where J is known whole, and over all of them."""
    skew = found.skew
    over_all = f"{skew.total:.4g} +- {skew.error:.2g}"
    if skew.at_a_point is None:
        return over_all
    mean, error = skew.at_a_point
    return (
        f"at a point {mean:.4g} +- {error:.2g}, at most {worst(found):.4g}; weighed by |J|^2 "
        f"{over_all}"
    )


def one_asymmetry(found: Transported) -> float:
    jacobian = found.jacobians[0]
    return float((jacobian - jacobian.mT).norm() / math.sqrt(2) / jacobian.norm())


def draw(job: Job, gaps: Sequence[Gap], found: Transported) -> None:
    """figures/transport.png."""
    each = None if found.skew is None else found.skew.each
    points = None
    if each is not None and found.starts[0].numel() == 2:
        points = found.starts[: len(each)].flatten(1)
    picture.transport(
        job.path / "figures" / "transport.png",
        torch.tensor([[one.t, one.relative, one.relative_se] for one in gaps]).double(),
        each,
        points,
    )
