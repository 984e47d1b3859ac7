"""`diffgeo theory mixture`: mixtures learnt by descent on the DDPM objective and by EM

    diffgeo theory mixture {pair|step|softmax} [quick|full] [seed=0] [out=FOLDER]

The softmax network is the score of sum_j w_j N(mu_j, I); its parameters are learnt from n samples
by gradient descent and by EM.

    pair      +-mu in R^16, |mu| = 1.5, from a random start: |mu_hat - mu| against n; expected slope -1/2 for both
    step      the gradient at noise t, divided by 2 sigma_t^2 a^2, against the EM step on n = 400 000 samples, from a random start of
              length |mu|: cosine and ratio of lengths, and by quadrature what they are at n =
              infinity
    softmax   four components at R e_j in R^8, weights .1 to .4, from means moved by .6 N(0, I): mean |mu_hat - mu| and the L2 error of
              the score at t = 0, against R (n = 20 000) and n (R = 4); Adam's rate is .02, and .1
              at R = 1; `deck_score` is the network without norms and weights

Each number is a mean over seeds, +- its standard error. Writes metrics.json (pair/gd/n=1000,
pair/slope_gd, ...), table.csv and NAME.png to out=, outputs/theory/mixture/NAME-BUDGET unless it is
given; returns at once when they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffgeo.config.words import PATH, WHOLE, options
from diffgeo.errors import UsageError
from diffgeo.run import finished
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown

if TYPE_CHECKING:
    from diffgeo.theory.mixtures import Found

NAMES = ("pair", "step", "softmax")
BUDGETS = ("quick", "full")
EXPECTED = -0.5  # slope of every error against n


class Sweep(NamedTuple):
    """`measure(value, seed=)` -> {quantity: number} over values of `label`, for each budget
    (values, seeds)."""

    label: str
    measure: Callable[..., dict[str, float]]
    quick: tuple[Sequence[float], int]
    full: tuple[Sequence[float], int]


def sweeps(name: str) -> tuple[Sweep, ...]:
    from diffgeo.theory import mixtures

    def by_radius(radius: float, seed: int) -> dict[str, float]:
        # flat between near means
        return mixtures.softmax(radius=radius, seed=seed, deck=True, lr=0.1 if radius < 2 else 0.02)

    return {
        "pair": (
            Sweep(
                "n",
                mixtures.pair,
                ((250, 1000, 4000, 16_000), 3),
                ((250, 1000, 4000, 16_000, 64_000), 8),
            ),
        ),
        "step": (Sweep("t", mixtures.step, ((0.02, 0.1, 0.5), 4), ((0.02, 0.1, 0.5), 16)),),
        "softmax": (
            Sweep("R", by_radius, ((6, 4, 2, 1), 1), ((6, 4, 2, 1), 4)),
            Sweep(
                "n",
                mixtures.softmax,
                ((500, 2000, 8000, 32_000), 1),
                ((500, 1000, 2000, 4000, 8000, 16_000, 32_000), 4),
            ),
        ),
    }[name]


def run(sweep: Sweep, budget: str, seed: int) -> Found:
    import numpy as np

    from diffgeo.theory.mixtures import Found

    values, seeds = getattr(sweep, budget)
    curves: dict[str, list[tuple[float, float]]] = {}
    for value in values:
        drawn = [sweep.measure(value, seed=seed + i) for i in range(seeds)]
        for key in drawn[0]:
            numbers = np.array([one[key] for one in drawn])
            error = float(numbers.std(ddof=1) / seeds**0.5) if seeds > 1 else float("nan")
            curves.setdefault(key, []).append((float(numbers.mean()), error))
    return Found(sweep.label, values, curves)


def shown(mean: float, error: float) -> str:
    return f"{mean:.4f}" + (f" +- {error:.4f}" if error == error else "")


def metrics_of(name: str, found: Sequence[Found]) -> dict[str, float]:
    """{NAME/quantity/label=value: mean} and {NAME/slope_quantity: slope}."""
    metrics = {
        f"{name}/{key}/{f.label}={value:g}": mean
        for f in found
        for key, curve in f.curves.items()
        for value, (mean, _) in zip(f.values, curve, strict=True)
    }
    return metrics | {
        f"{name}/slope_{key}": slope for f in found for key, slope in f.slopes().items()
    }


def every_mean(found: Sequence[Found]) -> str:
    """Every mean and its standard error, as CSV."""
    rows = []
    for f in found:
        for key, curve in f.curves.items():
            for value, (mean, error) in zip(f.values, curve, strict=True):
                rows.append([key, f.label, f"{value:g}", repr(mean), repr(error)])
    return csv_text(["quantity", "at", "value", "mean", "standard_error"], rows)


def tables(found: Found) -> str:

    rows = [
        [f"{value:g}", *(shown(*curve[i]) for curve in found.curves.values())]
        for i, value in enumerate(found.values)
    ]
    if slopes := found.slopes():
        rows += [
            ["slope", *(f"{slope:.3f}" for slope in slopes.values())],
            ["expected", *(f"{EXPECTED:.3f}" for _ in slopes)],
        ]
    return markdown([found.label, *found.curves], rows)


def main(arguments: list[str]) -> None:
    words = [a for a in arguments if "=" not in a]
    rest = [a for a in arguments if "=" in a]
    name, budget = (*words, "quick")[:2] if words else (None, None)
    if name not in NAMES or budget not in BUDGETS or len(words) > 2:
        raise UsageError(
            f"{' '.join(['theory mixture', *words])}: write theory mixture, one of "
            f"{', '.join(NAMES)}, and quick or full"
        )
    asked = {"seed": 0, "out": Path(f"outputs/theory/mixture/{name}-{budget}")} | options(
        "theory mixture", rest, {"seed": WHOLE, "out": PATH}
    )
    if finished(asked["out"]):
        return
    import torch

    from diffgeo.plot.mixtures import draw

    torch.set_num_threads(1)
    found = [run(sweep, budget, asked["seed"]) for sweep in sweeps(name)]
    print("\n".join(map(tables, found)))
    write_text(asked["out"] / "table.csv", every_mean(found))
    draw(asked["out"] / f"{name}.png", found)
    write_json(asked["out"] / "metrics.json", metrics_of(name, found))
    print(f"written: {asked['out']}/metrics.json, table.csv, {name}.png")
