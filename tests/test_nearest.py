"""What a mistyped word is near to: the distance against published values and a second
implementation, and the words that are named."""

from functools import cache
from itertools import product

import pytest

from diffgeo.config.nearest import FEW, advice, did_you_mean, distance, nearest


@cache
def by_recursion(word: str, other: str) -> int:
    """The optimal string alignment distance from its definition (Boytsov 2011), letter by letter
    from the end."""
    if not word or not other:
        return len(word) + len(other)
    ways = [
        by_recursion(word[:-1], other) + 1,
        by_recursion(word, other[:-1]) + 1,
        by_recursion(word[:-1], other[:-1]) + (word[-1] != other[-1]),
    ]
    if len(word) > 1 and len(other) > 1 and word[-1] == other[-2] and word[-2] == other[-1]:
        ways.append(by_recursion(word[:-2], other[:-2]) + 1)
    return min(ways)


# of Levenshtein's (1966), Damerau's (1964) and Boytsov's (2011) papers and textbooks
PUBLISHED = [
    ("kitten", "sitting", 3),
    ("saturday", "sunday", 3),
    ("ca", "abc", 3),  # 2 where a letter may be touched twice
    ("trian", "train", 1),
    ("", "abc", 3),
    ("abc", "abc", 0),
]


@pytest.mark.parametrize("word, other, far", PUBLISHED)
def test_the_distance_is_the_published_one(word, other, far):
    assert distance(word, other) == distance(other, word) == far


def test_the_distance_is_that_of_its_definition_on_every_short_word():
    words = ["".join(letters) for size in range(5) for letters in product("ab", repeat=size)]
    words += ["smapler", "sampler", "setps", "steps", "dpmpp2m", "dpmpp_2m"]
    for word, other in product(words, words):
        assert distance(word, other) == by_recursion(word, other), (word, other)


SAMPLERS = ["ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "euler", "euler_ancestral"]
SAMPLERS += ["gradient_estimation", "heun", "rk4", "rk45", "unipc"]
MEANT = [
    ("trian", ["train", "sample", "evaluate"], ["train"]),
    ("dpmpp2m", SAMPLERS, ["dpmpp_2m", "dpmpp_2s", "dpmpp_2m_sde"]),
    ("DPM++2M", SAMPLERS, ["dpmpp_2m", "dpmpp_2s", "dpmpp_2m_sde"]),
    ("Heun", SAMPLERS, ["heun"]),
    ("gradient", SAMPLERS, ["gradient_estimation"]),
    ("ode", SAMPLERS, []),
    ("x", ["y", "n"], []),
    ("smapler", ["sampler", "samples", "simple"], ["sampler", "samples"]),
    ("trainer.setps", ["trainer.steps", "trainer.eps", "sampler.steps"], ["trainer.steps"]),
    ("trianer.setps", ["trainer.steps", "trainer", "steps"], ["trainer.steps"]),
    ("two_moons", ["moons", "curve"], ["moons"]),
]


@pytest.mark.parametrize("word, known, meant", MEANT, ids=[word for word, _, _ in MEANT])
def test_the_nearest_come_first_and_what_is_far_is_not_named(word, known, meant):
    assert nearest(word, known)[: len(meant)] == meant
    assert bool(nearest(word, known)) == bool(meant)


def test_at_most_three_are_named():
    assert nearest("points9", [f"points{n}" for n in range(9)]) == ["points0", "points1", "points2"]


def test_the_sentence():
    assert did_you_mean(["a"]) == "did you mean a?"
    assert did_you_mean(["a", "b"]) == "did you mean a or b?"
    assert did_you_mean(["a", "b", "c"]) == "did you mean a, b or c?"
    few = ["cem", "score", "v"]
    many = [*few, "edm", "exact", "epsilon", "velocity", "latent", "dit"]
    assert len(many) == FEW + 1
    assert advice("socre", many, "`diffgeo help model`") == ": did you mean score?"
    assert advice("foo", few, "`diffgeo help model`") == "; write one of cem, score, v"
    told = "; `diffgeo help model` lists the 9 that there are"
    assert advice("foo", many, "`diffgeo help model`") == told
