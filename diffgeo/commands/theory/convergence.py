"""`diffgeo theory convergence`: the rates of convergence theory, stated and measured

    diffgeo theory convergence [quick|full] [NAME ...] [out=FOLDER] [figures=true]
    diffgeo theory convergence list                             the experiments
    diffgeo theory convergence quick ddpm                       one of them
    diffgeo theory convergence full figures=true out=FOLDER     all of them, in longer ranges

Without NAME every experiment runs: quick, the default, in a minute or two of one core; full extends
the ranges. `theory convergence list` lists them. Each prints its table and, for every quantity with
a stated rate, the stated and the measured slope. Laws are exact (closed form or kernel propagation)
unless a noise floor is printed. Writes metrics.json (EXPERIMENT/VARIABLE/QUANTITY@x and ..._slope),
table.csv, table.md and convergence.png. With out= a finished folder is left as it is.
"""

from __future__ import annotations

from pathlib import Path

from diffgeo.config.drawings import draws
from diffgeo.config.nearest import advice
from diffgeo.config.words import PATH, TRUTH, options
from diffgeo.errors import UsageError
from diffgeo.run import taken
from diffgeo.store.drawing import file_of
from diffgeo.store.files import take, write_json, write_text
from diffgeo.tables import csv_text, markdown

BUDGETS = ("quick", "full")


def asked(arguments: list[str]) -> tuple[bool, list[str], dict]:
    """(full, names, options). Raises UsageError on a word that is none of them."""
    from diffgeo.theory.convergence import EXPERIMENTS

    words = [a for a in arguments if "=" not in a]
    known = options(
        "theory convergence", [a for a in arguments if "=" in a], {"out": PATH, "figures": TRUTH}
    )
    if unknown := [w for w in words if w not in BUDGETS and w not in EXPERIMENTS]:
        listed = "write quick, full or an experiment: `diffgeo theory convergence list`"
        told = advice(unknown[0], ["quick", "full", *EXPERIMENTS], listed)
        raise UsageError(f"theory convergence has no experiment '{unknown[0]}'{told}")
    if len({w for w in words if w in BUDGETS}) > 1:
        raise UsageError("theory convergence runs quick or full: write one of the two")
    names = [name for name in EXPERIMENTS if name in words] or list(EXPERIMENTS)
    return "full" in words, names, known


@draws
def main(arguments: list[str]) -> None:
    if "list" in arguments:
        from diffgeo.theory.convergence import ABOUT

        print("\n".join(f"{name:<16} {text}" for name, text in ABOUT.items()))
        return
    full, names, known = asked(arguments)
    out = known.get("out", Path("outputs/theory/convergence"))
    if "out" in known and taken(out):
        return
    take(out)
    import torch

    from diffgeo.theory.convergence import EXPERIMENTS, WARNING

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors
    print(WARNING + "\n")
    found = []
    text = [WARNING + "\n"]
    try:
        for name in names:
            for experiment in EXPERIMENTS[name](full):
                found.append(experiment)
                text.append(report(experiment))
                print(text[-1])
    finally:
        torch.set_num_threads(threads)
    write_text(out / "table.csv", table(found))
    write_text(out / "table.md", "\n".join(text))
    if known.get("figures", True):
        from diffgeo.plot.convergence import panels

        panels(out / "convergence.png", [experiment.panel() for experiment in found])
    write_json(
        out / "metrics.json", {key: value for e in found for key, value in e.metrics().items()}
    )
    drawn = f", {file_of('convergence')}" if known.get("figures", True) else ""
    print(f"written: {out}/metrics.json, table.csv, table.md{drawn}")


def table(found: list) -> str:
    """Every value of every series, as CSV."""
    rows = []
    for e in found:
        about = [e.name, e.title, e.axis, str(e.exponential)]
        for s in e.series:
            for x, value in zip(e.x, s.values, strict=True):
                measured = [s.key, s.title, repr(value), f"{s.noise:.3g}"]
                rows.append([*about, f"{x:g}", *measured])
    header = ["experiment", "title", "variable", "exponential", "x"]
    return csv_text([*header, "quantity", "label", "value", "noise"], rows)


def report(e) -> str:
    """One experiment as text: the table, the slopes, the note."""
    rows = [[f"{x:g}", *(f"{s.values[i]:.4g}" for s in e.series)] for i, x in enumerate(e.x)]
    lines = [f"{e.name}: {e.title}\n", markdown([e.axis, *(s.title for s in e.series)], rows)]
    for s in e.series:
        if s.measured is not None:
            stated = "bound of the theorem: slope" if s.bound else "expected slope"
            lines.append(f"{stated} {s.expected:g}, measured {s.measured:.2f}: {s.title}")
        if s.noise:
            lines.append(f"noise floor {s.noise:.2g}: {s.title}")
    return "\n".join([*lines, *([f"({e.note})"] if e.note else []), ""])
