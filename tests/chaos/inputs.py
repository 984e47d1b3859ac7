"""The files and runs that lines are given: good ones, and bad ones of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from forks import Forks
from PIL import Image

# a training of half a second, with a log, three checkpoints and few samples
SMALL = (
    "data=circle model=epsilon net.width=8 net.depth=1 trainer.pool=64 trainer.batch=64 "
    "trainer.steps=300 trainer.checkpoint_every=100 trainer.log_every=50 n=50 sampler.steps=4 "
    "metrics=quick figures=false"
)
# samples of images by way of shards, in ten batches
IMAGES = (
    "data=digits model=exact label=all n=40 batch=4 sampler=euler sampler.steps=3 "
    "metrics=images_quick figures=false"
)
# a cloud of points
POINTS = "model=exact data=circle n=50 sampler.steps=4 metrics=quick figures=false"


def make_inputs(forks: Forks, folder: Path) -> Path:
    forks.good(f"train {SMALL} hydra.run.dir=run", folder)
    forks.good(f"sample {IMAGES} hydra.run.dir=images", folder)
    arrays(folder)
    tables(folder)
    pictures(folder)
    (folder / "file").write_text("a file where a folder should be")
    (folder / "empty").mkdir()
    (folder / "weights.pt").write_bytes(b"\x80\x04not a pickle")
    (folder / "weights.safetensors").write_bytes(b"\xff" * 64)
    (folder / "levels.json").write_text("[1, 2, 3]")
    (folder / "broken.json").write_text("{")
    return folder


def arrays(folder: Path) -> None:
    random = np.random.default_rng(0)
    np.save(folder / "cloud.npy", random.normal(size=(50, 2)))
    np.save(folder / "wide.npy", np.zeros((5, 3)))
    np.save(folder / "half_mask.npy", np.full((8, 8), 0.5))
    np.save(folder / "scalar.npy", np.float64(1))
    np.save(folder / "none.npy", np.zeros((0, 2)))
    np.save(folder / "nan.npy", np.full((5, 2), np.nan))
    np.save(folder / "complex.npy", np.ones((5, 2), complex))
    np.save(folder / "words.npy", np.array([["a", "b"]]))
    np.save(folder / "objects.npy", np.array([[{}, {}]], dtype=object), allow_pickle=True)
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.npy").write_text("not an array")
    (folder / "short.npy").write_bytes((folder / "cloud.npy").read_bytes()[:300])
    (folder / "text.npz").write_text("not an archive")


def tables(folder: Path) -> None:
    (folder / "empty.csv").write_text("")
    (folder / "names.csv").write_text("x,y\n")
    (folder / "half.csv").write_text("1,2\n3,four\n")
    (folder / "first_half.csv").write_text("1,two\n3,4\n")
    (folder / "ragged.csv").write_text("1,2\n3,4,5\n")
    (folder / "latin.csv").write_bytes(b"\xff\xfe1\x00,\x002\x00")
    (folder / "points.csv").write_text("x,y\n1,2\n3,4\n")


def pictures(folder: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("pictures", "sizes", "torn"):
        (folder / name).mkdir()
        for number in range(4):
            Image.fromarray(np.roll(grey, number)).save(folder / name / f"{number}.png")
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(folder / "sizes" / "9.png")
    whole = (folder / "torn" / "0.png").read_bytes()
    (folder / "torn" / "0.png").write_bytes(whole[:40])
