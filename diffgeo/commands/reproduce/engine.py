"""`diffgeo reproduce NAME [budget=paper|quick] [out=FOLDER]`: a published table or figure,
published and measured side by side.

Each conf/reproduce/NAME.yaml lists cells: a name, the command that makes it, and the published
numbers. The engine runs the commands (a cell that is finished is not run again), prints the table
and writes table.md, table.csv and the figures that the file names. `reproduce list` lists the
names.

Some tables need a model that is brought: their `models` say which options name one
(checkpoint=FILE, run=FOLDER). Without it their cells stay empty, and the commands that would fill
them are listed.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from diffgeo.cli import PLAIN, module, split
from diffgeo.config.line import conf_dir, prepare
from diffgeo.errors import UsageError
from diffgeo.store.files import read_json, write_text

BUDGETS = ("paper", "quick")


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
    return {
        str(p.relative_to(root).with_suffix("")): p.read_text().splitlines()[0].lstrip("# ")
        for p in sorted(root.rglob("*.yaml"))
    }


def options(arguments: Sequence[str]) -> tuple[str, str, Path, dict[str, str]]:
    """(name, budget, folder, what was brought). Raises UsageError on anything else."""
    name, *rest = arguments
    if name not in names():
        raise UsageError(
            f"there is no reproduction '{name}'; write one of {', '.join(names())}, or `diffgeo "
            "reproduce list`"
        )
    models = spec_of(name).get("models", {})
    known = {"budget": "quick", "out": ""} | dict.fromkeys(models, "")
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not equals or not value or key not in known:
            brought = "".join(f", {model}=PATH" for model in models)
            raise UsageError(
                f"reproduce {name}: '{argument}' is not an option; write budget=paper or "
                f"budget=quick, out=FOLDER{brought}"
            )
        known[key] = value
    if known["budget"] not in BUDGETS:
        raise UsageError(f"budget={known['budget']} is unknown; write budget=paper or budget=quick")
    brought = {key: value for key, value in known.items() if key in models and value}
    if len(brought) > 1:
        raise UsageError(
            f"{' and '.join(f'{k}={v}' for k, v in brought.items())}: one table takes one model; "
            "write one of them"
        )
    if missing := [f"{k}={v}" for k, v in brought.items() if not Path(v).exists()]:
        raise UsageError(f"{missing[0]}: there is no such file or folder")
    return (
        name,
        known["budget"],
        Path(known["out"] or f"outputs/reproduce/{name}-{known['budget']}"),
        brought,
    )


def spec_of(name: str):
    return OmegaConf.load(conf_dir() / "reproduce" / f"{name}.yaml")


def execute(command: str, folder: Path) -> None:
    """Run `train ...`, `sample ...`, `theory certify ...` in this process, into `folder`; one
    without a config takes it as out=FOLDER."""
    from hydra import compose, initialize_config_dir

    command, words = split(shlex.split(command))
    if command in PLAIN:
        module(command).main([*words, f"out={folder}"])
        return
    overrides = prepare(command, words)
    verb = command.replace(" ", "_")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(command.replace(" ", "/"), overrides)
    getattr(module(command), verb)(cfg, folder, overrides)


def plain(name: str) -> str:
    """A cell's name as the name of its folder."""
    return re.sub(r"\W+", "_", name).strip("_")


def expanded(entries) -> list[dict]:
    """A spec's entries as plain dicts; one with `for: {name: [values]}` stands for every
    combination, $name in it for the value; of a list among its published numbers each combination
    takes its own, null for none."""

    def fill(node, values):
        if isinstance(node, dict):
            return {k: fill(v, values) for k, v in node.items()}
        if isinstance(node, list):
            return [fill(v, values) for v in node]
        return Template(node).substitute(values) if isinstance(node, str) else node

    out = []
    for entry in OmegaConf.to_container(entries, resolve=False):
        over = entry.pop("for", {})
        for i, values in enumerate(product(*over.values())):  # without `for`: once
            cell = fill(entry, dict(zip(over, values, strict=True)))
            if over and "published" in cell:
                own = {k: v[i] if isinstance(v, list) else v for k, v in cell["published"].items()}
                cell["published"] = {k: v for k, v in own.items() if v is not None}
            out.append(cell)
    return out


def cells_of(spec, budget: str, out: Path, brought: Mapping[str, str] = {}) -> list[Cell]:
    """The cells of a spec with the budget's overrides, their own or the spec's. In a command {NAME}
    is the folder of the cell of that name, {common} what the spec says its cells share, and {model}
    the model that was brought; a cell that asks for one stays empty without it."""
    cells: dict[str, Cell] = {}
    models = OmegaConf.to_container(spec.get("models", OmegaConf.create({})))
    model = next(iter(brought), next(iter(models), None))
    for entry in expanded(spec.cells):
        name = entry["name"]
        command = entry.get("command")
        if command is None:  # published, and nothing here can make it
            cells[name] = Cell(name, "", entry["published"], out / plain(name), empty=True)
            continue
        empty = "{model}" in command and not brought
        words = {plain(k): c.folder for k, c in cells.items()} | {"common": spec.get("common", "")}
        if model is not None:
            words["model"] = models[model].format(
                **{model: shlex.quote(brought.get(model, "PATH"))}
            )
        extra = (
            entry.get("budget", spec.budget)[budget]
            if command.startswith(("train", "theory")) or "{model}" in command
            else []
        )
        plainly = split(command.split())[0] in PLAIN
        command = " ".join(
            [command.format(**words), *extra, *([] if plainly else ["figures=false"])]
        )
        cells[name] = Cell(name, command, entry.get("published", {}), out / plain(name), empty)
    return list(cells.values())


def shown(values: dict[str, float], key: str, digits: str = ".4g") -> str:
    return f"{values[key]:{digits}}" if key in values else "-"


def table(cells: list[Cell], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each column the published and the measured value; after them the floors,
    where the cells share them."""
    from diffgeo.metrics.suite import within_floor

    published = [k for k in columns if any(k in c.published for c in cells)]
    groups = {k.rpartition("/")[0] for k in columns}
    # a group that all share is no news
    short = {k: k.rpartition("/")[2] if len(groups) == 1 else k for k in columns}
    header = [
        "cell",
        *(
            part
            for k in columns
            for part in (
                (f"{short[k]} published", "measured")
                if k in published
                else (f"{short[k]} measured",)
            )
        ),
    ]
    rows = []
    for cell in cells:
        metrics = cell.metrics()
        row = [cell.name]
        for k in columns:
            measured = shown(metrics, k) + (" *" if within_floor(metrics, k) else "")
            row += [shown(cell.published, k), measured] if k in published else [measured]
        rows.append(row)
    one_law = all(
        len({c.metrics()[k + "_floor"] for c in cells if k + "_floor" in c.metrics()}) <= 1
        for k in columns
    )
    for label, suffix in (("noise floor", "_floor"), ("last step's noise", "_last_step_noise")):
        if one_law and any(k + suffix in c.metrics() for c in cells for k in columns):
            source = next(
                c.metrics() for c in cells if any(k + suffix in c.metrics() for k in columns)
            )
            row = [label]
            for k in columns:
                row += (
                    ["", shown(source, k + suffix)]
                    if k in published
                    else [shown(source, k + suffix)]
                )
            rows.append(row)
    return header, rows


def reproduce(name: str, budget: str, out: Path, brought: Mapping[str, str] = {}) -> None:
    from diffgeo.commands.compare import markdown
    from diffgeo.run import build

    spec = spec_of(name)
    cells = cells_of(spec, budget, out, brought)
    print(
        f"{name}: {spec.title}\nbudget={budget}: "
        f"{' '.join(spec.budget[budget]) or 'as published'}\n"
    )
    for cell in (c for c in cells if not c.empty):
        print(f"== {cell.name}: diffgeo {cell.command}")
        execute(cell.command, cell.folder)
    text = [
        f"# {name}: {spec.title}",
        f"\nbudget={budget}: {' '.join(spec.budget[budget]) or 'as published'}\n",
    ]
    header, rows = table(cells, spec.columns)
    text += [
        markdown(header, rows),
        *(
            ["* within floor + 4 sd\n"]
            if any(cell.endswith(" *") for row in rows for cell in row)
            else []
        ),
    ]
    for figure in expanded(spec.get("figures", OmegaConf.create([]))):
        made = build(OmegaConf.create(figure), _convert_="all")(out, {c.name: c for c in cells})
        text += [made] if made else []
    text += [
        "What to see\n",
        *(f"- {' '.join(finding.split())}" for finding in spec.get("findings", [])),
    ]
    if any(c.empty and c.command for c in cells):
        text += [
            f"- Cells marked - have no model here: `diffgeo reproduce {name} "
            f"{next(iter(spec.models))}=PATH` fills them."
        ]
    text += ["\nCommands\n"]
    text += [f"- {c.name}: `diffgeo {c.command}`" for c in cells if c.command]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(
        [
            ["cell", "metric", "published", "measured"],
            *(
                [c.name, k, c.published.get(k, ""), v]
                for c in cells
                for k, v in (dict.fromkeys(c.published, "") | c.metrics()).items()
            ),
        ]
    )
    write_text(out / "table.csv", buffer.getvalue())
    write_text(out / "table.md", "\n".join(text) + "\n")
    print("\n" + "\n".join(text))
    print(
        f"\nwritten: {out}/table.md, table.csv"
        + "".join(f", {p.name}" for p in sorted(out.glob("*.png")))
    )


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("list", "-h", "--help"):
        if arguments and arguments[0] != "list":
            print(__doc__.strip() + "\n")
        print("\n".join(f"{name:<16} {text}" for name, text in names().items()))
        return
    reproduce(*options(arguments))
