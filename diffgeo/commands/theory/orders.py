"""`diffgeo theory orders`: the table of samplers, declared and measured orders, evaluations a step

    diffgeo theory orders [NAME ...]        names of conf/sampler; without one, all of them
    diffgeo theory orders heun unipc
    diffgeo theory orders ddpm euler_ancestral
    diffgeo theory orders mine plugins=[mypkg]      a sampler of a package of yours

    flow    slope of log error against log steps, 64 to 640 steps, at the last positive level
            (sigma 20 to .02), from exact history: on a correlated Gaussian over a log and a Karras
            grid, and on the circle over a Karras grid
    law     the same of mean and variance, whichever falls more slowly, for samplers that draw
            noise: by exact moments of a Gaussian

Adaptive methods follow their tolerance and not the grid: for them the relative error of one
integration from 20 to .02, and all the evaluations that it costs a sample (mean of the problems).
"""

from __future__ import annotations

from diffgeo.config import named
from diffgeo.config.nearest import advice
from diffgeo.errors import UsageError
from diffgeo.tables import markdown


def main(arguments: list[str]) -> None:
    names = named.names("sampler")
    for name in arguments:
        if name not in names:
            told = advice(name, names, "`diffgeo help sampler`")
            raise UsageError(f"there is no sampler {name}{told}")
    from diffgeo.theory.orders import FLOWS, measure

    columns = [*FLOWS, "law, log"]
    rows = []
    for name in arguments or names:
        sampler = named.sampler(name)
        found = measure(sampler)
        shown = {column: f"{slope:.2f}" for column, slope in found.slopes.items()}
        spent = f"{found.nfe:.3g}"
        if sampler.adaptive:
            spent += " in all"
            for column, error in found.errors.items():
                shown[column] = f"error {error:.0e} at rtol {sampler.rtol:.0e}"
        cells = [shown.get(column, "") for column in columns]
        rows.append([f"`{name}`", str(found.order), spent, *cells])
    print(markdown(["sampler", "declared", "evaluations a step", *columns], rows))
