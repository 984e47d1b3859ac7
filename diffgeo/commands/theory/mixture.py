"""`diffgeo theory mixture`: mixtures learnt by descent on the DDPM objective and by EM

    diffgeo theory mixture {pair|step|softmax} [quick|full] [seed=0] [seeds=8] [out=FOLDER]
    diffgeo theory mixture pair
    diffgeo theory mixture step full out=FOLDER
    diffgeo theory mixture softmax quick seeds=4

The softmax network is the score of sum_j w_j N(mu_j, I); its parameters are learnt from n samples
by gradient descent and by EM.

    pair      +-mu in R^16, |mu| = 1.5, from a random start: |mu_hat - mu| against n; expected slope
              -1/2 for both
    step      the gradient at noise t, divided by 2 sigma_t^2 a^2, against the EM step on n =
              400 000 samples, from a random start of length |mu|: cosine and ratio of lengths, and
              by quadrature what they are at n = infinity
    softmax   four components at R e_j in R^8, weights .1 to .4, from means moved by .6 N(0, I):
              mean |mu_hat - mu| and the L2 error of the score at t = 0, against R (n = 20 000) and
              n (R = 4); Adam's rate is .02, and .1 at R = 1; `deck_score` is the network without
              norms and weights

Each number is a mean over seeds, +- its standard error, the deviation of a seed over sqrt(seeds);
with few seeds that is itself known roughly only, to a share 1/sqrt(2 (seeds - 1)). seeds= is how
many: 8 of pair and 4 of step (16 in full), of softmax one and 4: there a quick number has no
spread, and nothing is to be concluded from it alone. Writes metrics.json (pair/gd/n=1000,
pair/slope_gd, ..., each with its _se), table.csv and NAME.png to out=, outputs/theory/mixture/
NAME-BUDGET unless it is given; returns at once when they are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffgeo.config.drawings import draws
from diffgeo.config.words import PATH, WHOLE, options
from diffgeo.errors import UsageError
from diffgeo.run import taken
from diffgeo.store.drawing import file_of
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown

if TYPE_CHECKING:
    from diffgeo.theory.mixture_sweeps import Found

NAMES = ("pair", "step", "softmax")
BUDGETS = ("quick", "full")
MOST_SEEDS = 1000


def shown(mean: float, error: float, digits: int = 4) -> str:
    """A mean with its standard error, where it has one."""
    if math.isnan(error):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} +- {error:.{digits}f}"


def of_seeds(found: Found) -> str:
    """What +- says, or that nothing says it."""
    if found.seeds == 1:
        return "one seed: no spread is known; write seeds=3, or full"
    return f"mean +- standard error of the mean, over {found.seeds} seeds"


def every_mean(found: Sequence[Found]) -> str:
    """Every mean and its standard error, as CSV."""
    rows = []
    for f in found:
        for key, curve in f.curves.items():
            for value, (mean, error) in zip(f.values, curve, strict=True):
                rows.append([key, f.label, f"{value:g}", repr(mean), repr(error)])
    return csv_text(["quantity", "at", "value", "mean", "standard_error"], rows)


def table(found: Found) -> str:
    """A row a value, and the slopes against n beside what they are to be."""
    from diffgeo.theory.mixture_sweeps import EXPECTED

    rows = []
    for i, value in enumerate(found.values):
        rows.append([f"{value:g}", *(shown(*curve[i]) for curve in found.curves.values())])
    slopes = found.slopes()
    if slopes:
        rows.append(["slope", *(shown(*slope, digits=3) for slope in slopes.values())])
        rows.append(["expected", *(f"{EXPECTED:.3f}" for _ in slopes)])
    return f"{of_seeds(found)}\n\n{markdown([found.label, *found.curves], rows)}"


@draws
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
        "theory mixture", rest, {"seed": WHOLE, "seeds": WHOLE, "out": PATH}
    )
    seeds = asked.get("seeds")
    if seeds is not None and not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"seeds={seeds}: write 1 to {MOST_SEEDS}")
    if taken(asked["out"]):
        return
    import torch

    from diffgeo.plot.mixtures import draw
    from diffgeo.theory.mixture_sweeps import SWEEPS, metrics, run

    torch.set_num_threads(1)
    found = [run(sweep, budget, asked["seed"], seeds) for sweep in SWEEPS[name]]
    print("\n".join(table(one) for one in found))
    write_text(asked["out"] / "table.csv", every_mean(found))
    draw(asked["out"] / f"{name}.png", {one.label: (one.values, one.curves) for one in found})
    write_json(asked["out"] / "metrics.json", metrics(name, found))
    picture = file_of(asked["out"] / name)
    print(f"written: {asked['out']}/metrics.json, table.csv, {picture.name}")
