"""What is killed: scenes, each a command that ends in files, and how often it dies on its way."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

from forks import Done, Forks, Process, Running, content, fresh, leftovers, same
from inputs import IMAGES, POINTS, SMALL


class Scene(NamedTuple):
    """line: what is typed again and again, in a folder of its own.    kills: of the long form.
    again: what goes on from what a kill left, where that is another line; asked only when
    `begun` is there."""

    name: str
    line: str
    kills: int
    again: str = ""
    begun: str = ""


TRAINING = (
    "data=circle model=cem net.width=16 net.depth=1 trainer.batch=128 trainer.steps=800 "
    "trainer.checkpoint_every=100 trainer.log_every=50 trainer.pool=128 n=100 sampler.steps=4 "
    "metrics=quick figures=false hydra.run.dir=run"
)
RESUME = "train resume=run"
STATE = "run/config.yaml"

SCENES = [
    Scene("short training", f"train {SMALL} hydra.run.dir=run", 2, RESUME, STATE),
    Scene("training", f"train {TRAINING}", 12, RESUME, STATE),
    Scene("the same line", f"train {TRAINING}", 4),
    Scene(
        "images of a training",
        "train data=digits net.channels=8 trainer.batch=8 trainer.pool=8 trainer.steps=20 "
        "trainer.checkpoint_every=5 trainer.log_every=5 n=12 batch=2 sampler=euler "
        "sampler.steps=2 metrics=images_quick figures=false hydra.run.dir=run",
        6,
        RESUME,
        STATE,
    ),
    Scene("shards", f"sample {IMAGES} n=160 png=true hydra.run.dir=run", 8),
    Scene("points", f"sample {POINTS} hydra.run.dir=run", 3),
    Scene(
        "metrics",
        "sample model=exact data=circle n=200 sampler.steps=4 metrics.pairs=2 "
        "metrics.transport.n=100 figures=false hydra.run.dir=run",
        3,
    ),
    Scene(
        "figures",
        "sample model=exact data=circle n=100 sampler.steps=4 metrics=quick hydra.run.dir=run",
        4,
    ),
    Scene("sweep", f"train -m {SMALL} seed=0,1,2 hydra.sweep.dir=run", 7),
    Scene("reproduction", "reproduce ge/schedules out=run", 4),
    Scene("preparing", "data prepare folder data.path=pictures data.size=8 data.root=run", 7),
]


def scene(name: str) -> Scene:
    return next(found for found in SCENES if found.name == name)


def furnish(place: Path) -> Path:
    """An empty folder, with what scenes read."""
    import numpy as np
    from PIL import Image

    (fresh(place) / "pictures").mkdir()
    values = np.random.default_rng(0)
    for number in range(60):
        picture = Image.fromarray(values.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        picture.save(place / "pictures" / f"{number:03d}.png")
    return place


class Whole(NamedTuple):
    """A scene that nobody disturbed: what it wrote, and how long it took."""

    files: dict[str, bytes]
    seconds: float


def undisturbed(forks: Forks, told: Scene, place: Path) -> Whole:
    furnish(place)
    began = time.monotonic()
    forks.good(told.line, place)
    seconds = time.monotonic() - began
    assert not leftovers(place), leftovers(place)
    return Whole(content(place), seconds)


def next_line(told: Scene, place: Path) -> str:
    """What to type now."""
    return told.again if told.again and (place / told.begun).exists() else told.line


def check(told: Scene, place: Path, whole: Whole) -> None:
    """Raise AssertionError unless a scene that has ended left what the undisturbed one did."""
    assert not same(content(place), whole.files), (
        f"{told.name}: {same(content(place), whole.files)}"
    )
    assert not leftovers(place), f"{told.name}: {leftovers(place)}"


def to_the_end(forks: Forks, told: Scene, place: Path, whole: Whole) -> None:
    forks.good(next_line(told, place), place)
    check(told, place, whole)


def moments(whole: Whole, count: int, dice: random.Random) -> list[float]:
    """`count` moments spread over the duration of a scene, in a random order."""
    spread = [whole.seconds * (k + dice.random()) / count for k in range(count)]
    dice.shuffle(spread)
    return spread


def kill_at_random(forks: Forks, told: Scene, place: Path, whole: Whole, seed: int) -> int:
    """Kill the scene at random moments and start it again, anew whenever it has ended first, until
    it has died as often as it says; how often it died."""
    dice = random.Random(seed)
    furnish(place)
    died = 0
    while died < told.kills:
        for moment in moments(whole, told.kills - died, dice):
            running = forks.start(next_line(told, place), place)
            time.sleep(moment)
            running.kill()
            done = running.end()
            if done.status == 0:  # it was there before us
                check(told, place, whole)
                furnish(place)
                continue
            assert done.status == -signal.SIGKILL, done.told
            died += 1
    to_the_end(forks, told, place, whole)
    return died


def ask_to_stop(forks: Forks, told: Scene, place: Path, whole: Whole, number: int) -> Done:
    """Begin a scene, send it a signal that can be answered, and go on to its end; the answer. Where
    it has ended before the signal, it is sent earlier."""
    wait = 0.2 * whole.seconds
    while True:
        furnish(place)
        running = forks.start(told.line, place)
        when(running, place / "run" / "config.yaml")
        time.sleep(wait)
        running.kill(number)
        done = running.end()
        if done.status or wait < 1e-3:
            break
        wait /= 3
    assert not [name for name in leftovers(place) if "shards" not in name], leftovers(place)
    to_the_end(forks, told, place, whole)
    return done


def kill_at_every_write(
    forks: Forks, told: Scene, place: Path, whole: Whole, every: int = 1
) -> int:
    """Die right before the first call that changes the disk, go on, die before the second (or the
    one `every` later), ... until the scene ends before its turn; how often it died."""
    furnish(place)
    died = 0
    while True:
        done = forks.run(next_line(told, place), place, deadly=1 + died * every)
        if done.status == 0:
            break
        assert done.status == -signal.SIGKILL, done.told
        died += 1
    check(told, place, whole)
    return died


def kill_starting(told: Scene, place: Path, home: Path, whole: Whole, seconds: list[float]) -> None:
    """Kill new processes within their first seconds, then go on to the end in one more."""
    furnish(place)
    for moment in seconds:
        process = Process(next_line(told, place), place, home)
        time.sleep(moment)
        process.kill()
        done = process.end()
        assert done.status == -signal.SIGKILL, done.told
    done = Process(next_line(told, place), place, home).end()
    assert done.status == 0, done.told
    check(told, place, whole)


def when(running: Running, path: Path, seconds: float = 60.0) -> None:
    """Wait until a running line has written a file."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{running.line}: {path} did not come"
        time.sleep(0.005)
