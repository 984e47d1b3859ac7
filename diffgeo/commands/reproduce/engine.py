"""The engine of `diffgeo reproduce`: from a file of conf/reproduce to a table, published and
measured side by side."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from diffgeo.commands.reproduce.roots import reads_images
from diffgeo.config import words
from diffgeo.config.build import build
from diffgeo.config.catalogue import commands, split
from diffgeo.config.drawings import draws
from diffgeo.config.line import conf_dir, prepare
from diffgeo.config.nearest import advice
from diffgeo.config.plugins import searchpath
from diffgeo.config.words import Reader
from diffgeo.errors import UsageError
from diffgeo.metrics.suite import pairs_of_floors, star_line, within_floor
from diffgeo.run import Job
from diffgeo.store import lock
from diffgeo.store.drawing import figures_in
from diffgeo.store.files import read_json, sweep, write_text
from diffgeo.tables import csv_text, markdown

ROOT = "data.root"  # of the sets of images
# how much of a published experiment is run
BUDGET = Reader({"paper": "paper", "quick": "quick"}.__getitem__, "budget=paper or budget=quick")


@dataclass(frozen=True)
class Cell:
    """One row: the command (without `diffgeo`; "" where there is none), the published numbers, its
    run folder, and the measured numbers; none for an `empty` cell, whose model is not at hand."""

    name: str
    command: str
    published: dict[str, float]
    folder: Path
    empty: bool = False

    def metrics(self) -> dict[str, float]:
        return {} if self.empty else read_json(self.folder / "metrics.json")


def names() -> dict[str, str]:
    """Every reproduction and the first comment of its file."""
    root = conf_dir() / "reproduce"
    found = {}
    for path in sorted(root.rglob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            found[str(path.relative_to(root).with_suffix(""))] = (
                file.readline().lstrip("# ").strip()
            )
    return found


def existing(path: str) -> str:
    """A path to something. Raises UsageError where nothing is there."""
    if not Path(path).exists():
        raise UsageError(f"{path}: there is no such file or folder")
    return path


def options(arguments: Sequence[str]) -> tuple[str, str, Path, dict[str, str], str | None]:
    """(name, budget, folder, the model and the other paths that were brought, data.root). Raises
    UsageError on anything else."""
    name, *rest = arguments
    if name not in names():
        told = advice(name, names(), "`diffgeo reproduce list`")
        raise UsageError(f"there is no reproduction '{name}'{told}")
    spec = spec_of(name)
    models = spec.get("models", {})
    paths = spec.get("paths", {})
    brings = dict.fromkeys([*models, *paths], Reader(existing, "a path"))
    known = {"budget": BUDGET, "out": words.PATH, ROOT: Reader(existing, "a path")} | brings
    asked = {"budget": "quick"} | words.options(f"reproduce {name}", rest, known)
    own = {model: asked[model] for model in models if model in asked}
    if len(own) > 1:
        named = " and ".join(f"{model}={path}" for model, path in own.items())
        raise UsageError(f"{named}: one table takes one model; write one of them")
    brought = own | {path: asked[path] for path in paths if path in asked}
    budget = asked["budget"]
    folder = asked.get("out", Path(f"outputs/reproduce/{name}-{budget}"))
    return name, budget, folder, brought, asked.get(ROOT)


def spec_of(name: str):
    return OmegaConf.load(conf_dir() / "reproduce" / f"{name}.yaml")


def execute(line: str, folder: Path) -> None:
    """Run `train ...`, `sample ...`, `theory certify ...` in this process, into `folder`; a command
    without a config takes it as out=FOLDER."""
    from hydra import compose, initialize_config_dir

    name, typed = split(shlex.split(line))
    command = commands()[name]
    if not command.configured:
        with lock.job():
            command.module().main([*typed, f"out={folder}"])
        return
    overrides = prepare(name, typed)
    searchpath.join()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(command.path, overrides)
    with lock.job():
        command.module().main(config, Job(folder, tuple(overrides)))


def plain(name: str) -> str:
    """A cell's name as the name of its folder."""
    return re.sub(r"\W+", "_", name).strip("_")


def filled(node, values: Mapping[str, object]):
    """A node of a spec, $name in its words replaced by the value of that name."""
    if isinstance(node, dict):
        return {key: filled(child, values) for key, child in node.items()}
    if isinstance(node, list):
        return [filled(child, values) for child in node]
    return Template(node).substitute(values) if isinstance(node, str) else node


def own_published(published: Mapping, number: int) -> dict:
    """The published numbers of one combination: of a list, its own entry; null is none."""
    own = {}
    for key, value in published.items():
        mine = value[number] if isinstance(value, list) else value
        if mine is not None:
            own[key] = mine
    return own


def expanded(entries) -> list[dict]:
    """A spec's entries as plain dicts; one with `for: {name: [values]}` stands for every
    combination, $name in it for the value; of a list among its published numbers each combination
    takes its own, null for none."""
    out = []
    for entry in OmegaConf.to_container(entries, resolve=False):
        over = entry.pop("for", {})
        for number, values in enumerate(product(*over.values())):  # without `for`: once
            cell = filled(entry, dict(zip(over, values, strict=True)))
            if over and "published" in cell:
                cell["published"] = own_published(cell["published"], number)
            out.append(cell)
    return out


def cells_of(
    spec, budget: str, out: Path, brought: Mapping[str, str] = {}, root: str | None = None
) -> list[Cell]:
    """The cells of a spec with the budget's overrides, their own or the spec's. In a command {NAME}
    is the folder of the cell of that name, {common} what the spec says its cells share, and {model}
    the model that was brought; a cell that asks for one stays empty without it. Each of the spec's
    `paths` stands for its options where it was brought, else for nothing. A command that reads a
    set of images finds it below `root`."""
    cells: dict[str, Cell] = {}
    models = OmegaConf.to_container(spec.get("models", OmegaConf.create({})))
    own = [model for model in models if model in brought]
    model = next(iter(own or models), None)
    known = {"common": spec.get("common", "")}
    if model is not None:
        path = shlex.quote(brought.get(model, "PATH"))
        known["model"] = models[model].format(**{model: path})
    for option, text in spec.get("paths", {}).items():
        path = shlex.quote(brought.get(option, "PATH"))
        left_out = (own or not models) and option not in brought
        known[option] = "" if left_out else text.format(**{option: path})
    for entry in expanded(spec.cells):
        name = entry["name"]
        folder = out / plain(name)
        line = entry.get("command")
        if line is None:  # published, and nothing here can make it
            cells[name] = Cell(name, "", entry["published"], folder, empty=True)
            continue
        brings = "{model}" in line
        command = " ".join(line.format(**known).split())
        parts = [command]
        if line.startswith(("train", "theory", "trajectory")) or brings or "budget" in entry:
            parts += entry.get("budget", spec.budget)[budget]
        if commands()[split(command.split())[0]].configured:
            parts.append("figures=false")
        if root is not None and reads_images(command):
            parts.append(f"{ROOT}={shlex.quote(root)}")
        published = entry.get("published", {})
        empty = brings and not own
        cells[name] = Cell(name, " ".join(parts), published, folder, empty)
        known[plain(name)] = folder
    return list(cells.values())


# what stands beside a number, and what +- then says
SPREADS = {
    "_sd": "the standard deviation of one draw",
    "_se": "the standard error",
}


def shown(values: Mapping[str, float], key: str) -> str:
    """A number as the table shows it, with the spread that stands beside it; - where there is none,
    or null."""
    if values.get(key) is None:
        return "-"
    for side in SPREADS:
        if key + side in values:
            return f"{values[key]:.4g} +- {values[key + side]:.2g}"
    return f"{values[key]:.4g}"


def spreads_shown(cells: list[Cell], columns: Sequence[str]) -> str:
    """What +- means in the columns of a table; "" where none has a spread."""
    every = {key for cell in cells for key in cell.metrics()}
    told = [text for side, text in SPREADS.items() if every & {key + side for key in columns}]
    return f"+- is {', or '.join(told)}\n" if told else ""


def table(cells: list[Cell], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each column the published and the measured value; after them the floors,
    where the cells share them."""
    published = [key for key in columns if any(key in cell.published for cell in cells)]
    header = ["cell", *headings(columns, published)]
    rows = []
    for cell in cells:
        metrics = cell.metrics()
        row = [cell.name]
        for key in columns:
            if key in published:
                row.append(shown(cell.published, key))
            row.append(shown(metrics, key) + (" *" if within_floor(metrics, key) else ""))
        rows.append(row)
    for label, suffix in (("noise floor", "_floor"), ("last step's noise", "_last_step_noise")):
        floors = shared_floors(cells, columns, suffix)
        if floors:
            row = [label]
            for key in columns:
                row += ["", shown(floors, key)] if key in published else [shown(floors, key)]
            rows.append(row)
    return header, rows


def headings(columns: Sequence[str], published: Sequence[str]) -> list[str]:
    """One heading a column, two where there is a published number beside the measured one."""
    groups = {key.rpartition("/")[0] for key in columns}
    out = []
    for key in columns:
        # a group that all share is no news
        short = key.rpartition("/")[2] if len(groups) == 1 else key
        out += [f"{short} published", "measured"] if key in published else [f"{short} measured"]
    return out


def shared_floors(cells: list[Cell], columns: Sequence[str], suffix: str) -> dict[str, float]:
    """What stands in the first cell that has them under each column's key and `suffix`; nothing,
    where the cells are of several laws and so have several floors."""
    every = [cell.metrics() for cell in cells]
    for key in columns:
        if len({metrics[f"{key}_floor"] for metrics in every if f"{key}_floor" in metrics}) > 1:
            return {}
    for metrics in every:
        found = {key: metrics[key + suffix] for key in columns if key + suffix in metrics}
        if found:
            return found
    return {}


def every_number(cells: list[Cell]) -> str:
    """Every published and measured number of every cell, as CSV."""
    rows = []
    for cell in cells:
        numbers = dict.fromkeys(cell.published, "") | cell.metrics()
        for key, measured in numbers.items():
            rows.append([cell.name, key, cell.published.get(key, ""), measured])
    return csv_text(["cell", "metric", "published", "measured"], rows)


def drawn(spec, cells: list[Cell], out: Path) -> list[str]:
    """Draw the figures of a spec into `out`; the texts that they add to the report."""
    by_name = {cell.name: cell for cell in cells}
    texts = []
    for node in expanded(spec.get("figures", OmegaConf.create([]))):
        figure = build(OmegaConf.create({"figure": node}).figure, _convert_="all")
        text = figure(out, by_name)
        if text:
            texts.append(text)
    return texts


def report(name: str, spec, cells: list[Cell], size: str, out: Path) -> str:
    """The report as text: the table, what the figures say, the findings, the commands."""
    header, rows = table(cells, spec.columns)
    text = [f"# {name}: {spec.title}", f"\n{size}\n", markdown(header, rows)]
    if any(cell.endswith(" *") for row in rows for cell in row):
        pairs: set[int] = set()
        for metrics in (cell.metrics() for cell in cells):
            starred = [key for key in spec.columns if within_floor(metrics, key)]
            pairs |= pairs_of_floors(metrics, starred)
        text.append(star_line(pairs) + "\n")
    if spreads := spreads_shown(cells, spec.columns):
        text.append(spreads)
    text += drawn(spec, cells, out)
    text.append("What to see\n")
    text += [f"- {' '.join(finding.split())}" for finding in spec.get("findings", [])]
    if any(cell.empty and cell.command for cell in cells):
        brings = [f"{key}=PATH" for key in (next(iter(spec.models)), *spec.get("paths", {}))]
        line = " ".join(["diffgeo reproduce", name, *brings])
        text.append(f"- Cells marked - have no model here: `{line}` fills them.")
    text.append("\nCommands\n")
    text += [f"- {cell.name}: `diffgeo {cell.command}`" for cell in cells if cell.command]
    return "\n".join(text)


def reproduce(
    name: str,
    budget: str,
    out: Path,
    brought: Mapping[str, str] = {},
    root: str | None = None,
) -> None:
    """Run the commands of conf/reproduce/NAME.yaml and write the report into `out`. Raises
    UsageError on a `root` that none of them reads from."""
    spec = spec_of(name)
    cells = cells_of(spec, budget, out, brought, root)
    if root is not None and not any(f" {ROOT}=" in cell.command for cell in cells):
        raise UsageError(f"reproduce {name} reads no set of images: leave {ROOT}={root} out")
    size = f"budget={budget}: {' '.join(spec.budget[budget]) or 'as published'}"
    sweep(out)
    print(f"{name}: {spec.title}\n{size}\n")
    for cell in cells:
        if not cell.empty:
            print(f"== {cell.name}: diffgeo {cell.command}")
            execute(cell.command, cell.folder)
    text = report(name, spec, cells, size, out)
    write_text(out / "table.csv", every_number(cells))
    write_text(out / "table.md", text + "\n")
    print("\n" + text)
    pictures = "".join(f", {path.name}" for path in figures_in(out))
    print(f"\nwritten: {out}/table.md, table.csv{pictures}")


@draws
def main(arguments: list[str]) -> None:
    if arguments in ([], ["list"]):
        print("\n".join(f"{name:<16} {text}" for name, text in names().items()))
        return
    reproduce(*options(arguments))
