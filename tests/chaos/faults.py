"""What goes wrong with files: every kind that we write, the line that reads it, and three kinds of
damage to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from forks import Done, Forks, content
from inputs import IMAGES
from kills import furnish

FOLDER = "data.path=pictures data.size=8 data.root=roots"
SAMPLED = "n=12 batch=4 sampler=euler sampler.steps=2 metrics=images_quick figures=false"
CACHE = "cache"  # of the place, so that its files are damaged and not those of others


class Kind(NamedTuple):
    """file: a pattern of files that we write, the first of which is damaged.
    line: what reads it.    result: the folder in which that ends."""

    file: str
    line: str
    result: str = "made"


RUN = "run=run n=20 sampler.steps=3 metrics=quick figures=false hydra.run.dir=made"
DIGITS = f"sample {IMAGES} hydra.run.dir=made"
KINDS = [
    Kind("stopped/checkpoint/state.safetensors", "train resume=stopped", "stopped"),
    Kind("stopped/checkpoint/model.safetensors", "train resume=stopped", "stopped"),
    Kind("stopped/checkpoint/clock.json", "train resume=stopped", "stopped"),
    Kind("stopped/metrics.jsonl", "train resume=stopped", "stopped"),
    Kind("stopped/overrides.yaml", "train resume=stopped", "stopped"),
    Kind("stopped/config.yaml", "train resume=stopped", "stopped"),
    Kind("run/checkpoint/model.safetensors", f"sample {RUN}"),
    Kind("run/config.yaml", f"sample {RUN}"),
    Kind("run/overrides.yaml", f"sample {RUN}"),
    Kind("run/provenance.json", f"sample {RUN}"),
    Kind("run/samples.npy", "evaluate run=run metrics=quick figures=false hydra.run.dir=made"),
    Kind("run/metrics.json", "compare run", "run"),
    Kind("killed/shards/*.safetensors", f"sample {IMAGES} hydra.run.dir=killed", "killed"),
    Kind(
        "told/labels.npy", "evaluate run=told metrics=images_quick figures=false hydra.run.dir=made"
    ),
    Kind(
        "told/samples.npy",
        "evaluate run=told metrics=images_quick figures=false hydra.run.dir=made",
    ),
    Kind("told/fid.json", "compare told", "told"),
    Kind(
        "roots/*/train_images.npy",
        f"sample data=folder {FOLDER} model=exact {SAMPLED} hydra.run.dir=made",
    ),
    Kind(
        "roots/*/manifest.json",
        f"sample data=folder {FOLDER} model=exact {SAMPLED} hydra.run.dir=made",
    ),
    Kind("pictures/*.png", f"sample data=folder {FOLDER} model=exact {SAMPLED} hydra.run.dir=made"),
    Kind("cache/statistics/*", DIGITS),
    Kind(
        "cache/floors/*",
        "evaluate samples=cloud.csv data=circle figures=false metrics.pairs=2 hydra.run.dir=made",
    ),
    Kind(
        "cache/hashes.json", f"sample data=folder {FOLDER} model=exact {SAMPLED} hydra.run.dir=made"
    ),
    Kind(
        "cloud.csv",
        "evaluate samples=cloud.csv data=circle metrics=quick figures=false hydra.run.dir=made",
    ),
]


def furnished(forks: Forks, inputs: Path, kind: Kind, place: Path) -> Path:
    """A place in which the file of this kind lies, and what its line reads beside it."""
    furnish(place)
    part = kind.file.partition("/")[0]
    if part in ("run", "stopped"):
        shutil.copytree(inputs / "run", place / part)
    if part == "stopped":
        for name in ("metrics.json", "samples.npy", "provenance.json"):
            (place / part / name).unlink()
    if part == "told":
        shutil.copytree(inputs / "images", place / part)
    if part == "killed":
        killed = forks.run(f"sample {IMAGES} hydra.run.dir=killed", place, deadly=30)
        assert killed.status == -9 and list((place / "killed" / "shards").iterdir()), killed.told
    if "cloud.csv" in kind.line:
        np.savetxt(place / "cloud.csv", np.load(inputs / "cloud.npy"), delimiter=",")
    if "roots" in kind.line:
        forks.good(f"data prepare folder {FOLDER}", place, DIFFGEO_CACHE=str(place / CACHE))
    if part == CACHE:
        forks.good(kind.line, place, DIFFGEO_CACHE=str(place / CACHE))
        shutil.rmtree(place / kind.result)
    return place


def found(place: Path, kind: Kind) -> Path:
    files = sorted(path for path in place.glob(kind.file) if path.is_file())
    assert files, f"nobody writes {kind.file}"
    return files[0]


# The three kinds of damage.


def removed(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flipped(path: Path) -> None:
    """One bit of a byte near the end: the lowest of a number, and the highest of a text, which is
    then none. (A digit that became another digit is a text like any other.)"""
    held = bytearray(path.read_bytes())
    place = len(held) * 9 // 10
    held[place] ^= 0x80 if is_text(bytes(held)) else 0x01
    path.write_bytes(held)


def is_text(held: bytes) -> bool:
    try:
        held.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in held


DAMAGES: dict[str, Callable[[Path], None]] = {
    made.__name__: made for made in (removed, truncated, flipped)
}


def outcome(done: Done, kind: Kind, place: Path, right: Callable[[], dict[str, bytes]]) -> None:
    """Raise AssertionError unless a line ended in the right bytes, or in one line that says why it
    did not. What is only lost, and is said to be by the name of its file, is not wrong."""
    if done.status:
        assert done.status in (1, 2) and done.complaint, done.told
        return
    made = content(place / kind.result)
    name = Path(kind.file).name
    lost = {name} if name in done.err or done.line.startswith("compare") else set()
    wanted = {path: held for path, held in right().items() if path not in lost}
    wrong = [path for path in wanted if made.get(path) != wanted[path]]
    assert not wrong, f"wrong without a word: {wrong}\n{done.told}"
