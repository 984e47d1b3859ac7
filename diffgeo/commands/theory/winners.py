"""`diffgeo theory winners`: which sampler on which schedule is best at 5, 8, 10, 20 evaluations

    diffgeo theory winners [laws=A,B] [budgets=5,8,10,20] [seed=0] [out=outputs/theory/winners]
    diffgeo theory winners
    diffgeo theory winners laws=circle,mixture budgets=5,10
    diffgeo theory winners seed=1 out=FOLDER

Every deterministic sampler of conf/sampler with every schedule, on exact denoisers, at each budget
of network evaluations. The error is the root mean square distance of the sample from where the
exact flow takes the same noise, in units of the law's deviation (flow/rms of `diffgeo sample`); all
schedules run from sigma = 80 to .002. A sample that lands on another atom or arm counts in full,
though it is good.

    winner        the pair of least error, with the steps that its budget affords; `median`: of a
                  point's error; `of 4`: on how many quarters of the points it wins too
    runner-up     the best of another family (a module of diffgeo.sampler), and how many times the
                  winner's error it makes
    overall       the pairs with the least geometric mean over the laws of error over best error,
                  and beside them what is usual; errors below .001 count as .001: such a law is
                  solved, and nothing on it is to be ranked

Found with the five laws and seeds 0 and 1: at 5 evaluations gradient estimation (segment, mixture)
and iPNDM (both rolls) win, at 8 and 10 these or DEIS, at 20 DEIS, iPNDM, or on the rolls 2M; mostly
on `time_uniform`, never on `karras`, and never a single-step method. DEIS on `flow` is the safe
choice, 1.2 to 2.3 times the best over all laws; Heun on the EDM grid is 8 to 22 times. Both seeds
name the same pair in 8 of 16 cases: always on the segment and at 5 evaluations. On the atoms of the
roll, from 8 on, 93 to 98 % of the squared error is that of the few points that land on another arm:
who wins is chance there. On the sphere only the radius can go wrong, and the last D sets it right:
half the pairs solve it at 5 evaluations, but not gradient estimation and iPNDM, which overshoot.

laws: names of conf/data. Writes table.md, table.csv (every pair) and winners.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from diffgeo.config.drawings import draws
from diffgeo.config.named import LAWS as NAMES
from diffgeo.config.named import law, names, sampler
from diffgeo.config.words import COUNTS, PATH, WHOLE, options
from diffgeo.core import Sampler
from diffgeo.store.drawing import file_of
from diffgeo.store.files import take, write_text
from diffgeo.tables import csv_text, markdown

LAWS = ("swissroll_points", "segment", "swissroll", "sphere", "mixture")
ABOUT = {
    "swissroll_points": "dim 0, 100 atoms",
    "segment": "dim 1, flat",
    "swissroll": "dim 1, curved",
    "sphere": "dim 2, curved",
    "mixture": "dim 2, three modes",
}
USUAL = ("heun", "karras"), ("dpmpp_2m", "karras"), ("ddim", "karras")
POINTS = 128


@lru_cache
def samplers() -> dict[str, Sampler]:
    """The candidates of conf/sampler."""
    from diffgeo.theory.selection import candidates

    return candidates({name: sampler(name) for name in names("sampler")})


def family(name: str) -> str:
    return type(samplers()[name]).__module__


@draws
def main(arguments: list[str]) -> None:
    asked = {
        "laws": list(LAWS),
        "budgets": [5, 8, 10, 20],
        "seed": 0,
        "out": Path("outputs/theory/winners"),
    } | options(
        "theory winners", arguments, {"laws": NAMES, "budgets": COUNTS, "seed": WHOLE, "out": PATH}
    )
    take(asked["out"])
    import torch

    from diffgeo.plot.selection import winners as draw
    from diffgeo.theory.selection import GROUPS, SOLVED, Truth, by_sampler, ranking, winners

    torch.set_num_threads(1)
    found = {}
    doubts = {}
    for name in asked["laws"]:
        truth = Truth(law(name), points=POINTS, count=100, seed=asked["seed"])
        found[name] = ranking(truth, samplers(), asked["budgets"])
        doubts[name] = truth.doubt
    text = "\n".join(
        [
            f"error in deviations of the law, {POINTS} points, {len(samplers())} samplers: "
            f"{', '.join(samplers())}\n",
            markdown(
                [
                    "law",
                    "evaluations",
                    "winner",
                    "schedule",
                    "steps",
                    "error",
                    "median",
                    f"of {GROUPS}",
                    "runner-up",
                    "times",
                ],
                rows(found),
            ),
            markdown(
                ["evaluations", "overall", "schedule", "times the best"],
                overall(found, asked["budgets"]),
            ),
            "error of the exact flow itself: "
            + ", ".join(f"{name} {doubt:.0e}" for name, doubt in doubts.items())
            + "\n",
            f"one draw of {POINTS} points (seed={asked['seed']}): where a winner does not win on "
            f"{GROUPS} of {GROUPS} quarters of them, another draw may name another\n",
        ]
    )
    write_text(asked["out"] / "table.md", text)
    write_text(asked["out"] / "table.csv", pairs(found))
    draw(
        asked["out"] / "winners.png",
        errors={name: by_sampler(rankings) for name, rankings in found.items()},
        best={name: winners(rankings) for name, rankings in found.items()},
        solved=SOLVED,
        about={name: ABOUT.get(name, "") for name in found},
    )
    print(text)
    picture = file_of(asked["out"] / "winners")
    print(f"written: {asked['out']}/table.md, table.csv, {picture.name}")


def pairs(found: Mapping) -> str:
    """Every pair of every law and budget, as CSV."""
    lines = []
    for name, by_budget in found.items():
        for budget, entries in by_budget.items():
            for e in entries:
                numbers = [str(e.steps), f"{e.error:.6g}", f"{e.median:.6g}"]
                lines.append([name, str(budget), e.sampler, e.schedule, *numbers])
    header = ["law", "evaluations", "sampler", "schedule", "steps", "error", "median"]
    return csv_text(header, lines)


def rows(found: Mapping) -> list[list[str]]:
    """A row a law and budget: the winner, and the best of another family."""
    from diffgeo.theory.selection import SOLVED, runner_up, wins

    table = []
    for name, by_budget in found.items():
        for budget, entries in by_budget.items():
            best = entries[0]
            if best.error < SOLVED:
                solved = sum(e.error < SOLVED for e in entries)
                table.append(
                    [
                        name,
                        str(budget),
                        f"{solved} of {len(entries)} pairs",
                        "",
                        "",
                        f"< {SOLVED:g}",
                        "",
                        "",
                        "",
                        "",
                    ]
                )
                continue
            row = [
                name,
                str(budget),
                best.sampler,
                best.schedule,
                str(best.steps),
                f"{best.error:.2g}",
                f"{best.median:.2g}",
            ]
            second = runner_up(entries, family)
            other = ["", ""]
            if second is not None:
                times = f"{second.error / best.error:.2f}"
                other = [f"{second.sampler}, {second.schedule}", times]
            table.append([*row, str(wins(entries)), *other])
    return table


def overall(found: Mapping, budgets: Sequence[int], shown: int = 3) -> list[list[str]]:
    """A row for each of the best pairs at a budget, and for the usual ones."""
    from diffgeo.theory.selection import regrets

    table = []
    for budget in budgets:
        pairs = regrets([by_budget[budget] for by_budget in found.values()])
        table += [
            [str(budget), name, schedule, f"{times:.2f}"]
            for k, (times, name, schedule) in enumerate(pairs)
            if k < shown or (name, schedule) in USUAL
        ]
    return table
