"""Reproductions: every spec names real commands, and a small one gives the table that it should."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffgeo.commands.reproduce.engine import (
    cells_of,
    expanded,
    names,
    options,
    plain,
    reproduce,
    spec_of,
)
from diffgeo.config.catalogue import commands, split
from diffgeo.config.line import conf_dir, prepare
from diffgeo.errors import UsageError


@pytest.mark.parametrize("name", names())
def test_every_cell_composes_and_the_budgets_exist(name, tmp_path):
    spec = OmegaConf.load(conf_dir() / "reproduce" / f"{name}.yaml")
    cells = cells_of(spec, "paper", tmp_path)
    assert len({c.folder for c in cells}) == len(cells)
    # of cells that differ in numbers alone, the last
    kinds = {re.sub(r"\d+", "", c.command): c for c in cells if c.command}
    for cell in (c for c in cells if c.command):
        command, line = split(shlex.split(cell.command))
        if not commands()[command].configured:  # no config to compose
            continue
        line = prepare(command, line)
        cell.folder.mkdir()  # what a later cell's run= reads
        (cell.folder / "config.yaml").write_text("# diffgeo\n")
        (cell.folder / "overrides.yaml").write_text(json.dumps(line))
        if cell in kinds.values():
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                compose(command.replace(" ", "/"), line)
    shown = {
        c
        for figure in expanded(spec.get("figures", OmegaConf.create([])))
        for c in figure.get("cells", [])
    }
    assert shown <= {c.name for c in cells} and "quick" in spec.budget


def test_the_published_numbers_are_those_of_the_spec():
    """The published clouds as cem.md measured them again: mean, median, q99 of the distance, tang,
    exact W2."""
    keys = ("distance/mean", "distance/median", "distance/q99", "tangential/w2", "transport/w2")
    clouds = {
        "line": {
            "CEM": (0.00819, 0.0068, 0.027, 0.284, 0.289),
            "DDPM": (0.0590, 0.0494, 0.193, 0.059, 0.118),
            "SGM": (0.1091, 0.0891, 0.404, 0.031, 0.148),
        },
        "curve": {
            "CEM": (0.0224, 0.0201, 0.060, 5.85, 1.92),
            "DDPM": (0.1078, 0.0869, 0.399, 4.49, 1.88),
            "SGM": (0.2331, 0.178, 1.05, 6.66, 2.11),
        },
    }
    for law, rows in clouds.items():
        spec = OmegaConf.load(conf_dir() / f"reproduce/cem/{law}.yaml")
        published = {
            c.name: tuple(c.published[k] for k in keys) for c in spec.cells if c.name in rows
        }
        assert published == rows


@pytest.mark.slow
def test_the_paper_s_ordering_by_distance_and_cem_last_by_w2(inside, tmp_path):
    """Quick budget on the line: CEM < DDPM < SGM by distance; DDPM < SGM < CEM by W2, as in each of
    six seeds; on the sampling grid DDPM is at the floor."""
    assert inside("reproduce", "cem/line").returncode == 0
    table = csv.DictReader((tmp_path / "outputs/reproduce/cem/line-quick/table.csv").open())
    rows = {(r["cell"], r["metric"]): float(r["measured"]) for r in table}
    d, w2 = (
        {c: rows[c, key] for c in ("CEM", "DDPM", "SGM")}
        for key in ("distance/mean", "transport/w2")
    )
    assert d["CEM"] < d["DDPM"] < d["SGM"] and w2["DDPM"] < w2["SGM"] < w2["CEM"]
    assert rows["DDPM trained on the sampling grid", "distance/mean"] < 0.0085
    assert rows["the same without the last noise", "distance/mean"] < 0.0012


def test_a_small_one_ends_in_a_table(inside, tmp_path, monkeypatch):
    """As it is typed, with fewer samples than are published."""

    def smaller(name):
        spec = spec_of(name)
        for cell in spec.cells:
            cell.command += " n=2000 metrics.transport.n=500"
        return spec

    monkeypatch.setattr("diffgeo.commands.reproduce.engine.spec_of", smaller)
    done = inside("reproduce", "list")
    assert "cem/line" in done.stdout and done.returncode == 0
    done = inside("reproduce", "cem/t_min")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs/reproduce/cem/t_min-quick"
    rows = {
        (r["cell"], r["metric"]): r["measured"]
        for r in csv.DictReader((folder / "table.csv").open())
    }
    errors = [float(rows[f"p = {p}", "distance/mean"]) for p in (1, 2, 3)]
    # a smaller last time, a smaller error: the paper's Figure 7
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert (folder / "clouds.png").is_file() and "budget=quick" in (folder / "table.md").read_text()
    again = inside("reproduce", "cem/t_min")
    assert again.stdout.count("is finished") == 6


def test_names():
    assert plain("lambda = (e^t-1)^-1") == "lambda_e_t_1_1"
    with pytest.raises(UsageError, match="budget=all"):
        options(["cem/line", "budget=all"])


def test_a_reproduction_is_told_where_its_images_lie(tmp_path):
    """data.root= goes to every command that reads a set of images, by data= or by its experiment,
    and is refused where none does."""
    modes = cells_of(spec_of("gauss/modes"), "quick", tmp_path, root="my sets")
    assert [" data.root='my sets'" in cell.command for cell in modes] == [False, False, True]
    mnist = cells_of(spec_of("cem/mnist"), "quick", tmp_path, root="r")
    assert all(" data.root=r" in cell.command for cell in mnist if cell.command)
    network = cells_of(spec_of("ge/cifar10"), "quick", tmp_path, {"run": "net"}, "r")
    assert all(" data.root=r" in cell.command for cell in network if cell.command)
    assert options(["gauss/modes", f"data.root={tmp_path}"])[-1] == str(tmp_path)
    with pytest.raises(UsageError, match="there is no such file or folder"):
        options(["gauss/modes", "data.root=nowhere"])
    with pytest.raises(UsageError, match="reads no set of images"):
        reproduce("cem/points", "quick", tmp_path / "out", root=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_an_entry_for_several_values_stands_for_every_combination():
    entries = OmegaConf.create(
        [
            {"name": "one"},
            {"for": {"a": ["x", "y"], "b": [1, 0.5]}, "name": "$a $b", "cells": ["${a}_", 3]},
        ]
    )
    assert expanded(entries) == [
        {"name": "one"},
        *({"name": f"{a} {b}", "cells": [f"{a}_", 3]} for a in "xy" for b in (1, 0.5)),
    ]
    toy = cells_of(OmegaConf.load(conf_dir() / "reproduce/ge/toy.yaml"), "quick", Path("out"))
    assert len(toy) == 3 * (1 + 5 + 6)
    (run,) = (c for c in toy if c.name == "tree, gamma 1.5, mu 0")
    assert (
        run.command
        == "sample run=out/tree_gamma_2_mu_0 sampler.gamma=1.5 sampler.mu=0 figures=false"
    )


def test_published_numbers_of_other_features_are_words_and_no_empty_column(tmp_path):
    """cem/mnist: 56.55 and 63.64 stand in the rows' names, in the findings and in table.csv, and
    every column of the table is one that is measured."""
    spec = spec_of("cem/mnist")
    cells = cells_of(spec, "quick", tmp_path)
    by_method = {cell.name.split(",")[0]: cell for cell in cells if cell.published}
    for method, number in (("CEM", 56.55), ("DDPM", 63.64)):
        assert str(number) in by_method[method].name and str(number) in spec.findings[0]
        assert by_method[method].published == {"FID in ImageNet features": number}
    assert "cannot be had here" in " ".join(spec.findings[0].split())
    assert not any("published" in column for column in spec.columns)
