"""Reproductions: every spec names real commands, and a small one gives the table that it should."""
import csv
import json
import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from diffgeo.cli import conf_dir, prepare
from diffgeo.commands.reproduce import cells_of, names, plain
from diffgeo.errors import UsageError


@pytest.mark.parametrize("name", names())
def test_every_cell_composes_and_the_budgets_exist(name, tmp_path):
    spec = OmegaConf.load(conf_dir() / "reproduce" / f"{name}.yaml")
    cells = cells_of(spec, "paper", tmp_path)
    assert len({c.folder for c in cells}) == len(cells)
    for cell in cells:
        verb, *line = shlex.split(cell.command)
        line = prepare(verb, line, conf_dir())
        cell.folder.mkdir()                                         # what a later cell's run= reads
        (cell.folder / "config.yaml").touch()
        (cell.folder / "overrides.yaml").write_text(json.dumps(line))
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            compose(verb, line)
    shown = {c for figure in spec.get("figures", []) for c in figure.get("cells", [])}
    assert shown <= {c.name for c in cells} and "quick" in spec.budget


def test_the_published_numbers_are_those_of_the_spec():
    spec = OmegaConf.load(conf_dir() / "reproduce/cem/line.yaml")
    published = {c.name: dict(c.published) for c in spec.cells if "published" in c}
    assert published["CEM"]["distance/mean"] < published["DDPM"]["distance/mean"] < published["SGM"]["distance/mean"]
    assert published["CEM"]["transport/w2"] > published["SGM"]["transport/w2"] > published["DDPM"]["transport/w2"]


def test_a_small_one_ends_in_a_table(inside, tmp_path, monkeypatch):
    done = inside("reproduce", "list")
    assert "cem/line" in done.stdout and done.returncode == 0
    done = inside("reproduce", "cem/t_min")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs/reproduce/cem/t_min-quick"
    rows = {(r["cell"], r["metric"]): r["measured"] for r in csv.DictReader((folder / "table.csv").open())}
    errors = [float(rows[f"p = {p}", "distance/mean"]) for p in (1, 2, 3)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]              # a smaller last time, a smaller error: the paper's Figure 7
    assert (folder / "clouds.png").is_file() and "budget=quick" in (folder / "table.md").read_text()
    again = inside("reproduce", "cem/t_min")
    assert again.stdout.count("is finished") == 6


def test_names():
    assert plain("lambda = (e^t-1)^-1") == "lambda_e_t_1_1"
    with pytest.raises(UsageError, match="budget=all"):
        from diffgeo.commands.reproduce import options
        options(["cem/line", "budget=all"])
