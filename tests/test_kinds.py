"""The values of a config against the annotations of what it names: every kind, both ways, and that
every config of the package passes."""

import math
import re
from collections.abc import Callable, Sequence

import pytest
from omegaconf import OmegaConf
from torch import Tensor

from diffgeo.config.build import build
from diffgeo.config.kinds import check, hints, numbers, plain, wrong
from diffgeo.core import Schedule
from diffgeo.errors import UsageError
from diffgeo.sampler import DEIS, UniPC
from diffgeo.schedule import VP
from diffgeo.schedule.spacing import Power

NODE = OmegaConf.create({"_target_": "diffgeo.schedule.VP"})
LIST = OmegaConf.create([0.5, 2])
LISTS = OmegaConf.create([[0.5, 2], [1]])
EMPTY = OmegaConf.create([])
WORDS = OmegaConf.create(["a", "b"])
NUMBER = "a number"
WHOLE = "a whole number"
FLAG = "true or false"
WORD = "a word"
BUILT = "a node with a _target_"


@pytest.mark.parametrize(
    "hint, good, bad, says",
    [
        (
            float,
            [0, 2, -1.5, math.inf, 1e-320],
            [True, "abc", "1", None, math.nan, 1e200, [1.0], NODE],
            NUMBER,
        ),
        (int, [0, -3, 10**9], [2.0, 1.5, False, "3", None, 10**9 + 1], WHOLE),
        (bool, [True, False], [0, 1, "maybe", "true", None], FLAG),
        (str, ["", "bh2"], [3, True, None, ["a"]], WORD),
        (float | None, [None, 1], ["abc", True], f"{NUMBER} or null"),
        (Schedule, [NODE], ["vp", 3, None, OmegaConf.create({"t_min": 1})], BUILT),
        (Callable[[float], float] | None, [NODE, None], ["abc", 1.0], f"{BUILT} or null"),
        (Sequence[float], [LIST, EMPTY], ["abc", None, 3, WORDS], "a list of numbers"),
        (Sequence[int], [EMPTY], [LIST, 3], "a list of whole numbers"),
        (tuple[float, ...] | None, [LIST, None], ["abc", 3], "a list of numbers or null"),
        (tuple[float, float], [LIST], [EMPTY, WORDS, 0.5], "a list of 2 numbers"),
        (Sequence[Sequence[float]] | Tensor, [LISTS], [LIST, 3], "a list of lists of numbers"),
        (Sequence[dict], ["abc", None, 3], [], None),
    ],
    ids=str,
)
def test_kinds(hint, good, bad, says):
    assert [wrong(value, hint) for value in good] == [None] * len(good)
    assert [wrong(value, hint) for value in bad] == [says] * len(bad)


def test_annotations_are_found_through_bases_and_class_methods():
    # points from a base; not the class variables
    assert hints(DEIS) == {"points": int, "interpolation": str, "chart": Schedule}
    through = hints(VP.through)
    # the second goes on to VP by **options
    assert through["sigma_max"] is float and through["to_zero"] is bool


def test_the_line_names_the_option_in_full_its_class_and_what_to_write():
    rho = {"_target_": "diffgeo.schedule.spacing.Rho", "rho": "abc"}
    cfg = OmegaConf.create({"schedule": {"_target_": "diffgeo.schedule.VE", "spacing": rho}})
    with pytest.raises(
        UsageError, match=r"^schedule\.spacing\.rho=abc is not a number; write one for Rho$"
    ):
        build(cfg.schedule)
    cfg.schedule.spacing = {"_target_": "diffgeo.schedule.spacing.Rho", "roh": 7}
    said = "there is no option schedule.spacing.roh: did you mean schedule.spacing.rho?"
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        build(cfg.schedule)
    cfg.schedule.spacing = {"_target_": "diffgeo.schedule.spacing.Roh"}
    unknown = (
        "schedule.spacing._target_=diffgeo.schedule.spacing.Roh: there is no such class or function"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(unknown)}$"):
        build(cfg.schedule)
    cfg.schedule = {
        "_target_": "diffgeo.schedule.VP.through",
        "sigma_min": 1,
        "sigma_max": 2,
        "to_zero": "maybe",
    }
    with pytest.raises(
        UsageError, match=r"^schedule\.to_zero=maybe is not true or false; write one for through$"
    ):
        build(cfg.schedule)


def test_interpolations_lists_and_what_is_handed_on_are_followed():
    cfg = OmegaConf.create(
        {"n": None, "list": [{"_target_": "diffgeo.schedule.spacing.OnGrid", "steps": "${n}"}]}
    )
    with pytest.raises(
        UsageError, match=r"list\[0\]\.steps=null is not a whole number; write one for OnGrid"
    ):
        check(cfg)
    cfg.n = 20
    check(cfg)
    check(OmegaConf.create({"_target_": "diffgeo.data.make", "anything": "abc"}))  # **options
    law = {"_target_": "diffgeo.data.Circle", "_partial_": True}
    with pytest.raises(UsageError, match="data.radius=abc is not a number"):
        check(
            OmegaConf.create(
                {"data": {"_target_": "diffgeo.data.make", "law": law, "radius": "abc"}}
            )
        )


def test_what_is_right_is_built_as_before():
    assert build(
        OmegaConf.create({"_target_": "diffgeo.sampler.UniPC", "points": 2, "corrector": False})
    ) == UniPC(2, corrector=False)
    chart = {
        "_target_": "diffgeo.schedule.VP",
        "spacing": {"_target_": "diffgeo.schedule.spacing.Power", "p": 2},
    }
    assert build(OmegaConf.create({"_target_": "diffgeo.sampler.DEIS", "chart": chart})) == DEIS(
        chart=VP(spacing=Power(2))
    )


def test_plain_numbers():
    assert plain("nu", 2) == 2 and plain("flag", False, bool) is False
    assert numbers("eta", 1) == [1.0] and numbers("eta", OmegaConf.create([0.1, 2])) == [0.1, 2.0]
    for value, says in (
        ("abc", "eta=abc is not a number; write one"),
        (None, "eta=null is not"),
        (True, "eta=true is not"),
    ):
        with pytest.raises(UsageError, match=says):
            numbers("eta", value)
    with pytest.raises(UsageError, match="eta=abc is not a number"):
        numbers("eta", OmegaConf.create([0.1, "abc"]))
    with pytest.raises(UsageError, match=r"eta=\[\] is empty"):
        numbers("eta", OmegaConf.create([]))
