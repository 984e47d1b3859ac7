"""A command that is killed at any moment and typed again ends in the files of one that was left
alone, to the byte, and leaves nothing else."""

import random
import signal

import pytest
from kills import (
    SCENES,
    ask_to_stop,
    kill_at_every_write,
    kill_at_random,
    kill_starting,
    scene,
    undisturbed,
)


@pytest.fixture(scope="session")
def whole(forks, tmp_path_factory):
    """`whole(scene)`: it, undisturbed; run once."""
    known = {}

    def run(told):
        if told.name not in known:
            known[told.name] = undisturbed(forks, told, tmp_path_factory.mktemp("whole"))
        return known[told.name]

    return run


def at_least(name: str, every: int, deaths: int, slow: bool):
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(name, every, deaths, marks=marks, id=f"{name}, one in {every}")


@pytest.mark.parametrize(
    "name, every, deaths",
    [
        at_least("short training", 16, 3, slow=False),
        at_least("points", 1, 9, slow=True),
        at_least("short training", 1, 30, slow=True),
        at_least("shards", 11, 7, slow=True),
        at_least("figures", 1, 15, slow=True),
        at_least("preparing", 1, 8, slow=True),
        at_least("sweep", 8, 8, slow=True),
        at_least("reproduction", 4, 8, slow=True),
    ],
)
def test_death_before_a_write(forks, whole, work, name, every, deaths):
    told = scene(name)
    assert kill_at_every_write(forks, told, work, whole(told), every) >= deaths


@pytest.mark.slow
@pytest.mark.parametrize("told", SCENES, ids=lambda told: told.name)
def test_death_at_random(forks, whole, work, told):
    assert kill_at_random(forks, told, work, whole(told), seed=12) == told.kills


def test_the_kills_are_many():
    assert sum(told.kills for told in SCENES) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["short training", "points"])
def test_death_at_the_start(forks, whole, work, name):
    """In new processes: before Python, while it imports, while it reads configs."""
    told = scene(name)
    dice = random.Random(name)
    seconds = [dice.uniform(0.05, 1.5) for _ in range(5)]
    kill_starting(told, work, forks.home, whole(told), seconds)


STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)]


def stops():
    for number, status in STOPS:
        for name in ("short training", "training", "images of a training", "shards"):
            quick = name == "short training" and number == signal.SIGTERM
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, number, status, id=f"{name}-{number.name}", marks=marks)


@pytest.mark.parametrize("name, number, status", list(stops()))
def test_a_signal_is_answered(forks, whole, work, name, number, status):
    """With its status, and a line that says how to go on."""
    told = scene(name)
    done = ask_to_stop(forks, told, work, whole(told), number)
    assert done.status == status, done.told
    assert "go on" in done.out + done.err or "goes on" in done.out + done.err, done.told
    assert "Traceback" not in done.err, done.told
