"""Tables that need a model which is brought: the published numbers are the spec's, and their cells
stay empty or are filled."""

import csv
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from diffgeo.commands.reproduce.engine import cells_of, options, reproduce, spec_of
from diffgeo.errors import UsageError

# distance.md, A7 (the 2024 settings of GE), and the schedule table
CIFAR10 = {
    "GE, gamma 2": [12.57, 3.79, 3.32, 3.41],
    "DDIM": [47.20, 16.86, 8.28, 4.81],
    "PNDM": [13.9, 7.03, 5.00, 3.95],
    "DEIS": [18.43, 7.12, 4.53, 3.78],
}
CELEBA = {
    "DDIM": [32.21, 18.08, 11.81, 7.39],
    "PNDM": [11.3, 7.71, 5.51, 3.34],
    "DEIS": [25.07, 6.95, 3.41, 2.95],
}
# samplers.md, C2: 5 and 10 evaluations
SOLVERS = {
    "Euler": (49.66, 15.69),
    "DPM-Solver++(3M)": (24.97, 3.00),
    "UniPC-3": (23.98, 2.89),
    "DEIS-tAB3": (14.39, 4.09),
    "iPNDM-4": (13.59, 2.77),
    "iPNDM_v-4 as published": (23.58, 4.95),
}


def published(name: str) -> dict[str, float]:
    return {
        c.name: c.published["fid"]
        for c in cells_of(spec_of(name), "paper", Path("out"))
        if c.published
    }


def test_the_published_numbers_are_those_of_the_specs():
    for name, rows in (("ge/cifar10", CIFAR10), ("ge/celeba", CELEBA)):
        table = published(name)
        for sampler, fids in rows.items():
            assert [table[f"{sampler}, {n} steps"] for n in (5, 10, 20, 50)] == fids
    cifar10 = published("ge/cifar10")
    celeba = published("ge/celeba")
    for schedule, fids in {
        "ddim_offset": (14.18, 15.38),
        "ge_edm": (20.85, 16.72),
        "ge_loglinear": (13.25, 13.55),
    }.items():
        assert (
            cifar10[f"DDIM on {schedule}, 10 steps"],
            celeba[f"DDIM on {schedule}, 10 steps"],
        ) == fids
    solvers = published("solvers/cifar10")
    for solver, fids in SOLVERS.items():
        assert (solvers[f"{solver}, 5"], solvers[f"{solver}, 10"]) == fids
    assert (
        solvers["Heun, 5 steps of 2 evaluations"] == 15.93
        and solvers["DPM-Solver-2, 5 steps of 2 evaluations"] == 5.01
    )


def test_without_a_model_the_cells_stay_empty_and_say_how_to_fill_them(tmp_path, capsys):
    reproduce("ge/cifar10", "quick", tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert (
        "| GE, gamma 2, 10 steps | 3.79 | - | - |" in " ".join(text.split())
        and "`diffgeo reproduce ge/cifar10 checkpoint=PATH`" in text
    )
    assert "`diffgeo sample model=ddim_checkpoint model.path=PATH data=cifar10" in text
    rows = [
        row for row in csv.DictReader((tmp_path / "table.csv").open()) if row["metric"] == "fid"
    ]
    assert len(rows) == 27 and all(row["published"] and not row["measured"] for row in rows)


def test_a_model_that_is_brought_takes_the_place_of_its_word(tmp_path):
    file = tmp_path / "a file.ckpt"
    file.touch()
    name, budget, out, brought, _ = options(["ge/cifar10", f"checkpoint={file}"])
    cell = cells_of(spec_of(name), budget, out, brought)[0]
    assert (
        not cell.empty
        and f"model=ddim_checkpoint model.path='{file}'" in cell.command
        and "{" not in cell.command
    )
    with pytest.raises(UsageError, match="there is no such file"):
        options(["ge/cifar10", "checkpoint=nowhere.ckpt"])
    with pytest.raises(
        UsageError, match="write budget=..., out=..., data.root=..., checkpoint=..., run=..."
    ):
        options(["ge/cifar10", "model=x"])
    with pytest.raises(UsageError, match="one table takes one model"):
        options(["ge/cifar10", f"checkpoint={file}", f"run={tmp_path}"])
    with pytest.raises(UsageError, match="reproduce cem/line has no option checkpoint"):
        options(["cem/line", f"checkpoint={file}"])


def test_a_cell_may_have_a_budget_of_its_own(tmp_path):
    spec = OmegaConf.create(
        {
            "budget": {"quick": ["n=1"]},
            "cells": [
                {"name": "a", "command": "train"},
                {"name": "b", "command": "train", "budget": {"quick": ["n=2"]}},
            ],
        }
    )
    assert [c.command for c in cells_of(spec, "quick", tmp_path)] == [
        "train n=1 figures=false",
        "train n=2 figures=false",
    ]
