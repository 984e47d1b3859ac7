"""The same question has the same answer, to the byte: in batches of another size, in two halves, in
another working folder, with another order of Python's sets, on two threads."""

import json
import shutil

import numpy as np
import pytest
from forks import Process, content, fresh
from inputs import IMAGES, POINTS, SMALL

KINDS = {
    "points": f"sample {POINTS} sampler=euler_ancestral",
    "images": f"sample {IMAGES} sampler=dpmpp_sde",
    "training": f"train {SMALL}",
}
slow = pytest.mark.slow


@pytest.fixture(scope="session")
def first(forks, tmp_path_factory):
    """`first(kind)`: the folder in which its line was run first."""
    known = {}

    def run(kind):
        if kind not in known:
            known[kind] = fresh(tmp_path_factory.mktemp("first") / "place")
            forks.good(f"{KINDS[kind]} hydra.run.dir=run", known[kind])
        return known[kind] / "run"

    return run


def numbers(folder) -> dict[str, bytes]:
    """The samples, the metrics, the log and the weights; not what the line was."""
    return content(
        folder, ["provenance.json", "clock.json", "speed.jsonl", "config.yaml", "overrides.yaml"]
    )


def expect_same(ours, theirs) -> None:
    one, other = numbers(ours), numbers(theirs)
    assert "samples.npy" in one and "metrics.json" in one
    assert [name for name in one if one[name] != other.get(name)] == []


@pytest.mark.parametrize(
    "kind, option",
    [
        ("points", "batch=7"),
        pytest.param("images", "batch=3", marks=slow),
        pytest.param("points", "batch=1", marks=slow),
        pytest.param("images", "batch=40", marks=slow),
        pytest.param("points", "threads=2", marks=slow),
        pytest.param("training", "threads=2", marks=slow),
        pytest.param("images", "png=true", marks=slow),
        pytest.param("training", "trainer.checkpoint_every=37", marks=slow),
        pytest.param("training", "logger=jsonl", marks=slow),
    ],
)
def test_how_it_is_computed_does_not_matter(forks, first, work, kind, option):
    """Batches, threads, pictures beside it, when it was saved."""
    whole = first(kind)
    forks.good(f"{KINDS[kind]} {option} hydra.run.dir=run", work)
    shutil.rmtree(work / "run" / "samples", ignore_errors=True)  # of png=true
    expect_same(whole, work / "run")


@slow
def test_a_network_rounds_by_the_batch_and_no_more(forks, first, work):
    """float32 products are summed in another order in a batch of another size."""
    whole = np.load(first("training") / "samples.npy")
    forks.good(f"{KINDS['training']} batch=13 hydra.run.dir=run", work)
    ours = np.load(work / "run" / "samples.npy")
    np.testing.assert_allclose(ours, whole, rtol=0, atol=3e-5 * np.abs(whole).max())
    weights = "checkpoint/model.safetensors"
    assert (work / "run" / weights).read_bytes() == (first("training") / weights).read_bytes()


@pytest.mark.parametrize("kind", ["points", pytest.param("images", marks=slow)])
def test_two_halves_are_the_whole(forks, first, work, kind):
    """Sample i depends on the seed and on i alone."""
    whole = np.load(first(kind) / "samples.npy")
    half = len(whole) // 2
    for start, count in ((0, half), (half, len(whole) - half)):
        forks.good(f"{KINDS[kind]} first={start} n={count} hydra.run.dir=half{start}", work)
    halves = [np.load(work / f"half{start}" / "samples.npy") for start in (0, half)]
    assert np.concatenate(halves).tobytes() == whole.tobytes()


@slow
def test_the_working_folder_does_not_matter(forks, first, work):
    elsewhere = work / "a folder" / "é=1"
    elsewhere.mkdir(parents=True)
    forks.good([*KINDS["points"].split(), "hydra.run.dir=run"], elsewhere)
    expect_same(first("points"), elsewhere / "run")
    there = first("points").parent
    forks.good(f"{KINDS['points']} hydra.run.dir=../again", there)
    expect_same(first("points"), there.parent / "again")


@slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_order_of_sets_does_not_matter(forks, first, work, kind, seed):
    """And what a fork of the warm process gives, a new process gives too."""
    line = f"{KINDS[kind]} hydra.run.dir=run"
    done = Process(line, work, forks.home, PYTHONHASHSEED=seed).end()
    assert done.status == 0, done.told
    expect_same(first(kind), work / "run")


@slow
def test_a_sweep_is_its_jobs(forks, first, work):
    """A job of a sweep has the bytes of the same line alone."""
    forks.good(f"{KINDS['training']} -m seed=1,0 hydra.sweep.dir=run", work)
    expect_same(first("training"), work / "run" / "1")
    settings = json.loads((work / "run" / "1" / "provenance.json").read_text())
    assert settings["seed"] == 0
