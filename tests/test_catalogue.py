"""Commands and figures are found in the folders that hold them; plain lines have one reader."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import ListConfig

from diffgeo.config.catalogue import ROOT, commands, families, split
from diffgeo.config.kinds import choices
from diffgeo.config.line import bracketed, conf_dir, list_options, own_options
from diffgeo.config.words import COUNTS, PATH, TRUTH, WHOLE, options
from diffgeo.errors import UsageError
from diffgeo.report.figures import chosen, figure, names


def test_every_command_is_what_its_folder_says():
    """A module whose docstring begins with its own name, a line on what it is for, and a main that
    takes a config and a job where conf/ has a config of that name."""
    found = commands()
    assert {"train", "sample", "theory gaussian", "data list", "reproduce"} <= set(found)
    assert {name.split()[0] for name in found if " " in name} == families()
    assert {"data", "theory"} <= families()
    for name, command in found.items():
        assert command.help.startswith(f"`diffgeo {name}`: {command.about}")
        assert len(command.about) > 20 and command.source.is_relative_to(ROOT)
        takes = len(inspect.signature(command.module().main).parameters)
        assert takes == (2 if command.configured else 1)
    configs = {str(p.relative_to(conf_dir()).with_suffix("")) for p in conf_dir().glob("*.yaml")}
    assert configs - {"base"} <= set(found)
    assert split(["theory", "gits", "n=3"]) == ("theory gits", ["n=3"])
    assert split(["train", "gits"]) == ("train", ["gits"])


def test_a_command_may_be_the_first_word_of_others(monkeypatch):
    """`diffgeo trajectory` runs, and so does `diffgeo trajectory jump`; a second word that sets
    nothing is a command, known or not."""
    known = {name: commands()["train"] for name in ("theory orders", "way", "way jump", "train")}
    monkeypatch.setattr("diffgeo.config.catalogue.commands", lambda: known)
    assert split(["way"]) == ("way", [])
    assert split(["way", "n=3"]) == ("way", ["n=3"])
    assert split(["way", "--help"]) == ("way", ["--help"])
    assert split(["way", "jump", "n=3"]) == ("way jump", ["n=3"])
    assert split(["way", "jmp"]) == ("way jmp", [])
    assert split(["theory", "n=3"]) == ("theory n=3", [])


def test_an_option_whose_default_is_a_list_is_typed_with_commas():
    assert {"schemes", "grid_points", "eps"} <= list_options("theory gaussian")
    lists = {"eps", "schemes"}
    assert bracketed("schemes=EM,EI", lists) == "schemes=[EM,EI]"
    assert bracketed("eps=0", lists) == "eps=[0]"
    for word in ("eps=[0,1]", "eps=null", "n=1,2", "eps='a,b'", "eps=${n}"):
        assert bracketed(word, lists) == word


def test_what_a_command_takes_beside_the_others_is_read_from_its_config():
    assert own_options("evaluate") >= {"run", "samples", "first", "noise"}
    assert "run" not in own_options("train") and "resume" in own_options("train")
    assert own_options("theory orders") == set()


@pytest.mark.slow
def test_help_and_lists_survive_python_without_docstrings(tmp_path):
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}

    def run(*words: str) -> str:
        call = [sys.executable, "-OO", "-m", "diffgeo", *words]
        done = subprocess.run(call, cwd=tmp_path, env=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "ddpm " in run("theory", "convergence", "list")
    assert run("theory", "gamma", "--help").startswith("diffgeo theory gamma: the best gamma")


def test_words_of_a_list_option():
    known = ("exact", "gaussian")
    assert choices("against", ListConfig(["gaussian", "exact"]), known) == ["gaussian", "exact"]
    assert choices("against", "exact", known) == ["exact"]
    assert choices("against", ListConfig([]), known) == []
    with pytest.raises(UsageError, match=r"^against=exat: did you mean exact\?$"):
        choices("against", ListConfig(["exact", "exat"]), known)
    with pytest.raises(UsageError, match="^against=truth: write some of exact, gaussian$"):
        choices("against", ListConfig(["exact", "truth"]), known)
    with pytest.raises(UsageError, match="against names exact twice"):
        choices("against", ListConfig(["exact", "exact"]), known)


def test_words_of_a_plain_line():
    known = {"n": WHOLE, "steps": COUNTS, "out": PATH, "all": TRUTH}
    found = options("theory x", ["n=3", "steps=5,2,5", "out=a/b", "all=true"], known)
    assert found == {"n": 3, "steps": [2, 5], "out": Path("a/b"), "all": True}
    assert options("data x", ["data.n=3", "n=4"], known, prefix="data.") == {"n": 4}
    for word, message in (
        ("m=3", "theory x has no option m; write n=..., steps=..., out=..., all=..."),
        ("n", "theory x has no option n"),
        ("n=", "n= is empty"),
        ("n=2.5", "n=2.5: write a whole number"),
        ("steps=0", "steps=0: write a whole number, or several"),
        ("all=yes", "all=yes: write true or false"),
    ):
        with pytest.raises(UsageError, match=f"^{message}"):
            options("theory x", [word], known)


def test_figures_are_named_by_their_files():
    assert {"samples", "fields", "trajectories", "loss", "budget"} <= set(names())
    assert chosen(True) == names() and chosen(False) == []
    assert chosen(["loss", "samples"]) == ["loss", "samples"]
    for name in names():
        module = figure(name)
        assert len(inspect.signature(module.draw).parameters) == 2 and module.__doc__
        assert len(inspect.signature(module.shows).parameters) == 1
    with pytest.raises(UsageError, match=r"figures=bars: there is no such figure; `diffgeo help f"):
        chosen(["samples", "bars"])
    with pytest.raises(UsageError, match=r"figures=smaples: .* figure: did you mean samples\?"):
        chosen(["smaples"])


SMALL = ("model=exact", "data=circle", "n=20", "sampler.steps=3")


def test_only_the_figures_that_are_asked_for_are_drawn(inside, tmp_path):
    done = inside(
        "sample", *SMALL, "metrics=none", "figures=[samples,denoised]", "hydra.run.dir=run"
    )
    assert done.returncode == 0 and "figures=denoised: this run has nothing for it" in done.stdout
    assert [path.name for path in (tmp_path / "run/figures").iterdir()] == ["samples.png"]
    refused = inside("sample", *SMALL, "figures=[bars]", "hydra.run.dir=other")
    assert refused.returncode == 2 and "figures=bars: there is no such figure" in refused.line
    assert not (tmp_path / "other/config.yaml").exists()


def test_jobs_of_a_sweep_that_are_alike_each_run(inside, tmp_path):
    """The second used to die with "read-only config", and the rest of the sweep with it."""
    done = inside("sample", "-m", *SMALL, "metrics=quick", "seed=0,0", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    one, two = (np.load(tmp_path / "sweep" / job / "samples.npy") for job in "01")
    assert np.array_equal(one, two)


def test_a_figure_that_fails_is_named(inside, monkeypatch):
    monkeypatch.setattr("diffgeo.plot.samples", lambda *given: 1 / 0)
    done = inside("sample", *SMALL, "metrics=none", "figures=[samples]")
    assert done.returncode == 1
    assert "figures=samples could not be drawn: ZeroDivisionError: division by zero" in done.line


def test_a_class_that_there_is_not_is_one_line(inside):
    done = inside("sample", *SMALL, "sampler._target_=diffgeo.sampler.Nothing")
    assert done.returncode == 2
    assert "sampler._target_=diffgeo.sampler.Nothing: there is no such class" in done.line
    none = inside("sample", *SMALL, "~sampler.schedule")
    assert none.returncode == 2 and "sampler.schedule= is not set" in none.line
