"""`diffgeo trajectory symmetry`: where the centre of a law loses its stability, in every chart

    diffgeo trajectory symmetry data=points2
    diffgeo trajectory symmetry data=mixture                a law without a centre: its saddle-nodes
    diffgeo trajectory symmetry data=points2 wells=[.5,.75]    the wells at these levels too
    diffgeo trajectory symmetry run=FOLDER                  the field that a network has learnt

finds, from the law's own denoiser and its derivative, the level at which the symmetric centre stops
being a mode of p_sigma, where it loses its stability in each (chart, dynamics), and where wells
appear away from it, and draws the potentials and the bifurcation diagram. symmetry.json has every
number, with the wells at a few levels; branches.csv every branch of fixed points.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.config import kinds
from diffgeo.config.build import assemble
from diffgeo.config.kinds import plain
from diffgeo.config.titles import law_name, model_name
from diffgeo.errors import UsageError
from diffgeo.geometry.symmetry import own_coordinates, potential
from diffgeo.geometry.symmetry_diagram import MOST, Diagram, Symmetry, Wells, symmetry, wells
from diffgeo.plot.geometry import symmetry as plot
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_json, write_text
from diffgeo.tables import csv_text, markdown

POINTS = 401  # of a potential's curve
CURVES = 4  # levels of a picture of potentials


def main(cfg, job: Job) -> None:
    """Find the fixed points of cfg's denoiser. Raises UsageError, as `symmetry` does."""
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    lowest = plain("lowest", cfg.lowest, float | None)
    highest = plain("highest", cfg.highest, float | None)
    at = None if cfg.wells is None else kinds.numbers("wells", cfg.wells)
    if at is not None and min(at) <= 0:
        raise UsageError(f"wells={at}: write noise levels above 0")
    model = experiment.model
    if isinstance(model, nn.Module):
        model.double()  # Newton's rule asks for more digits than float32 has
    started = time.process_time()
    found = symmetry(model, experiment.data, lowest, highest, cfg.seed)
    places = [wells(found, diagram, at) for diagram in found.diagrams]
    folder = RunFolder.of("trajectory symmetry", cfg, job)
    if folder.begin():
        return
    spent = time.process_time() - started
    write_json(job.path / "symmetry.json", record(found, places))
    write_text(job.path / "branches.csv", branches(found))
    if cfg.figures:
        figures(job.path / "figures", found, places)
    values = found.numbers() | depths(found, places)
    folder.finish(values, experiment.device, measuring_cpu_s=spent)
    law = law_name(experiment.data, cfg, job.overrides)
    print(f"{model_name(experiment.model, cfg)} denoiser of {law}, every chart and dynamics\n")
    print(headline(found))
    print()
    print(table(found))
    if at is not None:
        print(markdown(*wells_table(found, places)))
    print(notes(found))
    shown = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, symmetry.json, branches.csv{shown}")


def headline(found: Symmetry) -> str:
    """Where the centre stops being a mode, the same in every chart; else that there is none."""
    if not found.symmetric:
        return (
            f"no symmetric centre: D moves the mean by up to {found.asymmetry:.3g} of the law's "
            "deviation. Saddle-nodes instead: below each, two more fixed points."
        )
    first = found.diagrams[0].centre
    assert first is not None
    if first.lost is None:
        return f"the centre is a mode of p_sigma at every level ({first}), in every chart"
    lost = first.lost
    text = (
        f"the centre stops being a mode of p_sigma at sigma = {lost.sigma:.9g}, the same in every "
        f"chart: sigma^2 = {lost.sigma**2:.9g} = the top eigenvalue of Cov[x0|centre] there"
    )
    before = [fold.sigma for fold, _ in found.diagrams[0].saddle_nodes if fold.sigma > lost.sigma]
    if before:
        text += f"\nother modes are there before it: from sigma = {max(before):.10g} down"
    return text


def table(found: Symmetry) -> str:
    """A row a dynamics."""
    header = ["chart, dynamics", "centre, sigma", "there", "saddle-nodes off it", "wells"]
    rows = []
    for diagram in found.diagrams:
        middle = diagram.centre
        there = ""
        if middle is not None and middle.lost is not None:
            own = own_coordinates(diagram.dynamics.chart, middle.lost.sigma)
            there = ", ".join(f"{name} = {value:.8g}" for name, value in own.items())
        nodes = [f"{fold.sigma:.10g} (x {count})" for fold, count in diagram.saddle_nodes[:4]]
        rows.append(
            [
                diagram.dynamics.name,
                "none" if middle is None else str(middle),
                there or "-",
                ", ".join(nodes) or "none",
                f"{diagram.wells} at {diagram.lowest:.3g}",
            ]
        )
    return markdown(header, rows)


def depths(found: Symmetry, places: list[list[Wells]]) -> dict[str, float]:
    """How many wells there are at each level, and how far the farthest lies from the centre in its
    chart, by name."""
    values: dict[str, float] = {}
    for diagram, wells_at in zip(found.diagrams, places, strict=True):
        key = f"symmetry/{diagram.dynamics.key}"
        for one in wells_at:
            values[f"{key}/wells@{one.sigma:.4g}"] = len(one.y)
            values[f"{key}/well@{one.sigma:.4g}"] = one.farthest
    return values


def wells_table(found: Symmetry, places: list[list[Wells]]) -> tuple[list[str], list[list[str]]]:
    """The same as a table, a row a dynamics."""
    header = ["wells, the farthest x_t"] + [f"sigma = {one.sigma:.6g}" for one in places[0]]
    rows = []
    for diagram, wells_at in zip(found.diagrams, places, strict=True):
        cells = [f"{len(one.y)}, {one.farthest:.10g}" for one in wells_at]
        rows.append([diagram.dynamics.name, *cells])
    return header, rows


def notes(found: Symmetry) -> str:
    """What the table does not say of itself."""
    lines = []
    mean = found.field.origin
    if float(mean.norm()) > 1e-9 * found.field.scale:
        where = ", ".join(f"{value:.4g}" for value in mean[:4].tolist())
        more = ", ..." if len(mean) > 4 else ""
        lines.append(
            f"positions are counted from the law's mean ({where}{more}); VP and flow are of the "
            "law moved there"
        )
    for diagram in found.diagrams:
        ends = [float(branch.sigma[-1]) for branch in diagram.branches if branch.lost]
        if ends:
            lines.append(
                f"{diagram.dynamics.name}: {len(ends)} branches could not be followed beyond sigma "
                f"= {', '.join(f'{sigma:.4g}' for sigma in ends)}"
            )
        if diagram.wells > MOST:
            lines.append(
                f"{diagram.dynamics.name}: {MOST} of {diagram.wells} wells were followed; "
                "others may have saddle-nodes of their own"
            )
    return "\n".join(lines)


def record(found: Symmetry, places: list[list[Wells]]) -> dict:
    """symmetry.json."""
    every = {}
    for diagram, wells_at in zip(found.diagrams, places, strict=True):
        middle = diagram.centre
        changes = None if middle is None else [change._asdict() for change in middle.changes]
        nodes = []
        for fold, count in diagram.saddle_nodes:
            nodes.append({"sigma": fold.sigma, "branches": count, "position": fold.y.tolist()})
        every[diagram.dynamics.name] = {
            "centre": changes,
            "centre_stable_at_highest": None if middle is None else middle.stable_above,
            "saddle_nodes": nodes,
            "wells_at_lowest": diagram.wells,
            "lowest": diagram.lowest,
            "highest": diagram.highest,
            "wells": [
                {"sigma": one.sigma, "positions": one.y.tolist(), "farthest": one.farthest}
                for one in wells_at
            ],
        }
    return {
        "symmetric": found.symmetric,
        "asymmetry": found.asymmetry,
        "mean": found.field.origin.tolist(),
        "scale": found.field.scale,
        "axis": found.axis.tolist(),
        "dynamics": every,
    }


def branches(found: Symmetry) -> str:
    """branches.csv: every point of every branch."""
    names = [f"x{i}" for i in range(len(found.field.origin))]
    rows = []
    for diagram in found.diagrams:
        for number, branch in enumerate(diagram.branches):
            numbers = zip(
                branch.sigma.tolist(), branch.stable.tolist(), branch.y.tolist(), strict=True
            )
            for sigma, stable, y in numbers:
                place = [repr(value) for value in y]
                rows.append([diagram.dynamics.name, number, repr(sigma), int(stable), *place])
    return csv_text(["dynamics", "branch", "sigma", "stable", *names], rows)


def figures(folder: Path, found: Symmetry, places: list[list[Wells]]) -> None:
    """The potentials with their wells, and the bifurcation diagram, along one axis."""
    curves = []
    panels = []
    for diagram, wells_at in zip(found.diagrams, places, strict=True):
        curves.append((diagram.dynamics.name, potentials(found, diagram, wells_at)))
        panels.append(panel(diagram, found.axis))
    plot.potentials(folder / "potential.png", curves)
    plot.bifurcations(folder / "bifurcation.png", panels)


def potentials(found: Symmetry, diagram: Diagram, wells_at: list[Wells]) -> list[plot.Curve]:
    """The potential of one dynamics at each of the levels of `wells_at`, against the position in
    its chart. Wells away from the axis are not shown."""
    shown = []
    reach = 0.3 * found.field.scale
    for one in wells_at[:CURVES]:
        scale = float(diagram.dynamics.scale(torch.tensor(one.sigma)))
        along = one.y @ found.axis
        reach = max([reach, *(scale * along.abs()).tolist()])
        off = (one.y - along[:, None] * found.axis).norm(dim=1)
        shown.append((one.sigma, scale, scale * along[off < 1e-3 * found.field.scale]))
    widest = 1.6 * reach
    z = torch.linspace(-widest, widest, POINTS, dtype=torch.float64)
    curves = []
    for sigma, scale, wells_shown in shown:
        y = z[:, None] / scale * found.axis
        u = potential(found.field, diagram.dynamics, y, sigma)
        u = u - u[POINTS // 2]
        label = rf"$\sigma$ = {sigma:.3g}"
        curves.append(plot.Curve(label, z.numpy(), u.numpy(), wells_shown.numpy()))
    return curves


def panel(diagram: Diagram, axis: Tensor) -> plot.Panel:
    """The bifurcation diagram of one dynamics, along the axis, in its chart."""
    paths = []
    for branch in diagram.branches:
        along = diagram.dynamics.scale(branch.sigma) * (branch.y @ axis)
        paths.append(plot.Path(branch.sigma.numpy(), along.numpy(), branch.stable.numpy()))
    middle = diagram.centre
    centre = None
    critical = None
    if middle is not None:
        critical = None if middle.lost is None else middle.lost.sigma
        levels = torch.logspace(-3, 3, 2001, dtype=torch.float64) * diagram.critical
        levels = levels[levels >= diagram.lowest]
        stable = torch.full((len(levels),), middle.stable_above)
        for change in middle.changes:
            stable = torch.where(levels < change.sigma, not change.lost, stable)
        line = torch.zeros(len(levels), dtype=torch.float64)
        centre = plot.Path(levels.numpy(), line.numpy(), stable.numpy())
    nodes = [fold.sigma for fold, _ in diagram.saddle_nodes]
    return plot.Panel(diagram.dynamics.name, paths, centre, critical, nodes)
