"""Explicit lists and planned ones: what is read is the grid, and what cannot be read is refused in
one line."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from diffgeo.errors import UsageError
from diffgeo.schedule.listed import Levels, Planned


def draws(schedule, n=20_000):
    sigma = schedule.draw(n, torch.Generator().manual_seed(0))
    assert sigma.dtype == torch.float64 and sigma.shape == (n,)
    return sigma


def written(folder, name, text):
    (folder / name).write_text(text)
    return str(folder / name)


def test_an_explicit_list_is_the_grid(tmp_path):
    sigmas = (80.0, 9.5, 1.25, 0.002, 0.0)
    np.save(tmp_path / "levels.npy", np.array(sigmas))
    files = [
        written(tmp_path, "levels.json", json.dumps(sigmas)),
        written(tmp_path, "levels.txt", "80 9.5, 1.25\n0.002\n0\n"),
        str(tmp_path / "levels.npy"),
    ]
    for levels in (
        Levels(sigmas=[80, 9.5, 1.25, 0.002, 0]),
        *(Levels(file=file) for file in files),
    ):
        assert (
            levels.grid(4).tolist() == levels.grid(None).tolist() == list(sigmas)
            and levels.grid(4).dtype == torch.float64
        )
        assert (levels.t_min, levels.t_max) == (0.002, 80)
    assert Levels(sigmas=[2.0, 1.0]) == Levels(sigmas=(2, 1)) != Levels(sigmas=[2, 1.5]) and hash(
        Levels(sigmas=[2, 1])
    )


def test_an_explicit_list_draws_its_positive_levels_equally_often():
    values, counts = draws(Levels(sigmas=[80, 9, 1, 0.1, 0])).unique(return_counts=True)
    assert values.tolist() == [0.1, 1, 9, 80] and stats.chisquare(counts.numpy()).pvalue > 1e-3


PLANNED = {"levels": {"1": [80, 0.5], "3": [80, 7, 2, 0.5]}, "cost": {"1": 3.0, "3": 1.0}}


def test_a_plan_gives_the_list_for_the_number_of_steps(tmp_path):
    plan = Planned(file=written(tmp_path, "gits.json", json.dumps(PLANNED)))
    assert plan.grid(1).tolist() == [80, 0.5] and plan.grid(3).tolist() == [80, 7, 2, 0.5]
    assert draws(plan).unique().tolist() == [0.5, 2, 7, 80]
    for steps_ in (2, None):
        with pytest.raises(UsageError, match="1, 3 steps; write steps=3"):
            plan.grid(steps_)


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "no planned levels"),
        ("[80, 1]", "no planned levels"),
        ('{"levels": {}}', "damaged"),
        ('{"levels": {"2": [80, 1]}}', "as its steps say"),
        ('{"levels": {"1": [1, 80]}}', "levels.1.*decrease"),
    ],
)
def test_a_damaged_plan_is_refused(tmp_path, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        Planned(file=written(tmp_path, "gits.json", text))
    assert "\n" not in str(caught.value) and "write" in str(caught.value)


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"a": 1}', "not one list of numbers"),
        ("a.json", "3", "not one list of numbers"),
        ("a.txt", "1 x", "not one list of numbers"),
        ("a.npy", "junk", "cannot be read"),
        ("a.md", "1", ".json, .npy, .txt"),
        ("a.txt", "1 2", "decrease"),
        ("a.txt", "1", "two or more"),
        ("a.json", "[Infinity, 1]", "decrease"),
        ("a.json", "[2, NaN]", "decrease"),
        ("a.json", "[2, -1]", "decrease"),
        ("a.json", "[2, 0, 0]", "levels 1 and 2, are 0.0, 0.0"),
        ("a.json", "[5, 5, 1]", "levels 0 and 1, are 5.0, 5.0"),
        ("a.json", "[]", "0 levels: write two or more"),
        ("a.txt", "", "0 levels: write two or more"),
        ("a.txt", "nan 1", "level 0, is nan"),
        # what Python would iterate: digits, keys, truth values
        ("a.json", '"810"', "not one list of numbers"),
        ("a.json", '{"3": 1, "1": 2}', "not one list of numbers"),
        ("a.json", "[true, false]", "true or false"),
        ("a.json", "[1e999, 1]", "level 0, is inf"),
        ("a.json", f"[1{'0' * 400}, 1]", "not one list of numbers"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.npy", "", "cannot be read"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, name, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        Levels(file=written(tmp_path, name, text))
    assert "\n" not in str(caught.value) and "write" in str(caught.value)


def test_arrays_that_are_no_list_are_refused(tmp_path):
    np.save(tmp_path / "square.npy", np.eye(3))
    np.save(tmp_path / "one.npy", np.float64(3))
    np.savez(tmp_path / "a.npz", np.ones(3))
    (tmp_path / "a.npz").rename(tmp_path / "archive.npy")
    whole = tmp_path / "whole.npy"
    np.save(whole, np.arange(9.0, 0.0, -1.0))
    # a header that claims 10^12 levels, and 72 bytes of them
    claim = whole.read_bytes().replace(b"(9,), }            ", b"(1000000000000,), }")
    assert b"1000000000000" in claim
    (tmp_path / "claim.npy").write_bytes(claim)
    says = {
        "square": "not one list of numbers",
        "one": "not one list of numbers",
        "archive": "cannot be read: it is an .npz archive",
        "claim": "cannot be read",
    }
    for name, why in says.items():
        with pytest.raises(UsageError, match=why):
            Levels(file=str(tmp_path / f"{name}.npy"))


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Levels(), "schedule.sigmas="),
        (lambda: Levels(sigmas=[1, 0], file="x.json"), "schedule.sigmas="),
        (lambda: Levels(file="absent.json"), "no such file"),
        (lambda: Levels(sigmas=[2, 1, 0]).grid(5), "steps=5.*2 steps; write steps=2 or steps=null"),
        (lambda: Planned(), "diffgeo theory gits"),
        (lambda: Planned(file="absent.json"), "no such file"),
    ],
)
def test_bad_options_say_what_to_write(make, says):
    with pytest.raises(UsageError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
